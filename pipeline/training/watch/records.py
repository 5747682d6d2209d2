"""How a job that hangs ends: it says why, writes what every thread was doing, and is gone."""

import faulthandler
import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.data.workers import stacks_of_workers
from pipeline.training.watch.verdict import Verdict

_log = logging.getLogger(__name__)
_TELLING_S = 2.0
_FAILURE = 1
_RECORDED_COLLECTIVES = "2000"


def arm_flight_recorder() -> None:
    """Have NCCL remember its newest collectives; call it before the ranks are connected. A user's own value stays."""
    os.environ.setdefault("TORCH_FR_BUFFER_SIZE", _RECORDED_COLLECTIVES)


@dataclass(frozen=True)
class Ending:
    """Ends this process.

    Attributes:
        logs: folder for the records.
        rank: global rank.
        exit_code: says that the job is to be started again.
        resume_command: does so.
        timeout_s: of the watchdog, for the message.
    """

    logs: Path
    rank: int
    exit_code: int
    resume_command: str
    timeout_s: float | None

    def __call__(self, verdict: Verdict, is_speaker: bool) -> None:
        """Say why, write the records, and end at once; the main thread hangs and would never notice anything else.

        Args:
            verdict: why.
            is_speaker: this rank tells the user; the others write to their own logs.
        """
        # what hung the main thread (a disk, a pipe that nobody reads, a lock of logging) must not hang this too
        telling = threading.Thread(target=self._tell, args=(verdict, is_speaker), daemon=True)
        telling.start()
        telling.join(_TELLING_S)
        os._exit(_FAILURE if verdict.is_failure else self.exit_code)

    def _tell(self, verdict: Verdict, is_speaker: bool) -> None:
        advice = (
            f"  what every thread was doing: {self.logs}/rank-*-stacks.txt\n"
            f"  the job ends; to go on from its newest checkpoint: {self.resume_command}\n"
            f"  where a part rightly takes longer, raise trainer.watchdog_timeout_s (now {self.timeout_s})"
        )
        _log.log(logging.ERROR if is_speaker else logging.INFO, "watchdog: %s\n%s", verdict.message, advice)
        with (self.logs / f"rank-{self.rank}-stacks.txt").open("a", encoding="utf-8") as file:
            file.write(f"watchdog: {verdict.message}\n")
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
            if stacks := stacks_of_workers():
                file.write("\nworkers of the data loaders, each with its threads:\n")
                file.write(stacks.decode(errors="replace"))
        self._dump_flight_recorder()

    def _dump_flight_recorder(self) -> None:
        """Write what NCCL remembers, as `torchfrtrace --prefix nccl_trace_rank_` reads it."""
        dump = getattr(
            torch._C._distributed_c10d, "_dump_nccl_trace", None
        )  # absent from builds without NCCL
        if dump is not None and torch.cuda.is_initialized():
            (self.logs / f"nccl_trace_rank_{self.rank}").write_bytes(dump())
