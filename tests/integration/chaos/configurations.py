"""The runs that are killed: small, and each with something else that a resume could lose."""

from dataclasses import dataclass

_NET = (
    "model.encoder.config.n_filters=2",
    "model.encoder.config.dimension=8",
    "model.decoder.config.dimension=4",
)
_COMMON = (
    *_NET,
    "data.segment_frames=5",
    "data.train_dataset.segments_per_epoch=24",
    "data.eval_dataset.max_segments=8",
    "data.train_dataloader.num_workers=2",
    "data.eval_dataloader.batch_size=4",
    "trainer.num_gpus=0",
    "trainer.loss_config.bottleneck.weights.kl=1e-3",
    "trainer.trainer.max_epochs=3",
    "trainer.trainer.check_val_every_n_epoch=1",
    "trainer.trainer.log_every_n_steps=1",
    "trainer.trainer.num_demos=0",
    "trainer.trainer.save_every_n_minutes=0.005",
)
_SINGLE = ("data.train_dataloader.batch_size=4", "trainer.global_batch_size=4")
_PAIR = (
    "trainer.num_processes=2",
    "data.train_dataloader.batch_size=2",
    "trainer.global_batch_size=4",
)
_ACCUMULATED = ("trainer.trainer.accumulate_grad_batches=2", "trainer.global_batch_size=8")
_FRESH_WORKERS = ("data.train_dataloader.persistent_workers=false",)
_MIDDLE = ("trainer.trainer.val_check_interval=3",)
_LIMITED = ("trainer.trainer.limit_train_batches=5", "trainer.trainer.max_epochs=4")


@dataclass(frozen=True)
class Configuration:
    """One run.

    Attributes:
        name: as in the table.
        num_processes: 1, or the ranks of a run.
        arguments: of train.py.
    """

    name: str
    num_processes: int
    arguments: tuple[str, ...]

    @property
    def is_parallel(self) -> bool:
        """Whether a supervisor starts its ranks."""
        return self.num_processes > 1


def _single(name: str, *arguments: str) -> Configuration:
    return Configuration(name, 1, (*_COMMON, *_SINGLE, *arguments))


def _pair(name: str, *arguments: str) -> Configuration:
    return Configuration(name, 2, (*_COMMON, *_PAIR, *arguments))


def _spread(name: str, num_processes: int, *arguments: str) -> Configuration:
    return Configuration(name, num_processes, (*_COMMON, *_PAIR, *arguments))


SINGLE = (
    _single("plain"),
    _single("accumulation", *_ACCUMULATED, "trainer.trainer.gradient_clip_val=0.01"),
    _single("mid-epoch", *_MIDDLE, *_LIMITED, *_FRESH_WORKERS, "trainer.trainer.save_top_k=2"),
    _single(
        "plateau", *_FRESH_WORKERS, "trainer.scheduler.type=ReduceLROnPlateau", "trainer.precision=bf16-mixed"
    ),
)
PAIR = (
    _pair("ddp"),
    _pair("ddp-accumulation", *_ACCUMULATED, "trainer.trainer.val_check_interval=4"),
    _pair("ddp-limit", *_LIMITED, *_FRESH_WORKERS, "trainer.scheduler.interval=epoch"),
)
_FOUR = ("trainer.num_processes=4", "data.train_dataloader.batch_size=1")
_ZERO = ("trainer.strategy=deepspeed",)
# Every way in which ranks share the work.
STRATEGIES = (
    _pair("zero-2", *_ZERO, "trainer.trainer.gradient_clip_val=0.01"),
    _pair("zero-1-accumulation", *_ZERO, "trainer.deepspeed.stage=1", *_ACCUMULATED),
    _pair(
        "zero-2-accumulation",
        *_ZERO,
        *_ACCUMULATED,
        *_LIMITED,
        "trainer.precision=bf16-mixed",
        "trainer.trainer.save_top_k=2",
    ),
    _spread("ddp-4", 4, *_FOUR, "trainer.trainer.gradient_clip_val=0.01"),
    _spread("zero-2-4", 4, *_ZERO, *_FOUR, *_MIDDLE),
)
# Saves after almost every step; long enough for many kills.
SAVING = (
    _single(
        "saving", "data.train_dataset.segments_per_epoch=160", "trainer.trainer.save_every_n_minutes=0.0001"
    ),
    _pair(
        "ddp-saving",
        "data.train_dataset.segments_per_epoch=160",
        "trainer.trainer.save_every_n_minutes=0.0001",
    ),
    _pair(
        "zero-saving",
        *_ZERO,
        "data.train_dataset.segments_per_epoch=160",
        "trainer.trainer.save_every_n_minutes=0.0001",
    ),
)
