"""The processes of a run, found from outside."""

from pathlib import Path


def living_members(runs: Path, session: int) -> set[int]:
    """Processes that are of a session, or were started with this EULER_RUNS (a fork does not show it); no zombies."""
    mark, found = f"EULER_RUNS={runs}".encode(), set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, its_session, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            is_marked = mark in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if state not in "ZX" and (is_marked or int(its_session) == session):
            found.add(int(folder.name))
    return found
