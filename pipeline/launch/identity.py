"""What makes two configurations different runs, and what a run may change without becoming another one."""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # commands that read records of runs load no schema
    from pipeline.config.schema import Config

_ABSENT = "absent"

# What a resumed run may change: its horizon, its hardware and what it logs. The rest is the run's identity.
_CHANGEABLE = re.compile(
    r"trainer\.(num_gpus|num_processes|num_nodes|strategy|deepspeed\.\w+|logger|wandb\.\w+|global_batch_size)"
    r"|trainer\.watchdog_timeout_s"
    r"|trainer\.form\.\w+"  # the same function; a start says where it rounds otherwise
    r"|data\.\w+_dataloader\.(num_workers|prefetch_factor|persistent_workers|pin_memory)"
    r"|data\.train_dataloader\.batch_size"  # per process; a checkpoint refuses another batch over all processes
    r"|trainer\.trainer\.(max_\w+|min_\w+|log_\w+|num_demos|demo_\w+|save_\w+|profile|profiler_dir|enable_\w+)"
    r"|trainer\.trainer\.accumulate_grad_batches"
    r"|trainer\.start_timeout_s"
    r"|model\.autoencoder\.activation_checkpointing"  # the same weights to the last bit
    r"|data\.(root|cache_dir|scratch_dir|eval_dataset\.root|mix\.[^.]+\.root)"  # places
    r"|site(\.[\w.]+)?"  # the cluster
    r"|container\.\w+"  # what a job finds there
)
_AUDIO = re.compile(r"data\.(root|eval_dataset\.root|mix\.[^.]+\.root)")
_NAMES = ("run.dir", "run.name", "run.resume")  # where a run is, not what it is
_HORIZON = ("max_epochs", "max_steps")


def is_changeable(key: str) -> bool:
    """Whether a run may change the value of a dotted key and stay the same run."""
    return _CHANGEABLE.fullmatch(key) is not None


def identity_of(config: "Config") -> str:
    """Return a digest over all that makes a run this run: model, data with its folders, losses, optimiser, seed.

    Args:
        config: checked configuration, so that what is taken for granted is spelt out.
    """
    from pipeline.models.defaults import bare  # the registry, which readers of records do without

    tree = config.model_dump(mode="json")
    tree["model"] = bare(tree["model"])
    _drop_unused(tree)
    values = {key: _equal(value) for key, value in _leaves("", tree) if _counts(key) and key not in _NAMES}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _drop_unused(tree: dict[str, Any]) -> None:
    """Leave out options that are off, so that runs of before there were any have the identity that they had."""
    trainer, autoencoder = tree["trainer"], tree["model"]["autoencoder"]
    for block in ("loss_balancer", "ema"):
        if not trainer[block]["enabled"]:
            del trainer[block]
    for section, key in (
        (trainer, "train_only"),
        (autoencoder, "chunk_frames"),
        (autoencoder, "latent_mask_ratio"),
    ):
        if not section[key]:
            del section[key]


def horizon_of(config: "Config") -> dict[str, Any]:
    """Return how far a run is to go: `max_epochs` and `max_steps`."""
    return {name: getattr(config.trainer.trainer, name) for name in _HORIZON}


def identity_difference(stored: "Config", wanted: "Config") -> str | None:
    """Return the first key that makes two configurations different runs, None if they are the same run.

    A folder of audio counts: the same command with another one describes another run.
    """
    return next((key for key, _, _ in differences(stored, wanted) if _counts(key)), None)


def differences(stored: "Config", wanted: "Config") -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted key and both values of what differs, names and places of the run apart."""
    from pipeline.models.defaults import filled  # see `identity_of`

    trees = (config.model_dump() for config in (stored, wanted))
    settled = ({**tree, "model": filled(tree["model"])} for tree in trees)
    for key, old, new in _compare("", *settled):
        if key not in _NAMES:
            yield key, old, new


def _counts(key: str) -> bool:
    return _AUDIO.fullmatch(key) is not None or not is_changeable(key)


def _compare(key: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict) and not is_changeable(key):
        for name in dict.fromkeys((*old, *new)):
            inner = f"{key}.{name}" if key else str(name)
            yield from _compare(inner, old.get(name, _ABSENT), new.get(name, _ABSENT))
    elif old != new:
        yield key, old, new


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value and not is_changeable(key):
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}" if key else str(name), inner)
    else:
        yield key, value


def _equal(value: Any) -> Any:
    """Return one form for values that are equal: 1 and 1.0 are the same setting."""
    if isinstance(value, list):
        return [_equal(entry) for entry in value]
    return float(value) if type(value) is int and abs(value) < 2**53 else value
