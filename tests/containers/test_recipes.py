"""Dockerfile and apptainer.def stay one recipe, and both are clean."""

import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.architecture.source_tree import ROOT
from tests.containers.recipes import DOCKER_ALONE, of_definition, of_dockerfile

CONTAINERS = ROOT / "containers"
DOCKERFILE = (CONTAINERS / "Dockerfile").read_text()
DEFINITION = (CONTAINERS / "apptainer.def").read_text()
PROGRAMS = Path(sys.executable).parent


def drift(dockerfile, definition):
    first, second = asdict(of_dockerfile(dockerfile)), asdict(of_definition(definition))
    return [name for name in first if first[name] != second[name]]


def test_no_drift():
    assert drift(DOCKERFILE, DEFINITION) == []


def test_all_is_read():
    """That two recipes are equal says little if what is in them was not seen."""
    recipe = of_dockerfile(DOCKERFILE)
    assert {"PATH", "WANDB_MODE", "PYTHONNOUSERSITE"} <= recipe.environment.keys()
    assert {"euler.lock", "euler.lock.name", "euler.torch"} <= recipe.labels.keys()
    assert ("pipeline", "/opt/euler/pipeline") in recipe.copied
    assert any("apt-get install" in command for command in recipe.commands)
    assert sum("fill_image.sh" in command for command in recipe.commands) == 2


CHANGES = {
    "package": ("python3-venv", "python3-venv gcc", ["commands"]),
    "command": ("/opt/euler/containers/fill_image.sh packages", "true", ["commands"]),
    "lock": ("requirements-build.lock", "requirements-dev.lock", ["copied"]),
    "variable": ("WANDB_MODE=", "WANDB_MODES=", ["environment"]),
    "value": ("LANG=C.UTF-8", "LANG=C", ["environment"]),
    "cache": ("/matplotlib", "/matplotlibs", ["environment"]),
    "label": ("euler.torch", "euler.torches", ["labels"]),
    "title": ("euler-audio-backbone", "euler", ["labels"]),
    "code": ("hydra_plugins /opt", "hydra_plugin /opt", ["copied"]),
}


@pytest.mark.parametrize(("before", "after", "seen"), CHANGES.values(), ids=CHANGES)
def test_drift_is_noticed(before, after, seen):
    assert before in DOCKERFILE and before in DEFINITION
    assert drift(DOCKERFILE.replace(before, after), DEFINITION) == seen
    assert drift(DOCKERFILE, DEFINITION.replace(before, after)) == seen


def test_an_added_line_is_drift():
    assert drift(DOCKERFILE + "RUN true\n", DEFINITION) == ["commands"]
    assert drift(DOCKERFILE + "ENV A=1\n", DEFINITION) == ["environment"]
    assert drift(DOCKERFILE, DEFINITION.replace("%labels\n", "%labels\n    a b\n")) == ["labels"]
    assert drift(DOCKERFILE, DEFINITION.replace("%post\n", "%post\n    true\n")) == ["commands"]


def test_an_apptainer_leaves_the_host_its_folders():
    assert not of_definition(DEFINITION).environment.keys() & DOCKER_ALONE


def test_no_secret_is_kept():
    """What the build is lent is mounted, never copied or given as an argument."""
    for text in (DOCKERFILE, DEFINITION):
        assert not re.search(r"(?i)(COPY|ARG|ENV)\s.*(pip\.conf|ca\.crt|token|password|index.url)", text)
    mounts = re.findall(r"target=(\S+)", DOCKERFILE)
    assert sorted(mounts) == ["/mnt/ca.crt", "/mnt/pip.conf", "/mnt/wheels"]


def scripts():
    named = subprocess.run(
        ["git", "ls-files", "*.sh", ".ci/run"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return named.stdout.split()


def test_shell_scripts_are_clean():
    assert {".ci/run", "slurm/job.sh", "containers/build.sh"} <= set(scripts())
    checked = subprocess.run(
        [PROGRAMS / "shellcheck", "-x", *scripts()], cwd=ROOT, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("recipe", ["containers/Dockerfile", "tests/containers/Dockerfile.tests"])
def test_dockerfiles_are_clean(recipe):
    command = [
        PROGRAMS / "hadolint",
        "--no-color",
        "--ignore",
        "DL3008",
        recipe,
    ]  # Debian's versions follow its fixes
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_the_checkers_find_something(tmp_path):
    (tmp_path / "a.sh").write_text("#!/bin/bash\nrm $1\n")
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN cd /tmp\n")
    assert subprocess.run([PROGRAMS / "shellcheck", tmp_path / "a.sh"], capture_output=True).returncode == 1
    assert (
        subprocess.run([PROGRAMS / "hadolint", tmp_path / "Dockerfile"], capture_output=True).returncode == 1
    )
