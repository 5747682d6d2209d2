"""What `make doctor` looks at on this machine: software, devices, folders, audio, Weights & Biases."""

import fcntl
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from netrc import NetrcParseError, netrc
from pathlib import Path

from pipeline.data import AUDIO_EXTENSIONS
from pipeline.launch.slurm.finding import MISSING, NOTE, OK, Finding
from pipeline.launch.slurm.targets import runs_root

_ROOT = Path(__file__).resolve().parents[3]
_LOCKS = _ROOT / "containers"
_INSTALLED_FROM = Path(sys.prefix) / "euler-lock.json"  # written by containers/install.sh
_FOR_SUBMISSION = "requirements-submit.lock"
_PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^\s;]+)", re.MULTILINE)
_LEAST_PYTHON = (3, 11)
_GIB = 2**30
_LITTLE_GIB = 10.0
_TOO_LITTLE_GIB = 0.5
_MOST_FILES = 20_000  # looked at for audio; a large collection is not walked to its end
SHARED = (
    "nfs",
    "nfs4",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "panfs",
    "cifs",
    "afs",
    "fuse.glusterfs",
    "wekafs",
)
_VOLATILE = ("tmpfs", "ramfs")


def software() -> Iterator[Finding]:
    """Look at Python and at the packages that are pinned."""
    version = platform.python_version()
    if sys.version_info < _LEAST_PYTHON:
        yield Finding(
            MISSING, f"Python {version}: 3.11 or newer is needed", "make env PYTHON=python3.11", True
        )
    else:
        yield Finding(OK, f"Python {version}, {sys.executable}")
    lock = _LOCKS / (installed_from() or "requirements.in")
    wanted = {pin["name"]: pin["version"] for pin in _PIN.finditer(lock.read_text(encoding="utf-8"))}
    absent, other = [], []
    for name, pinned in wanted.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
            continue
        if found.partition("+")[0] != pinned.partition("+")[0]:  # +cpu, +cu130 are builds of one version
            other.append(f"{name} {found} instead of {pinned}")
    if absent:
        yield Finding(MISSING, f"packages: {', '.join(absent)}", "make env", True)
    if other:
        yield Finding(
            NOTE, f"packages: {', '.join(other)}", "make env; results may differ in their last bits"
        )
    if not absent and not other:
        yield Finding(OK, f"all {len(wanted)} packages as pinned in {lock.relative_to(_ROOT)}")


def installed_from() -> str:
    """Return the name of the lock that this environment was made from, empty if it does not say.

    Raises:
        OSError: its record cannot be read.
    """
    if not _INSTALLED_FROM.is_file():
        return ""
    return str(json.loads(_INSTALLED_FROM.read_bytes())["lock"])


def only_submits() -> bool:
    """Whether this environment can submit and look after jobs, and no more."""
    return installed_from() == _FOR_SUBMISSION


def devices() -> Iterator[Finding]:
    """Look at torch, the GPUs and their driver."""
    if only_submits():
        yield Finding(
            NOTE,
            "no torch in this environment, which only submits",
            "jobs bring it: container.image=PATH.sif",
        )
        return
    try:
        import torch  # slow, and nothing else here needs it
    except (ImportError, OSError) as error:
        yield Finding(MISSING, f"torch cannot be imported: {error}", "make env", True)
        return
    driver = Path("/proc/driver/nvidia/version")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    yield Finding(OK, f"torch {torch.__version__}, {os.cpu_count()} CPUs")
    if names and torch.cuda.is_available():
        yield Finding(
            OK, f"{len(names)} GPU(s): {', '.join(dict.fromkeys(names))}, CUDA {torch.version.cuda}"
        )
    elif driver.exists():
        build = "torch is a CPU build" if torch.version.cuda is None else "torch does not find its GPUs"
        yield Finding(
            MISSING, f"a driver is here, but {build}", "make env where pip finds the CUDA build of torch"
        )
    else:
        yield Finding(
            NOTE, "no GPU here: training runs on the CPU", "on a login node this is as it should be"
        )


