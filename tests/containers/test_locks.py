"""The locks: every file by its hash, one set of versions, nothing of the machine that wrote them."""

import re

import pytest

from tests.architecture.source_tree import ROOT

CONTAINERS = ROOT / "containers"
NAMES = ("cuda", "cpu", "submit", "dev", "build")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
REQUIREMENT = re.compile(r"([a-z0-9._-]+)==([^ ;]+)")
LINE = re.compile(rf"({REQUIREMENT.pattern}|    {HASH.pattern})( \\)?")


def lock(name):
    return (CONTAINERS / f"requirements-{name}.lock").read_text()


def pins(text):
    return dict(found.groups() for found in map(REQUIREMENT.match, text.splitlines()) if found)


def hashes(text):
    """package -> its hashes."""
    found = {}
    for line in text.splitlines():
        if requirement := REQUIREMENT.match(line):
            current = found.setdefault(requirement[1], set())
        else:
            current.update(HASH.findall(line))
    return found


def strange_lines(text):
    """Lines that are neither a pinned package nor a hash: a host, a path, an option, a range of versions."""
    return [line for line in text.splitlines() if not LINE.fullmatch(line)]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_pins_with_hashes(name):
    assert strange_lines(lock(name)) == []
    assert pins(lock(name)) and all(hashes(lock(name)).values())


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://mirror/simple",
        "torch @ file:///wheels/torch.whl",
        "numpy>=2 \\",
        "    # via /home/me",
        "-e .",
    ],
)
def test_a_strange_line_is_found(line):
    assert strange_lines(lock("cpu") + line + "\n") == [line]


def test_cuda_and_cpu_differ_in_torch_alone():
    cuda, cpu = pins(lock("cuda")), pins(lock("cpu"))
    assert cpu.pop("torch") == cuda.pop("torch") + "+cpu"
    libraries = {name for name in cuda if name.startswith(("nvidia-", "cuda-"))} | {"triton"}
    assert {name: version for name, version in cuda.items() if name not in libraries} == cpu
    cuda_hashes, cpu_hashes = hashes(lock("cuda")), hashes(lock("cpu"))
    assert all(cpu_hashes[name] == cuda_hashes[name] for name in cpu)


@pytest.mark.parametrize("name", ["submit", "dev", "build"])
def test_the_others_agree(name):
    cuda, other = pins(lock("cuda")), pins(lock(name))
    assert {
        package: version for package, version in other.items() if cuda.get(package, version) != version
    } == {}


@pytest.mark.parametrize(
    ("name", "source"), [(name, f"-{name}") for name in NAMES[2:]] + [("cuda", ""), ("cpu", "")]
)
def test_what_is_asked_for_is_locked(name, source):
    lines = (CONTAINERS / f"requirements{source}.in").read_text().lower().splitlines()
    asked = [line.partition("==") for line in lines if line and not line.startswith("#")]
    locked = pins(lock(name))
    assert {package for package, _, _ in asked} <= locked.keys()
    assert all(locked[package].removesuffix("+cpu") == version for package, _, version in asked if version)


def test_submission_is_light():
    assert not pins(lock("submit")).keys() & {
        "torch",
        "pytorch-lightning",
        "deepspeed",
        "matplotlib",
        "wandb",
    }
