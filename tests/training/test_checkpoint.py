"""Checkpoint files: whole or not there, damage is found, a full disk loses nothing."""

import os
import random
import subprocess
from pathlib import Path

import pytest
import torch

from pipeline.errors import CheckpointError
from pipeline.training.checkpoint import LAST, peek_step, read, verify
from pipeline.training.checkpoints.file import link, write_atomically
from pipeline.training.checkpoints.store import CheckpointStore
from pipeline.training.checkpoints.writer import BackgroundWriter


def make(step, size=1000):
    return {
        "state_dict": {"weight": torch.full((size,), float(step))},
        "global_step": step,
        "optimizer_states": [{"state": {0: {"step": torch.tensor(step), "exp_avg": torch.arange(size)}}}],
        "logs": {"csv": {"bytes": step}},
    }


def save(store, step, ranked=()):
    write_atomically(make(step), store.last, before_rename=store.keep_previous)
    own = f"step-{step:08d}.ckpt"
    store.enter([own] if own in ranked else [], ranked)


def test_every_flipped_bit_is_found_or_harmless(tmp_path):
    path = tmp_path / LAST
    write_atomically(make(3, size=16), path)
    whole = path.read_bytes()
    expected = read(path)
    generator = random.Random(0)
    places = {generator.randrange(len(whole)) for _ in range(600)} | set(range(len(whole) - 400, len(whole)))
    found = 0
    for place in sorted(places):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            loaded = read(path)
        except CheckpointError as error:
            assert str(path) in str(error)
            found += 1
            continue
        assert str(loaded) == str(expected), place
    assert found > len(places) // 4


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_found(tmp_path, share):
    path = tmp_path / LAST
    write_atomically(make(3), path)
    os.truncate(path, int(path.stat().st_size * share))
    for reader in (verify, read, peek_step):
        with pytest.raises(CheckpointError, match=LAST):
            reader(path)


@pytest.mark.parametrize(
    "content", [b"", b"text", b"PK\x05\x06" + bytes(18)], ids=["empty", "text", "an empty archive"]
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.ckpt"):
        read(path)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, ("touch " + str(tmp_path / "harm"),)

    torch.save({"state_dict": Evil(), "global_step": 1}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="plain data"):
        read(tmp_path / "x.ckpt")
    assert not (tmp_path / "harm").exists()


def test_names_share_one_file_and_the_former_newest_stays(tmp_path):
    store = CheckpointStore(tmp_path, save_top_k=2)
    for step, ranked in (
        (1, ["step-00000001.ckpt"]),
        (2, ["step-00000001.ckpt"]),
        (3, ["step-00000003.ckpt"]),
    ):
        save(store, step, ranked)
    assert {path.name: peek_step(path) for path in tmp_path.iterdir()} == {
        "last.ckpt": 3,
        "previous.ckpt": 2,
        "best.ckpt": 3,
        "step-00000003.ckpt": 3,
    }
    assert (tmp_path / "best.ckpt").samefile(store.last)


def test_only_the_last_stays_where_nothing_else_is_asked_for(tmp_path):
    store = CheckpointStore(tmp_path, save_top_k=0)
    for step in (1, 2, 3):
        save(store, step)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_users_copies_are_left_alone(tmp_path):
    store = CheckpointStore(tmp_path, save_top_k=1)
    save(store, 3, ["step-00000003.ckpt"])
    copies = [tmp_path / name for name in ("step-00000003-copy.ckpt", "step-mine.ckpt", "notes.ckpt")]
    for copy in copies:
        copy.write_bytes(b"mine")
    save(store, 4, ["step-00000004.ckpt"])
    assert peek_step(store.newest(may_rename=True).path) == 4
    store.unite()
    assert {copy.read_bytes() for copy in copies} == {b"mine"}
    assert not (tmp_path / "step-00000003.ckpt").exists()


def _truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def _empty(path):
    os.truncate(path, 0)


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_truncate, _empty, _flip])
def test_a_damaged_newest_checkpoint_is_named_and_passed_over(tmp_path, damage):
    store = CheckpointStore(tmp_path, save_top_k=1)
    for step in (1, 2, 3):
        save(store, step, ["step-00000001.ckpt"])
    damage(store.last)
    found = store.newest(may_rename=True)
    assert found.path is not None and peek_step(found.path) == 2
    assert len(found.notes) == 1 and str(store.last) in found.notes[0]
    assert (tmp_path / "last.ckpt.damaged").exists()
    assert store.newest(may_rename=True) == type(found)(found.path, ())
    damage(found.path)
    oldest = store.newest(may_rename=True).path
    assert oldest is not None and peek_step(oldest) == 1
    damage(tmp_path / "best.ckpt")  # the ranked name means the same file
    nothing = store.newest(may_rename=True)
    assert nothing.path is None and len(nothing.notes) == 2


def test_what_a_kill_leaves_behind_is_put_right(tmp_path):
    store = CheckpointStore(tmp_path, save_top_k=1)
    save(store, 1, ["step-00000001.ckpt"])
    write_atomically(
        make(2), store.last, before_rename=store.keep_previous
    )  # killed before its names were given
    (tmp_path / ".last.ckpt.tmp").write_bytes(b"half")
    store.repair(["step-00000002.ckpt"], "step-00000002.ckpt")
    assert {path.name: peek_step(path) for path in tmp_path.iterdir()} == {
        "last.ckpt": 2,
        "previous.ckpt": 1,
        "best.ckpt": 2,
        "step-00000002.ckpt": 2,
    }


def test_a_full_disk_loses_no_checkpoint(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], capture_output=True
    ).returncode:
        pytest.skip("mounting needs root")
    try:
        store = CheckpointStore(disk, save_top_k=1)
        writer = BackgroundWriter()
        write_atomically(make(1, size=5000), store.last)
        writer.submit(make(2, size=100_000), lambda copy: write_atomically(copy, store.last))
        with pytest.raises(CheckpointError, match=r"last\.ckpt: cannot be written .*free"):
            writer.wait()
        writer.wait()  # an error is raised once
        assert peek_step(store.last) == 1
        assert [path.name for path in disk.iterdir()] == ["last.ckpt"]
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_copy_is_written_however_the_state_changes_meanwhile(tmp_path):
    writer, path = BackgroundWriter(), Path(tmp_path / LAST)
    state = make(1)
    writer.submit(state, lambda copy: write_atomically(copy, path))
    state["state_dict"]["weight"].zero_()
    state["optimizer_states"][0]["state"][0]["exp_avg"].zero_()
    writer.wait()
    assert str(read(path)) == str(make(1))
    assert writer.slowest_s > 0 and not writer.is_busy


def test_linking_a_file_to_itself_leaves_nothing_behind(tmp_path):
    write_atomically(make(1), tmp_path / "a.ckpt")
    link(tmp_path / "a.ckpt", tmp_path / "b.ckpt")
    link(tmp_path / "a.ckpt", tmp_path / "b.ckpt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt", "b.ckpt"]
