"""The training step, and nothing else."""

from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from pipeline.data.dataset import Batch
from pipeline.evaluation.metrics import MetricSet
from pipeline.losses.composite import CompositeLoss, LossReport
from pipeline.models.autoencoder import AutoencoderOutput, SpectrogramAutoencoder
from pipeline.models.bottleneck.base import Bottleneck
from pipeline.training.ranks.reduction import reduce_over_ranks
from pipeline.training.reproducibility import LatentNoise
from pipeline.training.weight_average import WeightAverage


class AutoencoderModule(pl.LightningModule):
    """One autoencoder, one weighted sum of losses, one optimiser, automatic optimisation.

    Args:
        autoencoder: waveform (B, C, S) -> AutoencoderOutput.
        losses: AutoencoderOutput -> LossReport.
        metrics: validation metrics, right over ranks and an uneven last batch.
        noise: latent noise as a pure function of the global sample position.
        optimizers: parameters -> what Lightning's `configure_optimizers` returns.
        inference: plain description of the model, stored in every checkpoint.
        frozen: parts of the autoencoder that keep their weights.
        averaged: takes the running average of the weights, which is then validated instead of them.
    """

    def __init__(
        self,
        autoencoder: SpectrogramAutoencoder,
        losses: CompositeLoss,
        metrics: MetricSet,
        noise: LatentNoise,
        optimizers: Callable[[list[torch.nn.Parameter]], Any],
        inference: dict[str, Any],
        frozen: Sequence[torch.nn.Module] = (),
        averaged: WeightAverage | None = None,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.losses = losses
        self.metrics = metrics
        self._noise = noise
        self._optimizers = optimizers
        self._inference = inference
        self.averaged = averaged
        self._frozen = tuple(frozen)
        for part in self._frozen:
            part.requires_grad_(False)
        self.report: LossReport | None = None  # of the newest training batch, read by callbacks
        self.validation_metrics: dict[str, float] = {}
        self.initial_metrics: dict[str, float] = {}  # of the weights that training began with
        self.validated_step = -1  # optimiser step that `validation_metrics` belong to
        self._averaged_step = 0
        self.train()

    @property
    def trained_parameters(self) -> list[torch.nn.Parameter]:
        """The weights that training changes."""
        return [weight for weight in self.autoencoder.parameters() if weight.requires_grad]

    @property
    def evaluated(self) -> SpectrogramAutoencoder:
        """The autoencoder that is validated and demonstrated: the averaged one where there is one."""
        if self.averaged is None:
            return self.autoencoder
        network = self.averaged.network
        assert isinstance(network, SpectrogramAutoencoder)
        return network

    @property
    def is_first(self) -> bool:
        """Whether this rank has the first examples of a global batch."""
        return self.global_rank == 0

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all ranks; every rank calls it at the same place."""
        return reduce_over_ranks(values.clone(), "sum")

    def train(self, mode: bool = True) -> "AutoencoderModule":
        """Set the mode; the average and frozen parts stay as they are, but for a bottleneck that samples."""
        super().train(mode)
        for part in (*self._frozen, *([self.averaged] if self.averaged is not None else [])):
            part.eval()
            if isinstance(part, Bottleneck):
                part.training = mode  # its own noise; what it is made of is frozen
        return self

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the weighted sum of the losses of one batch."""
        if self.autoencoder.form.graphs:
            torch.compiler.cudagraph_mark_step_begin()  # what the last step left in the graphs' memory is done with
        output: AutoencoderOutput = self.autoencoder(
            batch.waveform,
            noise=self._noise.at(batch.position, batch.waveform.device),
            mask=self._noise.uniform_at(batch.position, batch.waveform.device),
        )
        self.report = self.losses(output, self.trainer.global_step, self)
        return self.report.total

    def on_before_backward(self, loss: Tensor) -> None:
        """Note the batch's gradient norms: it counts, unlike one that only tries the backward pass."""
        if self.losses.balancer is not None and self.report is not None and self.report.norms is not None:
            self.losses.balancer.note(self.report.norms)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Move the balancer's means, once per step and on every rank."""
        if self.losses.balancer is not None:
            self.losses.balancer.settle(self)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Move the average behind an optimiser step."""
        step = self.trainer.global_step
        if self.averaged is not None and step > self._averaged_step:
            self.averaged.update(self.autoencoder, step - 1)
        self._averaged_step = step

    def on_train_start(self) -> None:
        """Note the step that training goes on from."""
        self._averaged_step = self.trainer.global_step

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one batch to the validation metrics."""
        output: AutoencoderOutput = self.evaluated(batch.waveform)
        self.metrics.update(output.waveform, output.reference_waveform)

    def on_validation_epoch_end(self) -> None:
        """Reduce the metrics over all ranks; every rank takes part."""
        values = self.metrics.compute().values
        self.validation_metrics = {f"val/{name}": float(value) for name, value in values.items()}
        self.metrics.reset()
        if self.trainer.sanity_checking:
            self.initial_metrics = self.validation_metrics
        self.validated_step = self.trainer.global_step
        for name, value in self.validation_metrics.items():
            self.log(name, value, logger=False, sync_dist=True)  # for schedulers; MetricsLog writes it

    def configure_optimizers(self) -> Any:
        """Build the optimiser and scheduler over the trained weights."""
        return self._optimizers(self.trained_parameters)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by norm or by value; Lightning's own refuses fused optimisers even where nothing is scaled."""
        if not gradient_clip_val:
            return
        if gradient_clip_algorithm == "value":
            torch.nn.utils.clip_grad_value_(self.trained_parameters, gradient_clip_val)
        else:
            torch.nn.utils.clip_grad_norm_(self.trained_parameters, gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Embed all that inference needs, and the newest validation, as plain data."""
        checkpoint["inference"] = self._inference
        checkpoint["form"] = str(self.autoencoder.form)
        checkpoint["validation"] = {
            "initial": self.initial_metrics,
            "newest": self.validation_metrics,
            "step": self.validated_step,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the newest validation: one that is behind is not repeated."""
        validation = checkpoint["validation"]
        self.initial_metrics = dict(validation["initial"])
        self.validation_metrics = dict(validation["newest"])
        self.validated_step = int(validation["step"])
