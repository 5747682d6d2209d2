"""Dockerfile and apptainer.def read into one form, so that what they do can be compared."""

import re
from dataclasses import dataclass

LOCAL_NAME = re.compile(r"/tmp/euler-\$\(id -u\)")
DOCKER_ALONE = {"HOME", "LOGNAME", "EULER_CACHE", "EULER_DATA", "EULER_RUNS"}
"""An Apptainer has the user, the home and the folders of the host."""


@dataclass(frozen=True)
class Recipe:
    """What an image is made of."""

    commands: tuple[str, ...]
    copied: frozenset[tuple[str, str]]
    environment: dict[str, str]
    labels: dict[str, str]
    arguments: frozenset[str]


def _plain(text: str) -> str:
    """Values that a builder fills in are `<NAME>` in both; quotes and spaces do not matter."""
    text = re.sub(r"\$\{(\w+)\}|\{\{ (\w+) \}\}", lambda found: f"<{found[1] or found[2]}>", text)
    return " ".join(text.replace('"', "").split())


def _instructions(dockerfile: str) -> list[tuple[str, str]]:
    lines = [line for line in dockerfile.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def _assignments(text: str) -> dict[str, str]:
    return {name: _plain(value) for name, value in re.findall(r'([\w.]+)=("[^"]*"|\S+)', text)}


def of_dockerfile(text: str) -> Recipe:
    """Read a Dockerfile."""
    commands: list[str] = []
    copied: set[tuple[str, str]] = set()
    environment: dict[str, str] = {}
    labels: dict[str, str] = {}
    arguments: set[str] = set()
    for word, rest in _instructions(text):
        if word == "RUN":
            script = re.sub(r"--mount=\S+", "", rest)
            commands += [_plain(command) for command in script.split("&&")]
        elif word == "COPY":
            *sources, target = _plain(rest).split()
            folder = target if target.endswith("/") else ""
            copied |= {
                (source, f"{folder}{source.rpartition('/')[2]}" if folder else target) for source in sources
            }
        elif word == "ENV":
            environment |= _assignments(rest)
        elif word == "LABEL":
            labels |= _assignments(rest)
        elif word == "ARG":
            arguments.add(rest.partition("=")[0])
    kept = {name: value for name, value in environment.items() if name not in DOCKER_ALONE}
    return Recipe(tuple(commands), frozenset(copied), kept, labels, frozenset(arguments))


def _sections(definition: str) -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {"": []}
    current = ""
    for line in definition.splitlines():
        if line.startswith("%"):
            current = line[1:].strip()
            sections[current] = []
        elif line.strip() and not line.lstrip().startswith("#"):
            sections[current].append(line.strip())
    return sections


def of_definition(text: str) -> Recipe:
    """Read an Apptainer definition."""
    sections = _sections(text)
    exports = [line.removeprefix("export ").partition("=") for line in sections["environment"]]
    environment = {name: LOCAL_NAME.sub("/tmp/euler", _plain(value)) for name, _, value in exports}
    environment = {
        name: re.sub(rf"^\$\{{{name}:-(.*)\}}$", r"\1", value) for name, value in environment.items()
    }
    labels = [_plain(line).partition(" ") for line in sections["labels"]]
    arguments = {line.partition("=")[0] for line in sections["arguments"]}
    return Recipe(
        tuple(_plain(line) for line in sections["post"]),
        frozenset((pair[0], pair[1]) for pair in (_plain(line).split() for line in sections["files"])),
        environment,
        {name: value for name, _, value in labels},
        frozenset(arguments - {"BOOTSTRAP"}),
    )
