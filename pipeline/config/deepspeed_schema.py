"""Schema of `trainer.deepspeed`: what DeepSpeed shards and how it talks, and the dictionary that DeepSpeed takes."""

from typing import Annotated, Any

from pydantic import BeforeValidator, PositiveInt, field_validator

from pipeline.config.section import PathText, Section

_STAGES = "valid: 1 (shards the optimiser state), 2 (the gradients, too)"
_NO_STAGES = {
    0: "stage 0 shards nothing; trainer.strategy=ddp does the same, and faster",
    3: "stage 3 shards the weights themselves; for models of this size (15 M parameters) that costs an all-gather "
    "for every layer and saves nothing that matters",
}
ZERO = "zero_optimization"


def _whole_number(value: Any) -> Any:
    """DeepSpeed's own examples write 2e8."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Elements = Annotated[PositiveInt, BeforeValidator(_whole_number)]


class DeepSpeedSettings(Section):
    """DeepSpeed's names and meanings; buckets count weights.

    `config` is a DeepSpeed JSON: its path, or what is left of its content once the keys of this block are taken out.
    """

    stage: int
    overlap_comm: bool
    contiguous_gradients: bool
    reduce_scatter: bool
    reduce_bucket_size: Elements
    allgather_bucket_size: Elements
    config: PathText | dict[str, Any] | None

    @field_validator("stage")
    @classmethod
    def _stage(cls, value: int) -> int:
        if value not in (1, 2):
            reason = _NO_STAGES[value] if value in _NO_STAGES else f"there is no stage {value}"
            raise ValueError(f"{reason}; {_STAGES}")
        return value

    @field_validator("allgather_bucket_size")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("DeepSpeed aligns what it sends to pairs; valid: an even number")
        return value


BLOCK_KEYS = tuple(name for name in DeepSpeedSettings.model_fields if name != "config")
"""Keys of DeepSpeed's zero_optimization that the block spells out."""


def deepspeed_config(settings: DeepSpeedSettings) -> dict[str, Any]:
    """Return the configuration that DeepSpeed takes, without batch sizes, clipping and precision.

    Args:
        settings: a settled block, its JSON resolved.
    """
    assert not isinstance(settings.config, str), f"{settings.config} was not resolved"
    passed = dict(settings.config or {})
    zero = {**passed.pop(ZERO, {}), **settings.model_dump(include=set(BLOCK_KEYS))}
    return {ZERO: zero, "zero_allow_untested_optimizer": True, **passed}
