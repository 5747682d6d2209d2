"""The training step, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from pipeline.data.dataset import Batch
from pipeline.evaluation.metrics import MetricSet
from pipeline.losses.composite import CompositeLoss, LossReport
from pipeline.models.autoencoder import AutoencoderOutput, SpectrogramAutoencoder
from pipeline.training.reproducibility import LatentNoise


class AutoencoderModule(pl.LightningModule):
    """One autoencoder, one weighted sum of losses, one optimiser, automatic optimisation.

    Args:
        autoencoder: waveform (B, C, S) -> AutoencoderOutput.
        losses: AutoencoderOutput -> LossReport.
        metrics: validation metrics, right over ranks and an uneven last batch.
        noise: latent noise as a pure function of the global sample position.
        optimizers: parameters -> what Lightning's `configure_optimizers` returns.
        inference: plain description of the model, stored in every checkpoint.
    """

    def __init__(
        self,
        autoencoder: SpectrogramAutoencoder,
        losses: CompositeLoss,
        metrics: MetricSet,
        noise: LatentNoise,
        optimizers: Callable[[list[torch.nn.Parameter]], Any],
        inference: dict[str, Any],
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.losses = losses
        self.metrics = metrics
        self._noise = noise
        self._optimizers = optimizers
        self._inference = inference
        self.report: LossReport | None = None  # of the newest training batch, read by callbacks
        self.validation_metrics: dict[str, float] = {}
        self.initial_metrics: dict[str, float] = {}  # of the weights that training began with
        self.validated_step = -1  # optimiser step that `validation_metrics` belong to

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the weighted sum of the losses of one batch."""
        output: AutoencoderOutput = self.autoencoder(batch.waveform, noise=self._noise.at(batch.position))
        self.report = self.losses(output, self.trainer.global_step)
        return self.report.total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one batch to the validation metrics."""
        output: AutoencoderOutput = self.autoencoder(batch.waveform)
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
        """Build the optimiser and scheduler over all parameters."""
        return self._optimizers(list(self.autoencoder.parameters()))

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
            torch.nn.utils.clip_grad_value_(self.autoencoder.parameters(), gradient_clip_val)
        else:
            torch.nn.utils.clip_grad_norm_(self.autoencoder.parameters(), gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Embed all that inference needs, and the newest validation, as plain data."""
        checkpoint["inference"] = self._inference
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
