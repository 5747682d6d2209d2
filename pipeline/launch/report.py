"""How a run speaks to a person: errors in one sentence, a banner at the start, a table at the end."""

import errno
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from pipeline.config.schema import Config
from pipeline.dsp.stft_settings import StftSettings
from pipeline.errors import PipelineError
from pipeline.launch.command import train_command
from pipeline.launch.directory import RunDirectory
from pipeline.launch.logs import configure_logging
from pipeline.launch.preemption import RESUME_EXIT_CODE, stop_signals
from pipeline.launch.preflight import Preflight
from pipeline.launch.resources import Resources

_log = logging.getLogger(__name__)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_MEND = "mend the access to it, then start the same command again; checkpoints are intact"
_ACCESS = {
    errno.EACCES: _MEND,
    errno.EPERM: _MEND,
    errno.EROFS: _MEND,
    errno.EISDIR: "a file belongs there: move the folder away, then start the same command again",
    errno.ENAMETOOLONG: "choose a shorter path",
}
"""What helps where a path cannot be used."""


@contextmanager
def plain_errors() -> Iterator[None]:
    """Print a user's error without a traceback and end with exit code 1; defects keep their traceback.

    A full disk and a path that may not be used are a user's errors wherever they are met. An error that follows a
    signal before training is none: the exit that the signal asked for, raised anywhere, has become it on its way.
    """
    try:
        yield
    except BaseException as error:
        if stop_signals.has_ended_start_up:
            raise SystemExit(RESUME_EXIT_CODE) from error
        _tell(error)
        raise


def _tell(error: BaseException) -> None:
    """Print an error that a user can mend and end; return from any other."""
    if isinstance(error, PipelineError):
        _fail(f"{type(error).__name__}: {error}")
    if not isinstance(error, OSError):
        return
    if error.errno in _FULL:
        place = f"{error.filename}: " if error.filename else ""
        _fail(
            f"{place}{error.strerror}; free space on the disk of the run, then start the same command again"
        )
    if error.errno in _ACCESS and error.filename is not None:
        _fail(f"{error.filename}: {error.strerror}; {_ACCESS[error.errno]}")


def _fail(message: str) -> NoReturn:
    if not logging.getLogger("pipeline").handlers:  # nothing of a run has begun
        configure_logging()
    _log.error("%s", message)
    sys.exit(1)


def render(table: Table) -> str:
    """Return a table as text of at most 120 columns."""
    console = Console(width=120, no_color=True)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().rstrip().splitlines())


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
    micro_steps = data.batches_per_epoch(planned.batch_size * planned.world_size)
    trainer = config.trainer
    horizon = {name: getattr(trainer.trainer, name) for name in ("max_epochs", "max_steps", "max_time")}
    schedule = f"{trainer.scheduler.type} {_arguments(trainer.scheduler.config)}"
    schedule = schedule if trainer.scheduler.enabled else "no schedule"
    return {
        "run": f"{config.run.name}, seed {config.trainer.seed}, {config.trainer.precision}",
        "data": [
            f"{_duration(train.hours)} in {len(train.entries)} files for training, "
            f"{_duration(evaluation.hours)} in {len(evaluation.entries)} files held out, "
            f"{len(data.bad_files)} bad files left out",
            f"segments of {config.data.segment_samples / rate:.2f} s, {rate} Hz, {config.data.channels} channel(s)",
        ],
        "model": f"{model.encoder.type}, {model.bottleneck.type}, {num_parameters / 1e6:.2f} M parameters",
        "latents": f"{model.latent_values} values at {rate / hop:.1f} Hz; compression {samples / latent_values:.2f} "
        f"audio samples per latent value ({samples} to {latent_values} a segment)",
        "batch": f"{planned.effective_batch} = {planned.batch_size} x {planned.world_size} process(es) x "
        f"{planned.accumulate} accumulated; {-(-micro_steps // planned.accumulate)} steps per epoch",
        "optimiser": [f"{trainer.optimizer.type} {_arguments(trainer.optimizer.config)}", schedule],
        "horizon": ", ".join(f"{name} {value}" for name, value in horizon.items() if value not in (None, -1))
        or "none",
        "form": str(checked.form),
        "device": f"{planned.world_size} x {'GPU' if planned.use_gpu else 'CPU'}, {strategy_name(checked)}",
        "losses": [f"{loss.family}/{loss.name} x {loss.schedule}" for loss in checked.losses.active]
        + [f"{name} disabled (weight 0)" for name in checked.losses.disabled],
        "written to": [
            str(run.path),
            *([str(run.checkpoints)] if run.checkpoints.parent != run.path else []),
        ],
    }


def strategy_name(checked: Preflight) -> str:
    """Return the strategy that a run takes, with its ZeRO stage."""
    trainer, is_alone = checked.config.trainer, checked.resources.world_size == 1
    if trainer.strategy == "deepspeed":
        return f"strategy deepspeed, ZeRO stage {trainer.deepspeed.stage}"
    return f"strategy {'ddp' if trainer.strategy == 'auto' and not is_alone else trainer.strategy}"


def _duration(hours: float) -> str:
    return f"{hours:.2f} h" if hours >= 1 else f"{60 * hours:.1f} min"


def _arguments(config: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in config.items() if value is not None)


def results(
    initial: Mapping[str, float],
    final: Mapping[str, float],
    best: tuple[str, float] | None,
    initial_name: str,
) -> str:
    """Return the final table: each validation metric before and after training.

    Args:
        initial: metrics of the weights that training began with; may be empty.
        final: metrics at the end.
        best: the monitored metric and its best value.
        initial_name: what the initial weights were: `untrained`, `at start`.
    """
    table = Table(title="validation", title_justify="left")
    for heading in ("metric", *([initial_name] if initial else []), "trained"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for name, value in final.items():
        table.add_row(name, *([f"{initial[name]:.3f}"] if initial else []), f"{value:.3f}")
    text = render(table)
    return f"{text}\nbest {best[0]}: {best[1]:.3f}" if best else text


def out_of_memory_advice(config: Config, resources: Resources, reason: str) -> str:
    """Return what to do when the device's memory is exhausted, with the current values."""
    precision, chunks = config.trainer.precision, config.model.autoencoder.chunk_frames
    lines = [
        f"the device is out of memory ({'. '.join(reason.splitlines()[0].split('. ')[:2])}).",
        f"reduce data.train_dataloader.batch_size (now {resources.batch_size} per process; make largest-batch finds "
        "the largest)",
        f"and keep the effective batch of {resources.effective_batch} with trainer.trainer.accumulate_grad_batches "
        f"(now {resources.accumulate})",
        f"shorten data.segment_frames (now {config.data.segment_frames})",
    ]
    if precision not in ("bf16-mixed", "16-mixed"):
        lines.append(f"set trainer.precision=bf16-mixed (now {precision})")
    if not config.model.autoencoder.activation_checkpointing:
        lines.append("set model.autoencoder.activation_checkpointing=true, for one more forward pass of time")
    if chunks is None or chunks > config.data.segment_frames // 2:
        lines.append(f"take segments in parts with model.autoencoder.chunk_frames (now {chunks or 'null'})")
    return "\n  ".join(lines)


def resume_command(run_dir: Path) -> str:
    """Return the command that continues a run."""
    return train_command(f"run.resume={run_dir}")
