"""Writes a checkpoint in shards: every rank its own, the first rank the index when all shards are whole."""

import secrets
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch.distributed as dist

from pipeline.errors import CheckpointError, PeerError
from pipeline.training.checkpoints.file import write_atomically
from pipeline.training.checkpoints.shards import (
    SHARDS,
    Shard,
    describe_shard,
    prune,
    save_name,
    shard_content,
    shard_list,
    shard_name,
)
from pipeline.training.checkpoints.store import CheckpointStore
from pipeline.training.checkpoints.writer import BackgroundWriter


class ShardWriter:
    """Every rank has one; their threads meet after each save over a network of their own.

    Args:
        store: the run's checkpoints.
        writer: this rank's thread that writes.
    """

    def __init__(self, store: CheckpointStore, writer: BackgroundWriter) -> None:
        self._store = store
        self._writer = writer
        self._group: dist.ProcessGroup | None = None
        self._start = ""
        self._count = 0

    def connect(self, timeout: timedelta) -> None:
        """Open the network; every rank calls it.

        Args:
            timeout: how long a rank waits for another one's shard.
        """
        if self._group is None:
            self._group = dist.new_group(backend="gloo", timeout=timeout)
            names = [secrets.token_hex(4)]
            dist.broadcast_object_list(names, src=0, group=self._group)
            self._start = names[0]

    def submit(
        self, step: int, parts: dict[str, Any], path: Path, then: Callable[[], None] | None = None
    ) -> None:
        """Copy the state and have it written; every rank calls it at the same step.

        Args:
            step: optimiser steps done.
            parts: `part` of this rank, and on the first rank `index`, all but the parts.
            path: of the checkpoint.
            then: called on the first rank when the checkpoint is whole.

        Raises:
            CheckpointError: the former write failed, here or on another rank.
            PeerError: another rank is gone.
        """
        self._count += 1
        save = save_name(step, self._start, self._count)
        self._writer.submit(parts, partial(self._write, path, save, then))

    def _write(self, path: Path, save: str, then: Callable[[], None] | None, parts: dict[str, Any]) -> None:
        rank, world_size = dist.get_rank(), dist.get_world_size()
        target = path.parent / SHARDS / save / shard_name(rank, world_size)
        answer: Shard | str
        try:
            write_atomically(shard_content(parts["part"]), target)
            answer = describe_shard(target)
        except CheckpointError as error:
            answer = str(error)
        shards = self._exchange(answer)
        if rank == 0:
            index = {**parts["index"], SHARDS: shard_list(save, shards)}
            write_atomically(index, path, before_rename=self._store.keep_previous)
            if then is not None:
                then()
            prune(path.parent, keep_from=save)

    def _exchange(self, answer: Shard | str) -> list[Shard]:
        """Return the list of all shards.

        Raises:
            CheckpointError: names the ranks that could not write theirs.
            PeerError: another rank is gone.
        """
        answers: list[Any] = [None] * dist.get_world_size()
        try:
            dist.all_gather_object(answers, answer, group=self._group)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise PeerError(f"another rank is gone while a checkpoint was written ({reason})") from None
        failed = [f"rank {rank}: {text}" for rank, text in enumerate(answers) if isinstance(text, str)]
        if failed:
            raise CheckpointError("; ".join(failed))
        return answers
