"""A checkpoint in shards is as safe as one in a file: whole or named."""

import shutil
from pathlib import Path

import pytest
import torch

from pipeline.errors import CheckpointError
from pipeline.training.checkpoint import LAST, has_shards, read, verify
from pipeline.training.checkpoints.file import DamagedCheckpointError, link, write_atomically
from pipeline.training.checkpoints.optimizer_parts import whole_without_parts
from pipeline.training.checkpoints.shards import (
    SHARDS,
    describe_shard,
    prune,
    save_name,
    shard_content,
    shard_list,
    shard_name,
)
from pipeline.training.checkpoints.store import CheckpointStore

SHAPES = [[[2, 2], [3]]]


def write(directory: Path, step: int, name: str = LAST, start: str = "0a0b0c0d", count: int = 1) -> Path:
    """Write a checkpoint of two ranks, whose moments are 1000 * step + place."""
    save = save_name(step, start, count)
    flat, shards = torch.arange(8.0) + 1000 * step, []
    for rank in range(2):
        part = [{"step": torch.tensor(float(step)), "exp_avg": flat[4 * rank : 4 * rank + 4].clone()}]
        path = directory / SHARDS / save / shard_name(rank, 2)
        write_atomically(shard_content(part), path)
        shards.append(describe_shard(path))
    index = {
        "state_dict": {"autoencoder.a": torch.zeros(3)},
        "global_step": step,
        "optimizer_states": [whole_without_parts([{"lr": 0.1, "params": [0]}], SHAPES)],
        "logs": {},
        SHARDS: shard_list(save, shards),
    }
    write_atomically(index, directory / name)
    return directory / SHARDS / save


def _damage_missing(path):
    path.unlink()


def _damage_empty(path):
    path.write_bytes(b"")


def _damage_truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def _damage_bit(path):
    content = bytearray(path.read_bytes())
    first = 2000.0 if path.name == shard_name(0, 2) else 2004.0
    at = content.index(torch.tensor(first).numpy().tobytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


DAMAGES = [_damage_missing, _damage_empty, _damage_truncated, _damage_bit]


def test_reading_gives_the_state_of_one_process(tmp_path):
    write(tmp_path, 7)
    checkpoint = read(tmp_path / LAST)
    assert SHARDS not in checkpoint
    (state,) = checkpoint["optimizer_states"]
    assert set(state) == {"state", "param_groups"} and state["param_groups"] == [
        {"lr": 0.1, "params": [0, 1]}
    ]
    assert torch.equal(state["state"][0]["exp_avg"], torch.tensor([[7000.0, 7001.0], [7002.0, 7003.0]]))
    assert torch.equal(state["state"][1]["exp_avg"], torch.tensor([7004.0, 7005.0, 7006.0]))
    assert float(state["state"][1]["step"]) == 7


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_named_and_passed_over(tmp_path, damage, rank):
    folder = write(tmp_path, 1, "previous.ckpt")
    write(tmp_path, 2, count=2)
    victim = tmp_path / SHARDS / save_name(2, "0a0b0c0d", 2) / shard_name(rank, 2)
    damage(victim)
    with pytest.raises(DamagedCheckpointError) as raised:
        verify(tmp_path / LAST)
    assert str(victim) in str(raised.value) and str(tmp_path / LAST) in str(raised.value)
    with pytest.raises(CheckpointError, match=str(victim)):
        read(tmp_path / LAST)
    read(tmp_path / LAST, weights_only=True)  # inference needs no shard
    store = CheckpointStore(tmp_path, save_top_k=1)
    found = store.newest(may_rename=True)
    assert found.path == tmp_path / "previous.ckpt" and str(victim) in found.notes[0]
    store.repair([], "")
    assert folder.is_dir() and (tmp_path / (LAST + ".damaged")).exists()


def test_a_shard_of_another_checkpoint_is_named(tmp_path):
    other, folder = write(tmp_path, 1, "previous.ckpt"), write(tmp_path, 2, count=2)
    shutil.copy(other / shard_name(1, 2), folder / shard_name(1, 2))
    with pytest.raises(DamagedCheckpointError, match="of another checkpoint"):
        verify(tmp_path / LAST)


def test_shards_stay_as_long_as_a_checkpoint_lists_them(tmp_path):
    first, second = write(tmp_path, 1), write(tmp_path, 2, "step-00000002.ckpt", count=2)
    link(tmp_path / "step-00000002.ckpt", tmp_path / "best.ckpt")
    third = write(tmp_path, 3, count=3)  # the first one's name
    later, of_another_start = (
        tmp_path / SHARDS / save_name(4, start, 4) for start in ("0a0b0c0d", "11111111")
    )
    for folder in (later, of_another_start):
        folder.mkdir()
    prune(tmp_path, keep_from=third.name)
    assert sorted((tmp_path / SHARDS).iterdir()) == sorted((second, third, later)) and not first.exists()
    prune(tmp_path)
    assert not later.exists()


def test_what_the_user_keeps_there_stays(tmp_path):
    folder = write(tmp_path, 1)
    copies = [tmp_path / SHARDS / name for name in ("backup", "a-b-c", f"{folder.name}-copy")]
    for copy in copies:
        shutil.copytree(folder, copy)
    (tmp_path / SHARDS / ".DS_Store").touch()
    prune(tmp_path, keep_from=folder.name)
    assert all(copy.is_dir() for copy in copies) and folder.is_dir()


def test_checkpoints_without_their_folder_of_shards_are_refused(tmp_path):
    write(tmp_path, 1, "previous.ckpt")
    write(tmp_path, 2, count=2)
    (tmp_path / SHARDS).rename(tmp_path / "left behind")
    with pytest.raises(CheckpointError, match=f"{tmp_path / SHARDS}: missing.*put the folder back"):
        CheckpointStore(tmp_path, save_top_k=1).newest(may_rename=True)
    assert sorted(path.name for path in tmp_path.glob("*.ckpt*")) == ["last.ckpt", "previous.ckpt"]
    (tmp_path / "left behind").rename(tmp_path / SHARDS)
    verify(tmp_path / LAST)


def test_the_end_of_a_run_leaves_single_files(tmp_path):
    write(tmp_path, 2, "step-00000002.ckpt", count=2)
    for name in ("best.ckpt", "previous.ckpt"):
        link(tmp_path / "step-00000002.ckpt", tmp_path / name)
    write(tmp_path, 3, count=3)
    CheckpointStore(tmp_path, save_top_k=1).unite()
    assert not (tmp_path / SHARDS).exists()
    assert (tmp_path / "best.ckpt").samefile(tmp_path / "step-00000002.ckpt")
    for path in tmp_path.glob("*.ckpt"):
        assert not has_shards(path)
        assert float(read(path)["optimizer_states"][0]["state"][0]["step"]) == (3 if path.name == LAST else 2)


def test_a_damaged_older_checkpoint_does_not_spoil_the_end(tmp_path, caplog):
    folder = write(tmp_path, 2, "best.ckpt", count=2)
    write(tmp_path, 3, count=3)
    (folder / shard_name(0, 2)).unlink()
    CheckpointStore(tmp_path, save_top_k=1).unite()
    assert "rank-00000-of-00002.ckpt: missing" in caplog.text
    assert not has_shards(tmp_path / LAST) and has_shards(tmp_path / "best.ckpt") and folder.is_dir()