def folders() -> Iterator[Finding]:
    """Look at the places that runs and caches are written to."""
    yield from _place("EULER_RUNS", runs_root(), "set EULER_RUNS to a folder of yours that all nodes share")
    cache = Path(os.environ.get("EULER_CACHE") or "~/.cache/euler_audio_backbone").expanduser().absolute()
    yield from _place("EULER_CACHE", cache, "set EULER_CACHE to a folder of yours that all nodes share")


def _place(name: str, folder: Path, remedy: str) -> Iterator[Finding]:
    existing = next(path for path in (folder, *folder.parents) if path.is_dir())
    try:
        with tempfile.NamedTemporaryFile(dir=existing) as file:
            problem = _lock_problem(file.fileno())
    except OSError as error:
        yield Finding(MISSING, f"{name}={folder}: cannot be written ({error.strerror})", remedy, True)
        return
    kind, free_gib = file_system(existing), shutil.disk_usage(existing).free / _GIB
    text = f"{name}={folder}: {kind}, {free_gib:.0f} GiB free"
    if free_gib < _TOO_LITTLE_GIB:
        yield Finding(MISSING, text, "make room there, or choose another place", True)
    elif problem:
        yield Finding(NOTE, f"{text}; {problem}", "start no run twice there: nothing would notice")
    elif kind in _VOLATILE:
        yield Finding(NOTE, f"{text}; this is memory, lost with the machine", remedy)
    elif free_gib < _LITTLE_GIB:
        yield Finding(NOTE, text, "make room before a long run")
    elif kind not in SHARED and shutil.which("sbatch"):
        yield Finding(
            NOTE, f"{text}; looks like a disk of this machine alone", f"if nodes do not see it, {remedy}"
        )
    else:
        yield Finding(OK, text)


def _lock_problem(descriptor: int) -> str:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return f"has no locks ({error.strerror})"
    return ""


def file_system(folder: Path) -> str:
    """Return the kind of file system that a folder lies on, as the kernel names it."""
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown"
    mounts = {line.split()[1].replace("\\040", " "): line.split()[2] for line in lines}
    resolved = folder.resolve()
    return next(
        (mounts[str(path)] for path in (resolved, *resolved.parents) if str(path) in mounts), "unknown"
    )


def audio() -> Iterator[Finding]:
    """Look at the user's audio."""
    given = os.environ.get("EULER_DATA")
    if not given:
        yield Finding(
            NOTE, "EULER_DATA is not set: the built-in corpus is used", "set it to a folder, then data=folder"
        )
        return
    folder = Path(given).expanduser().absolute()
    if not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK):
        yield Finding(
            MISSING, f"EULER_DATA={folder}: no folder that can be read", "set it to a folder of audio files"
        )
        return
    files = (Path(name) for _, _, names in os.walk(folder) for name in names)
    found = sum(path.suffix.lower() in AUDIO_EXTENSIONS for path in islice(files, _MOST_FILES))
    if found:
        yield Finding(OK, f"EULER_DATA={folder}: {found} or more audio files")
    else:
        yield Finding(
            MISSING, f"EULER_DATA={folder}: no audio files", "set it to a folder of wav, flac, mp3 or ogg"
        )


def wandb() -> Iterator[Finding]:
    """Look at Weights & Biases: installed, and with a key."""
    if only_submits():
        yield Finding(
            NOTE, "not in this environment, which only submits", "wandb login where make env was run"
        )
        return
    if importlib.util.find_spec("wandb") is None:
        yield Finding(MISSING, "wandb is not installed", "make env; until then trainer.logger=csv")
        return
    try:
        has_netrc = any("wandb" in host for host in netrc().hosts)
    except (OSError, NetrcParseError):
        has_netrc = False
    if os.environ.get("WANDB_MODE") == "offline":
        yield Finding(
            NOTE, "WANDB_MODE=offline: runs are logged here", "the end of a run prints how to upload it"
        )
    elif os.environ.get("WANDB_API_KEY") or has_netrc:
        yield Finding(OK, "a key is here; trainer.wandb.use_wandb=true uses it")
    else:
        yield Finding(
            NOTE, "no key: runs with trainer.wandb.use_wandb=true are logged offline", "wandb login"
        )
