"""What a launcher of ranks says about a process, and whether it fits the configuration."""

import pytest

from pipeline.config.compose import settle
from pipeline.errors import ConfigError, LaunchError
from pipeline.launch import resources
from pipeline.launch.job import refuse_misleading_arguments
from pipeline.launch.outer import find_place, ranks_here
from tests.config.compositions import compose

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "29500",
    "LOCAL_WORLD_SIZE": "2",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCHELASTIC_RESTART_COUNT": "1",
}


@pytest.fixture
def variables(monkeypatch):
    """Set the variables of a launcher, and no others."""

    def put(**given):
        for name in TORCHRUN:
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)

    put()
    return put


def plan(*overrides):
    return resources.plan(settle(compose(*overrides)))


def test_a_process_alone_has_no_place(variables):
    assert find_place() is None and ranks_here(1) is None


def test_the_place_under_torchrun(variables):
    variables(**TORCHRUN)
    place = find_place()
    assert (place.rank, place.world_size, place.local_rank) == (3, 4, 1)
    assert (place.address, place.port, place.served, place.attempt) == ("node1", 29500, True, 1)
    assert ranks_here(2) == 2


def test_ranks_of_a_node_without_their_number(variables):
    variables(**{name: TORCHRUN[name] for name in list(TORCHRUN)[:5]})
    assert ranks_here(2) == 2
    place = find_place()
    assert not place.served and place.attempt == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"LOCAL_RANK": ""}, "not LOCAL_RANK"),
        ({"RANK": "one"}, "RANK='one': a whole number"),
        ({"RANK": "4"}, "valid: 0 to 3"),
    ],
)
def test_variables_that_make_no_sense(variables, change, said):
    variables(**{**TORCHRUN, **change})
    with pytest.raises(LaunchError, match=said):
        find_place()


def test_a_container_of_one_is_no_launcher(variables):
    variables(RANK="0", WORLD_SIZE="1", MASTER_ADDR="localhost", MASTER_PORT="1")
    assert find_place() is None


def test_several_nodes_need_a_launcher(variables):
    with pytest.raises(ConfigError, match=r"started alone.*submitit_slurm.*torchrun"):
        plan("trainer.num_nodes=2", "trainer.num_gpus=0")


def test_several_nodes_under_a_launcher(variables):
    variables(**TORCHRUN)
    planned = plan("trainer.num_nodes=2", "trainer.num_gpus=0", "trainer.num_processes=2")
    assert planned.world_size == 4 and planned.processes_per_node == 2


def test_a_wrong_world_size_names_both_numbers(variables):
    variables(**TORCHRUN)
    with pytest.raises(LaunchError, match=r"started 4 rank.*trainer.num_processes=2 asks for 2"):
        plan("trainer.num_gpus=0", "trainer.num_processes=2")


def test_ranks_that_are_not_numbered_node_by_node(variables):
    variables(**{**TORCHRUN, "LOCAL_RANK": "0"})
    with pytest.raises(LaunchError, match=r"rank 3 has LOCAL_RANK=0.*1 is expected"):
        plan("trainer.num_nodes=2", "trainer.num_gpus=0", "trainer.num_processes=2")


def test_no_sweep_within_a_rank(variables):
    refuse_misleading_arguments(["-m", "trainer.seed=1,2"])
    variables(**TORCHRUN)
    with pytest.raises(LaunchError, match="one rank of one job"):
        refuse_misleading_arguments(["-m", "trainer.seed=1,2"])
