"""Who is wrong, from what the ranks say about themselves."""

import shutil
from dataclasses import asdict, replace

import pytest

from pipeline.config.compose import settle
from pipeline.launch.card import ROOT, Card, Device, code_digest, fill_in
from pipeline.launch.judgement import judge_cards
from tests.config.compositions import compose

GIB = 2**30


@pytest.fixture(scope="module")
def config():
    return settle(compose())


@pytest.fixture
def cards(config):
    """Four ranks on two hosts, as they should be."""
    return {
        rank: replace(
            fill_in(rank, 4, config, Device("H100", f"GPU-{rank}", "570.86", 70 * GIB, 80 * GIB)),
            host=f"node{rank // 2}",
            free_disk_bytes=100 * GIB,
            free_memory_bytes=50 * GIB,
        )
        for rank in range(4)
    }


def problems(cards):
    return judge_cards(cards, 4, 120.0).problems


def test_all_well(cards):
    verdict = judge_cards(cards, 4, 120.0)
    assert verdict.problems == [] and verdict.warnings == []
    line = verdict.line.format(contact="all-reduce ok (3.1 ms)")
    assert line == "roll call: 4 ranks on 2 hosts, all-reduce ok (3.1 ms), same code and configuration"


def test_a_card_survives_the_way_through_the_store(cards):
    assert Card.read(asdict(cards[3])) == cards[3]


def test_the_majority_is_right_even_against_rank_0(cards):
    cards[0] = replace(cards[0], code="other")
    ((rank, text),) = problems(cards)
    assert rank == 0 and text.startswith("rank 0 on node0: another version of the code (other in ")


def test_of_equally_many_rank_0_is_right(cards):
    for rank in (0, 3):
        cards[rank] = replace(cards[rank], code="other")
    assert [rank for rank, _ in problems(cards)] == [1, 2]


def test_another_configuration_names_the_keys(cards):
    tree = {**cards[2].config, "trainer": {**cards[2].config["trainer"], "seed": 7}}
    cards[2] = replace(cards[2], config=tree)
    ((rank, text),) = problems(cards)
    assert rank == 2 and text.startswith("rank 2 on node1: another configuration (trainer.seed=7, rank 0")


def test_another_environment_and_another_world(cards):
    cards[1] = replace(cards[1], versions={**cards[1].versions, "torch": "1.0"}, world_size=8)
    world, packages = (text for _, text in problems(cards))
    assert world.startswith("rank 1 on node0: expects 8 ranks, the others 4")
    assert packages.startswith("rank 1 on node0: torch 1.0 instead of ")


def test_missing_and_refusing_ranks(cards):
    cards[2] = replace(cards[2], problem="ConfigError: no GPU")
    del cards[1], cards[3]
    assert problems(cards) == [
        (2, "rank 2 on node1: ConfigError: no GPU"),
        (
            1,
            "ranks 1, 3 of 4 did not come within trainer.start_timeout_s=120 (there: rank 0 on node0, rank 2 on node1);"
            " see their own messages, and whether their hosts can reach rank 0",
        ),
    ]


def test_two_ranks_on_one_gpu(cards):
    cards[3] = replace(cards[3], device=cards[2].device)
    ((rank, text),) = problems(cards)
    assert rank == 3 and "trains on the same GPU as rank 2 on node1" in text


def test_what_is_scarce_or_mixed_is_a_warning(cards):
    cards[2] = replace(cards[2], free_disk_bytes=GIB // 2, free_memory_bytes=GIB // 4)
    busy = replace(cards[1].device, free_bytes=3 * GIB)
    older = replace(cards[3].device, driver="535.1")
    cards[1], cards[3] = replace(cards[1], device=busy), replace(cards[3], device=older)
    verdict = judge_cards(cards, 4, 120.0)
    disk, memory, gpu, driver = verdict.warnings
    assert verdict.problems == []
    assert disk.startswith("rank 2 on node1: 0.50 GiB of disk free at ")
    assert memory == "rank 2 on node1: 0.25 GiB of memory free"
    assert gpu.startswith("rank 1 on node0: 3.0 of 80.0 GiB of GPU memory free")
    assert driver == "different GPU drivers: rank 0 on node0 has 570.86, rank 3 on node1 has 535.1"


def test_the_digest_sees_a_changed_comment_a_new_file_and_no_configuration(tmp_path):
    for name in ("pipeline", "conf", "hydra_plugins"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train.py", tmp_path)
    found = [code_digest(ROOT), code_digest(tmp_path)]
    assert found[0] == found[1]
    (tmp_path / "conf" / "config.yaml").write_text("{}\n")
    assert code_digest(tmp_path) == found[0]
    (tmp_path / "pipeline" / "errors.py").open("a").write("# changed\n")
    found.append(code_digest(tmp_path))
    (tmp_path / "pipeline" / "new.py").write_text("")
    found.append(code_digest(tmp_path))
    assert len(set(found)) == 3


def test_missing_ranks_alone_are_a_loss(cards):
    """Another start may mend it, as nothing else."""
    assert not judge_cards(cards, 4, 120.0).is_loss
    del cards[2]
    assert judge_cards(cards, 4, 120.0).is_loss
    cards[1] = replace(cards[1], code="0" * 64)
    assert not judge_cards(cards, 4, 120.0).is_loss
