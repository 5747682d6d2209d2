"""What `trainer.eval_loss_config` asks for, checked without torch."""

from collections.abc import Mapping
from typing import Any

from pipeline.config.registry import check_arguments, suggest
from pipeline.dsp.stft_settings import StftSettings
from pipeline.errors import ConfigError
from pipeline.evaluation import METRICS
from pipeline.losses.resolutions import require_mel_bands

ROOT = "trainer.eval_loss_config"


def plan_metrics(
    eval_loss_config: Mapping[str, Mapping[str, Any] | None], sample_rate_hz: int, where: str = ROOT
) -> dict[str, dict[str, Any]]:
    """Check `trainer.eval_loss_config`; each entry holds the arguments of one metric.

    Args:
        eval_loss_config: `<metric>.<argument>`; an empty entry takes the defaults.
        sample_rate_hz: of the data.
        where: full configuration path of `eval_loss_config`, for messages.

    Returns:
        Metric name -> every argument that YAML may set, defaults filled in.

    Raises:
        ConfigError: an unknown metric or argument, sizes that make no STFT, or a sample rate that is not the
            data's.
    """
    plan = {}
    for name, config in eval_loss_config.items():
        if name not in METRICS:
            raise ConfigError(f"{where}.{name}: unknown metric; {suggest(name, METRICS)}")
        plan[name] = check_arguments(METRICS[name], config or {}, f"{where}.{name}")
        if "fft_size" in plan[name]:
            try:
                check_spectral_metric(plan[name], sample_rate_hz)
            except ConfigError as error:
                raise ConfigError(f"{where}.{name}.{error}") from None
    return plan


def check_spectral_metric(config: Mapping[str, Any], sample_rate_hz: int) -> None:
    """Check the arguments of a metric on spectrograms against each other and against the data.

    Raises:
        ConfigError: as `plan_metrics`; the message starts with the argument's name.
    """
    if config["sample_rate"] not in (None, sample_rate_hz):
        raise ConfigError(
            f"sample_rate={config['sample_rate']} differs from data.sample_rate_hz={sample_rate_hz}; "
            "leave it out, or make them equal"
        )
    try:
        stft = StftSettings(config["fft_size"], config["hop_size"], config["win_length"])
    except ConfigError as error:
        raise ConfigError(f"fft_size, hop_size, win_length: {error}") from None
    if "n_mels" in config:
        require_mel_bands(config["n_mels"], stft)
