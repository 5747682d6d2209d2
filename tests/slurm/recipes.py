"""Small runs, by how their ranks are spread: the same run alone on one machine, and as a job."""

from dataclasses import dataclass

_COMMON = (
    "model.encoder.config.n_filters=2",
    "model.encoder.config.dimension=8",
    "model.decoder.config.dimension=4",
    "data.segment_frames=5",
    "data.train_dataset.segments_per_epoch=64",
    "data.eval_dataset.max_segments=4",
    "data.train_dataloader.num_workers=0",
    "data.eval_dataloader.num_workers=0",
    "data.eval_dataloader.batch_size=4",
    "trainer.num_gpus=0",
    "trainer.global_batch_size=4",
    "trainer.loss_config.bottleneck.weights.kl=1e-3",
    "trainer.trainer.max_epochs=4",
    "trainer.trainer.check_val_every_n_epoch=1",
    "trainer.trainer.log_every_n_steps=1",
    "trainer.trainer.num_demos=0",
    "trainer.trainer.num_sanity_val_steps=0",
    "trainer.trainer.save_every_n_minutes=0.02",
)
STEPS = 64
STEPS_OF_AN_EPOCH = 16


@dataclass(frozen=True)
class Recipe:
    """A run of STEPS steps.

    Attributes:
        common: its arguments, wherever it runs.
        alone: further ones that make it the run of one machine.
        job: further ones that make it a job.
        ranks: of all nodes.
    """

    common: tuple[str, ...]
    alone: tuple[str, ...]
    job: tuple[str, ...]
    ranks: int


def _recipe(nodes: int, ranks_of_a_node: int, *more: str) -> Recipe:
    ranks = nodes * ranks_of_a_node
    common = (*_COMMON, f"data.train_dataloader.batch_size={4 // ranks}", *more)
    job = (f"trainer.num_nodes={nodes}", f"trainer.num_processes={ranks_of_a_node}")
    return Recipe(common, (f"trainer.num_processes={ranks}",), job, ranks)


ONE = _recipe(1, 1)
TWO_RANKS = _recipe(1, 2)
TWO_NODES = _recipe(2, 1)
FOUR_RANKS = _recipe(2, 2)
ZERO = _recipe(2, 1, "trainer.strategy=deepspeed")
