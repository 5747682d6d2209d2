"""What a job asks for follows from the run and the cluster."""

import pytest

from pipeline.launch.slurm.cluster import Cluster, count_gpus
from tests.launch.slurm.launches import CLUSTER, prepared


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", (1, 1, 0, 3)),
        ("trainer.num_nodes=2 trainer.num_processes=2", (2, 2, 0, 2)),  # 4 CPUs for 2 ranks
        ("trainer.num_processes=4", (1, 4, 0, 1)),
        ("data.train_dataloader.num_workers=0", (1, 1, 0, 1)),
        ("hydra.launcher.cpus_per_task=2", (1, 1, 0, 2)),
        ("hydra.launcher.nodes=2 trainer.num_nodes=2 hydra.launcher.tasks_per_node=1", (2, 1, 0, 3)),
        ("trainer.num_gpus=4 trainer.num_nodes=3 hydra.launcher.partition=gpu", (3, 4, 4, 3)),
        ("hydra.launcher.gpus_per_node=8 hydra.launcher.partition=gpu", (1, 8, 8, 3)),
        ("hydra.launcher.gres=gpu:h100:8 hydra.launcher.partition=gpu", (1, 8, 8, 3)),
        ("hydra.launcher.partition=gpu trainer.num_gpus=0", (1, 1, 0, 3)),
        ("hydra.launcher.partition=gpu trainer.num_gpus=2 hydra.launcher.cpus_per_gpu=8", (1, 2, 2, None)),
    ],
)
def test_resources_are_derived(line, expected):
    shape = prepared(line).shape
    assert (shape.nodes, shape.tasks_per_node, shape.gpus_per_node, shape.cpus_per_task) == expected


def test_without_a_cluster_nothing_is_capped_and_the_cpu_is_taken():
    point = prepared("data.train_dataloader.num_workers=15", cluster=None)
    assert point.shape.cpus_per_task == 16 and point.shape.gpus_per_node == 0
    assert any("no cluster to ask here, taken as 0" in note for note in point.notes)


def test_the_counted_gpus_are_stored_for_the_jobs():
    point = prepared("hydra.launcher.gpus_per_node=2 hydra.launcher.partition=gpu")
    assert point.composition.tree["trainer"]["num_gpus"] == 2
    assert prepared("").composition.tree["trainer"]["num_gpus"] == 0


@pytest.mark.parametrize(
    ("line", "gres"),
    [
        ("trainer.num_gpus=2", None),
        ("trainer.num_gpus=2 site.gpu_gres=gpu:a100", "gpu:a100:2"),
        (
            "trainer.num_gpus=2 site.gpu_gres=gpu:a100 hydra.launcher.gres=scratch:10",
            "scratch:10,gpu:a100:2",
        ),
        ("trainer.num_gpus=2 site.gpu_gres=gpu:a100 hydra.launcher.gres=gpu:h100:2", "gpu:h100:2"),
        ("trainer.num_gpus=0 site.gpu_gres=gpu:a100", None),
    ],
)
def test_gpus_are_asked_for_as_the_site_wants_it(line, gres):
    assert prepared(f"{line} hydra.launcher.partition=gpu").shape.gres == gres


@pytest.mark.parametrize(
    ("gres", "count"),
    [
        (None, 0),
        ("(null)", 0),
        ("gpu", 1),
        ("gpu:4", 4),
        ("gpu:a100:4(S:0-1),shard:8", 4),
        ("gres/gpu:a100:2", 2),
        ("gpu:a100", 1),
        ("gpu:a100:2,gpu:h100:1", 3),
        ("craynetwork:4", 0),
    ],
)
def test_gpus_of_a_list_of_resources(gres, count):
    assert count_gpus(gres) == count


def test_what_sinfo_says_is_read():
    assert CLUSTER.partitions == ("cpu", "short", "gpu")
    assert [group.nodes for group in CLUSTER.groups_of("gpu")] == [2, 1]
    assert [group.partition for group in CLUSTER.groups_of(None)] == ["cpu"]
    assert {group.max_minutes for group in CLUSTER.groups} == {None, 30, 2880}
    (odd,) = Cluster.read("a|1-02:03:00|1|16+|gpu:1|64000+").groups
    assert (odd.max_minutes, odd.cpus, odd.gpus, odd.is_default) == (1563, 16, 1, False)
