"""How a run speaks to a person: errors in one sentence, a banner at the start, a table at the end."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.config.schema import Config
from pipeline.dsp.stft_settings import StftSettings
from pipeline.errors import PipelineError
from pipeline.launch.directory import RunDirectory
from pipeline.launch.preflight import Preflight
from pipeline.launch.resources import Resources


@contextmanager
def plain_errors() -> Iterator[None]:
    """Print a user's error without a traceback and end with exit code 1; defects keep their traceback."""
    try:
        yield
    except PipelineError as error:
        sys.stdout.flush()
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(1)


def render(table: Table) -> str:
    """Return a table as text of at most 100 columns."""
    console = Console(width=100, no_color=True)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()


def banner(facts: Mapping[str, str | Sequence[str]]) -> str:
    """Return the start banner: one fact a line, further lines of a fact below it."""
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        lines = [value] if isinstance(value, str) else list(value)
        for number, line in enumerate(lines):
            table.add_row("" if number else name, line)
    return render(table)


def describe_run(checked: Preflight, data: Any, num_parameters: int) -> dict[str, str | Sequence[str]]:
    """Return the facts of the start banner.

    Args:
        checked: the checked configuration.
        data: the data module, set up.
        num_parameters: trained real numbers.
    """
    config, model, planned = checked.config, checked.model, checked.resources
    run = RunDirectory.of(config)
    hop = config.data.stft.hop_length * model.time_stride
    frames = StftSettings(**config.data.stft.model_dump()).num_frames(config.data.segment_samples)
    latent_values = -(-frames // model.time_stride) * model.latent_values
    samples = config.data.segment_samples * config.data.channels
    rate = config.data.sample_rate_hz
    train, evaluation = data.train_manifest, data.eval_manifest
    micro_steps = data.steps_per_epoch(planned.batch_size * planned.world_size)
    return {
        "run": f"{config.run.name}, seed {config.trainer.seed}, {config.trainer.precision}",
        "data": [
            f"{train.hours:.2f} h in {len(train.entries)} files for training, "
            f"{evaluation.hours:.2f} h in {len(evaluation.entries)} files held out, "
            f"{len(data.bad_files)} bad files left out",
            f"segments of {config.data.segment_samples / rate:.2f} s, {rate} Hz, {config.data.channels} channel(s)",
        ],
        "model": f"{model.encoder.type}, {model.bottleneck.type}, {num_parameters / 1e6:.2f} M parameters",
        "latents": f"{model.latent_values} values at {rate / hop:.1f} Hz; compression {samples / latent_values:.2f} "
        f"audio samples per latent value ({samples} to {latent_values} a segment)",
        "batch": f"{planned.effective_batch} = {planned.batch_size} x {planned.world_size} process(es) x "
        f"{planned.accumulate} accumulated; {max(1, micro_steps // planned.accumulate)} steps per epoch",
        "device": f"{planned.world_size} x {'GPU' if planned.use_gpu else 'CPU'}, strategy {config.trainer.strategy}",
        "losses": [f"{loss.family}/{loss.name} x {loss.weight:g}" for loss in checked.losses.active]
        + [f"{name} disabled (weight 0)" for name in checked.losses.disabled],
        "written to": [
            str(run.path),
            *([str(run.checkpoints)] if run.checkpoints.parent != run.path else []),
        ],
    }


def results(
    untrained: Mapping[str, float], final: Mapping[str, float], best: tuple[str, float] | None
) -> str:
    """Return the final table: each validation metric of the untrained and the trained model."""
    table = Table(title="validation", title_justify="left")
    for heading in ("metric", "untrained", "trained"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for name, value in final.items():
        table.add_row(name, f"{untrained[name]:.3f}" if name in untrained else "-", f"{value:.3f}")
    text = render(table)
    return f"{text}\nbest {best[0]}: {best[1]:.3f}" if best else text


def out_of_memory_advice(config: Config, resources: Resources, reason: str) -> str:
    """Return what to do when the device's memory is exhausted, with the current values."""
    trainer_settings, segment = config.trainer, config.data.segment_frames
    mixed = trainer_settings.precision in ("bf16-mixed", "16-mixed")
    return (
        f"the device is out of memory ({'. '.join(reason.splitlines()[0].split('. ')[:2])}).\n"
        f"  reduce data.train_dataloader.batch_size (now {resources.batch_size} per process)\n"
        f"  and keep the effective batch of {resources.effective_batch} with trainer.trainer.accumulate_grad_batches "
        f"(now {resources.accumulate})\n"
        f"  shorten data.segment_frames (now {segment})"
        + ("" if mixed else f"\n  set trainer.precision=bf16-mixed (now {trainer_settings.precision})")
    )
