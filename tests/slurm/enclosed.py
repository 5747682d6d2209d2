"""An ordinary user of a cluster that has Apptainer, who submits from an environment without torch."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.runs import ROOT
from tests.slurm.cluster import Cluster
from tests.slurm.submitted import Interpreter, Sweep

USER = "euler-container"
_INSIDE = Path("/opt/venv/bin/python")
# /dev/fuse may be closed to users; in a mount namespace of its own the cluster has one that is open, as clusters have
_OPEN_FUSE = """
set -e
folder=$(mktemp -d)
mount -t tmpfs -o mode=755,dev none "$folder"
mknod -m 666 "$folder/fuse" c 10 229
mount --bind "$folder/fuse" /dev/fuse
umount -l "$folder"
rmdir "$folder"
echo ready
exec sleep infinity
"""


@contextmanager
def open_fuse() -> Iterator[tuple[str, ...]]:
    """Yield the words that start a command where users may mount images."""
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _OPEN_FUSE]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline().strip() == "ready"
        yield ("nsenter", f"--target={holder.pid}", "--mount")
    finally:
        holder.kill()
        holder.wait()


@dataclass(frozen=True)
class Place:
    """What the user has.

    Attributes:
        entry: words that start a command on the machines of the cluster.
        image: the SIF.
        programs: folder with apptainer.
        python: interpreter of the login node, without torch.
    """

    entry: tuple[str, ...]
    image: Path
    programs: Path
    python: Path


class EnclosedSweep(Sweep):
    """Runs that train in an image.

    Args:
        cluster: where they run.
        folder: for all of it.
        cache: with the audio.
        place: what the user has.
    """

    def __init__(self, cluster: Cluster, folder: Path, cache: Path, place: Place) -> None:
        super().__init__(cluster, folder, cache, user=USER)
        self.place = place
        self.image = place.image
        self.interpreter = Interpreter(folder, program=_INSIDE)

    def arguments(self, *arguments: str, setup: Sequence[str] = ()) -> list[str]:
        """Return the command that submits."""
        words = super().arguments(
            f"container.image={self.image}",
            f"container.binds=[{self.folder}]",
            "container.args=[--contain]",  # else all of /tmp were there, and with it what the jobs are to be given
            *arguments,
            setup=setup,
        )
        return [str(self.place.python), *words[1:]]

    def command(
        self, command: Sequence[str], more: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command as the user on the login node; return what it printed."""
        own = {"HOME": str(self.folder), "USER": USER, "LOGNAME": USER}
        path = f"{self.place.programs}{os.pathsep}{os.environ['PATH']}"
        environment = self.environment() | own | {"PATH": path} | dict(more or {})
        become = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
        return subprocess.run(
            [*self.place.entry, *become, "env", "-C", cwd or self.checkout, *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )


def light_packages() -> Path:
    """Return the site-packages of `make env-submit`, built if it is not there."""
    subprocess.run(["make", "--silent", "env-submit"], cwd=ROOT, check=True)
    (found,) = (ROOT / ".venv-submit" / "lib").glob("python3*/site-packages")
    return found
