"""slurm/in_image.sh: what a command in an image is given of the host, with a stand-in for apptainer."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.runs import ROOT

_STAND_IN = """#!/bin/bash
printf '%s\\n' "$@" > "$SEEN/arguments"
env > "$SEEN/environment"
pwd > "$SEEN/cwd"
exit 75
"""


@pytest.fixture
def host(tmp_path):
    """Runs in_image.sh; returns the finished process and the folder with what apptainer has seen."""
    seen, run, image = tmp_path / "seen", tmp_path / "my run", tmp_path / "the image.sif"
    for folder in (seen, run, tmp_path / "bin"):
        folder.mkdir()
    image.write_text("an image\n")
    program = tmp_path / "bin" / "apptainer"
    program.write_text(_STAND_IN)
    program.chmod(0o755)

    def enter(*words, run=run, **variables):
        environment = {
            "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
            "SEEN": str(seen),
            "EULER_IMAGE": str(image),
            "EULER_CODE": str(ROOT),
            "SLURM_JOB_ID": "12",
            **variables,
        }
        script = ROOT / "slurm" / "in_image.sh"
        command = ["bash", script, str(run), *words, "--", "python", "-m", "a module"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    enter.seen, enter.run, enter.image = seen, run, image
    return enter


def failure(host):
    return json.loads((host.run / ".job" / "failure").read_text())


def test_the_command_and_its_exit_code(host):
    assert host("--nv", "--bind=/x:/y").returncode == 75
    words = (host.seen / "arguments").read_text().splitlines()
    assert words[:3] == ["--quiet", "exec", "--cleanenv"]
    assert words[-4:] == [str(host.image), "python", "-m", "a module"]
    assert {"--nv", "--bind=/x:/y"} <= set(words)
    assert (host.seen / "cwd").read_text().strip() == str(host.run)


def test_folders(host, tmp_path):
    """What is written to is made, what is read is left out where it is not there; no sign in a path means anything."""
    odd, data, absent = tmp_path / 'a,b:c "d"', tmp_path / "data", tmp_path / "absent"
    data.mkdir()
    host(f"--folder={odd}", f"--data={data}", f"--data={absent}")
    words = (host.seen / "arguments").read_text()
    assert odd.is_dir() and not absent.exists() and str(absent) not in words
    quoted = str(odd).replace('"', '""')
    assert f'type=bind,"src={quoted}","dst={quoted}"\n' in words
    assert f'type=bind,"src={data}","dst={data}",ro\n' in words
    for folder in (host.run, ROOT):
        assert f'type=bind,"src={folder}","dst={folder}"\n' in words


def test_the_environment(host, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    passed = {
        "SLURM_PROCID": "3",
        "MASTER_ADDR": "node 1",
        "EULER_JOB": "12_3",
        "NCCL_DEBUG": "WARN",
        "GLOO_SOCKET_IFNAME": "ib0",
        "OMP_NUM_THREADS": "4",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "WANDB_MODE": "offline",
        "TMPDIR": str(scratch),
    }
    host(**passed, PYTHONPATH="/host", LD_LIBRARY_PATH="/host", PYTHONHOME="/host", CONDA_PREFIX="/host")
    lines = (host.seen / "environment").read_text().splitlines()
    told = dict(line.removeprefix("APPTAINERENV_").split("=", 1) for line in lines if "APPTAINERENV_" in line)
    assert {name: told.get(name) for name in passed} == passed
    assert told["PYTHONPATH"] == str(ROOT) and told["PYTHONNOUSERSITE"] == "1"
    assert not {"LD_LIBRARY_PATH", "PYTHONHOME", "CONDA_PREFIX", "PATH", "HOME"} & told.keys()
    assert f'"src={scratch}"' in (host.seen / "arguments").read_text()


def test_without_apptainer(host):
    ended = host(EULER_APPTAINER="/no/such/apptainer")
    assert ended.returncode == 1
    assert "container.executable=/no/such/apptainer: no such program" in failure(host)["reason"]
    assert failure(host)["code"] == 1 and "site.setup" in ended.stderr


def test_without_the_image(host):
    host.image.unlink()
    assert host().returncode == 1
    assert "no file that can be read" in failure(host)["reason"]


def test_the_first_error_stays(host):
    """Several tasks fail alike: one of them writes it down."""
    for rank in ("0", "1"):
        host(EULER_APPTAINER='/no/"such"', SLURM_PROCID=rank)
    assert failure(host)["rank"] == 0 and '/no/"such"' in failure(host)["reason"]


def test_an_error_is_whole_whatever_a_path_holds(host):
    host(EULER_APPTAINER='/no/a\tb\nc\\d"e')
    assert '/no/a b c\\d"e: no such program' in failure(host)["reason"]


@pytest.mark.parametrize("words", [(), ("-",), ("-", "--nv"), ("-", "--nv", "--")])
def test_no_command(words, tmp_path):
    script = ROOT / "slurm" / "in_image.sh"
    ended = subprocess.run(["bash", script, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and "-- and a command are missing" in ended.stderr


def test_a_check_without_a_run(host):
    ended = host(run="-", EULER_APPTAINER="/no/such/apptainer")
    assert ended.returncode == 1 and "no such program" in ended.stderr
    assert not (host.run / ".job").exists()


def test_what_holds_the_images_files_hears_no_signal(tmp_path):
    program = tmp_path / "sleep"
    program.symlink_to(ROOT / "slurm" / "shielded" / "squashfuse_ll")
    with subprocess.Popen([program, "30"], env={}) as process:
        while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
            assert process.poll() is None
        while not Path(os.readlink(f"/proc/{process.pid}/exe")).name.startswith("sleep"):
            assert process.poll() is None
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.kill()
    ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
    deaf_to = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    assert all(ignored & 1 << number - 1 for number in deaf_to)
