"""A DeepSpeed JSON: read, checked key by key, and taken up into the `trainer.deepspeed` block of a run.

A run keeps the settings themselves, so that resuming it needs no file. What another key of ours owns is refused
with the owner's name, unless it says `auto` or that it is off.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt, TypeAdapter, ValidationError

from pipeline.config.deepspeed_schema import BLOCK_KEYS, ZERO, DeepSpeedSettings
from pipeline.config.registry import explain, suggest
from pipeline.errors import ConfigError

_WHERE = "trainer.deepspeed"

# Passed to DeepSpeed as they are.
_PASSED = {
    "communication_data_type": Literal["fp32"],  # bf16 rounds what the ranks exchange
    "steps_per_print": PositiveInt,
    "wall_clock_breakdown": bool,
    "memory_breakdown": bool,
    "dump_state": bool,
}
_ZERO_PASSED = {
    "allgather_partitions": bool,
    "use_multi_rank_bucket_allreduce": bool,
    "ignore_unused_parameters": bool,
}

_BATCH = "set data.train_dataloader.batch_size (per process) or trainer.global_batch_size (over all)"
_AVERAGE = "gradients are averaged alike under every strategy; leave it out"
_ORDER = "the program owns the sample order, equal on any number of processes; leave it out"
_OWN_CHECKPOINTS = (
    "checkpoints are the program's own, see trainer.trainer.save_top_k and ckpt_dir; leave it out"
)
_OWNED = {
    "train_batch_size": _BATCH,
    "train_micro_batch_size_per_gpu": _BATCH,
    "gradient_accumulation_steps": "set it with trainer.trainer.accumulate_grad_batches",
    "gradient_clipping": "set it with trainer.trainer.gradient_clip_val",
    "optimizer": "set it with trainer.optimizer",
    "scheduler": "set it with trainer.scheduler",
    **dict.fromkeys(
        ("fp16", "bf16", "bfloat16", "amp", "torch_autocast", "data_types"), "set it with trainer.precision"
    ),
    **dict.fromkeys(("tensorboard", "wandb", "csv_monitor", "comet"), "set it with trainer.logger"),
    **dict.fromkeys(("prescale_gradients", "gradient_predivide_factor", "gradient_allreduce_op"), _AVERAGE),
    **dict.fromkeys(("data_efficiency", "curriculum_learning", "dataloader_drop_last"), _ORDER),
    **dict.fromkeys(
        ("flops_profiler", "comms_logger"), "profiles are written by trainer.trainer.profile; leave it out"
    ),
    "checkpoint": _OWN_CHECKPOINTS,
    "activation_checkpointing": "set it with model.autoencoder.activation_checkpointing",
    "zero_allow_untested_optimizer": "every optimiser that trainer.optimizer accepts is tested; leave it out",
}
_OFFLOAD = (
    "offloading is not supported: a model of 15 M parameters leaves the host's memory nothing to save, and every step "
    "would wait for the host; leave it out"
)
_LAYOUT = "checkpoints need the weights in their plain order; leave it out"
_STAGE_3 = "it belongs to stage 3; leave it out"
_ROUNDED = "it rounds what the ranks exchange, and a run would end with other weights; leave it out"
_ZERO_REFUSED = {
    **dict.fromkeys(
        (
            "offload_param",
            "offload_optimizer",
            "cpu_offload",
            "cpu_offload_param",
            "cpu_offload_use_pin_memory",
            "zenflow",
        ),
        _OFFLOAD,
    ),
    **dict.fromkeys(("round_robin_gradients", "parameter_alignment"), _LAYOUT),
    **dict.fromkeys(("elastic_checkpoint", "load_from_fp32_weights", "legacy_stage1"), _OWN_CHECKPOINTS),
    **dict.fromkeys(
        ("zero_quantized_weights", "zero_quantized_gradients", "zero_quantized_nontrainable_weights"),
        _ROUNDED,
    ),
    **dict.fromkeys(("sub_group_size", "zero_hpz_partition_size", "memory_efficient_linear"), _STAGE_3),
    "compute_grad_norm": "train/grad_norm is always logged; leave it out",
}
_STAGE_3_PREFIX = "stage3_"
# Values that ask for nothing, beside false, null, "auto" and switched-off blocks.
_NOTHING_ASKED = {
    "compute_grad_norm": True,
    "load_from_fp32_weights": True,
    "memory_efficient_linear": True,
    "zero_allow_untested_optimizer": True,
    "gradient_predivide_factor": 1.0,
    "gradient_allreduce_op": "mean",
}


def resolve(
    settings: DeepSpeedSettings, shipped: Mapping[str, Any], given: Iterable[str]
) -> DeepSpeedSettings:
    """Take a DeepSpeed JSON up into the block: its own keys are set, the rest of the content stays in `config`.

    Args:
        settings: the composed block.
        shipped: the block as `conf/` ships it.
        given: dotted keys that the user wrote.

    Raises:
        ConfigError: an unreadable file, a key that is unknown, unsupported or owned by another key, or a value that
            contradicts the block.
    """
    if settings.config is None:
        return settings
    is_path = isinstance(settings.config, str)
    where = f"{_WHERE}.config={settings.config}: " if is_path else f"{_WHERE}.config."
    content = _read(settings.config, where) if isinstance(settings.config, str) else settings.config
    zero = content[ZERO] if ZERO in content else {}
    if not isinstance(zero, dict):
        raise ConfigError(f"{where}{ZERO}={zero!r}: a block of keys is expected here, like {{stage: 2}}")
    outer = {key: value for key, value in content.items() if key != ZERO}
    passed = _check(outer, where, _PASSED, _OWNED, (ZERO, *_PASSED))
    inner = {key: value for key, value in zero.items() if key not in BLOCK_KEYS}
    kept = _check(inner, f"{where}{ZERO}.", _ZERO_PASSED, _ZERO_REFUSED, (*BLOCK_KEYS, *_ZERO_PASSED))
    block = {key: value for key, value in zero.items() if key in BLOCK_KEYS and value != "auto"}
    block = _check_block(settings, block, f"{where}{ZERO}.")
    _refuse_contradictions(settings, block, shipped, frozenset(given), f"{where}{ZERO}.")
    rest = {**passed, ZERO: kept} if kept else passed
    return settings.model_copy(update={**block, "config": rest or None})


def _read(path: str, where: str) -> dict[str, Any]:
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{where}no such file; valid: the path of a DeepSpeed JSON, or null") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"{where}cannot be read ({reason}); valid: the path of a DeepSpeed JSON") from None
    try:
        content = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}is no valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise ConfigError(
            f"{where}holds no block of keys; a DeepSpeed JSON looks like " + '{"' + ZERO + '": {}}'
        )
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is given twice")
    return dict(pairs)


def _check(
    block: Mapping[str, Any],
    where: str,
    passed: Mapping[str, Any],
    refused: Mapping[str, str],
    valid: Iterable[str],
) -> dict[str, Any]:
    """Return what is passed on; `where` leads the name of a key in messages."""
    kept = {}
    for key, value in block.items():
        if key in passed:
            if value != "auto":
                kept[key] = _typed(value, passed[key], f"{where}{key}")
        elif key in refused or key.startswith(_STAGE_3_PREFIX):
            if not _asks_for_nothing(key, value):
                raise ConfigError(f"{where}{key}: {refused[key] if key in refused else _STAGE_3}")
        else:
            raise ConfigError(f"{where}{key}: unknown or unsupported key; {suggest(key, valid)}")
    return kept


def _typed(value: Any, annotation: Any, where: str) -> Any:
    try:
        return TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        raise ConfigError(f"{where}={value!r}: {explain(error)}") from None


def _asks_for_nothing(key: str, value: Any) -> bool:
    if isinstance(value, dict):
        off = {"enabled": (False, "auto"), "device": ("none", None)}
        return any(name in value and value[name] in values for name, values in off.items())
    return value in (None, False, "auto") or (key in _NOTHING_ASKED and value == _NOTHING_ASKED[key])


def _check_block(settings: DeepSpeedSettings, block: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the values with the block's own types."""
    try:
        checked = DeepSpeedSettings.model_validate({**settings.model_dump(), **block})
    except ValidationError as error:
        first = error.errors()[0]
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"{where}{first['loc'][0]}={first['input']!r}: {reason}") from None
    return {key: getattr(checked, key) for key in block}


def _refuse_contradictions(
    settings: DeepSpeedSettings,
    block: Mapping[str, Any],
    shipped: Mapping[str, Any],
    given: frozenset[str],
    where: str,
) -> None:
    for key, value in block.items():
        ours = getattr(settings, key)
        if ours != value and (f"{_WHERE}.{key}" in given or ours != shipped[key]):
            raise ConfigError(
                f"{_WHERE}.{key}={ours} contradicts {where}{key}={value}; valid: give one of them, or the same "
                "value to both"
            )
