"""What `make doctor` asks the cluster: is it there, what does it offer, does it account, may jobs be requeued."""

import re
import shutil
from collections.abc import Iterator

from pipeline.launch.slurm.finding import MISSING, NOTE, OK, Finding, ask

_COMMANDS = ("sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
_NO_REQUEUE = (
    "site.requeue=false: chains of jobs do the same; or ask the administrator for JobRequeue=1, or whether your own "
    "jobs may set --requeue"
)


def cluster() -> Iterator[Finding]:
    """Look at SLURM from here."""
    absent = [name for name in _COMMANDS if shutil.which(name) is None]
    if len(absent) == len(_COMMANDS):
        yield Finding(NOTE, "no SLURM here", "submit on a login node; python train.py trains here")
        return
    if absent:
        yield Finding(MISSING, f"commands: {', '.join(absent)}", "load the cluster's SLURM module")
    partitions = ask("sinfo", "--noheader", "--format=%P|%a|%l|%D|%T|%G")
    if partitions is None:
        yield Finding(MISSING, "the controller does not answer", "sinfo says why; is this a login node?")
        return
    yield from _partitions(partitions)
    yield from _settings(ask("scontrol", "show", "config") or "")
    accounts = ask("sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID", "--starttime=now")
    if accounts is None:
        yield Finding(
            NOTE,
            "no accounting (sacct)",
            "make status knows ended jobs from their run directories alone; ask the administrator for slurmdbd",
        )
    else:
        yield Finding(OK, "accounting answers")


def _partitions(text: str) -> Iterator[Finding]:
    """Tell the partitions; a line is `debug*|up|1:00:00|2|idle|gpu:a100:4`."""
    offers: dict[str, tuple[str, str, set[str], int]] = {}
    for line in text.splitlines():
        name, is_up, limit, nodes, state, devices = (line.split("|") + [""] * 6)[:6]
        _, _, kinds, number = offers.get(name, ("", "", set(), 0))
        is_there = not state.startswith(("down", "drain", "unk", "fail"))
        kinds |= {devices} - {"(null)", ""}
        offers[name] = (is_up, limit, kinds, number + is_there * int(nodes if nodes.isdecimal() else 0))
    if not offers:
        yield Finding(MISSING, "no partition that you may see", "ask the administrator for an account")
    for name, (is_up, limit, kinds, number) in offers.items():
        shown = (
            f"partition {name.rstrip('*')}{' (default)' if name.endswith('*') else ''}: {number} node(s) up"
        )
        text = f"{shown}, limit {limit}{', ' + ', '.join(sorted(kinds)) if kinds else ''}"
        if is_up == "up" and number:
            yield Finding(OK, text)
        else:
            yield Finding(
                NOTE, text, "jobs wait there until nodes come up; choose another with site.partition"
            )


def _settings(text: str) -> Iterator[Finding]:
    values = dict(re.findall(r"^(\w+)\s*= (.*)$", text, re.MULTILINE))
    requeue = values["JobRequeue"].strip() if "JobRequeue" in values else None
    if requeue == "1":
        yield Finding(OK, "jobs may be requeued (JobRequeue=1)")
    elif requeue is not None:
        yield Finding(
            NOTE, f"JobRequeue={requeue}: jobs are not requeued unless they ask for it", _NO_REQUEUE
        )
    mode = values["PreemptMode"].strip() if "PreemptMode" in values else None
    if mode is not None:
        yield Finding(OK, f"preemption: {mode}")
