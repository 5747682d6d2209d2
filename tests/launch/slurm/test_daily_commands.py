"""The commands of daily work, as `make` starts them."""

import csv
import subprocess
import sys

import pytest

from pipeline.launch.slurm.sweep import Sweep
from tests.architecture.source_tree import ROOT
from tests.config.command_line import HEAVY
from tests.launch.slurm.recorded import failure, finished, history, progress, submit, want


def run(command, *arguments, code=0):
    """What a command prints, and what it says besides."""
    ended = subprocess.run(
        [sys.executable, "-m", f"pipeline.launch.slurm.{command}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout if code == 0 else ended.stderr


@pytest.fixture
def sweep(tmp_path, slurm, monkeypatch):
    monkeypatch.setenv("EULER_RUNS", str(tmp_path / "runs"))
    home = tmp_path / "runs" / "default" / "sweep_1"
    submit(home, *(want(seed, "model=SEANet_real_small") for seed in range(4)))
    finished(home / "0")
    progress(home / "1", "running", updated="2126-01-01T00:00:00+00:00")
    failure(home / "3", "12_3", 1, "DataError: data.root: no such folder")
    history(home / "1", "12_1 0 start node1", "12_1 0 requeued saved, to go on", "12_1 1 start node2")
    slurm.jobs("12_0 COMPLETED", "12_1 RUNNING", "12_2 PENDING Priority", "12_3 FAILED 1:0")
    return home


def cells(line):
    return line.split()


class TestStatus:
    @pytest.mark.parametrize("arguments", [(), ("--sweep",)])
    def test_a_sweep(self, arguments, sweep):
        title, headings, *rows = run("status", *arguments, *([sweep] if arguments else [])).splitlines()
        assert title == f"{sweep}: 4 runs: 1 finished, 1 running, 1 queued, 1 failed"
        assert cells(headings) == "run overrides state step epoch steps/s best restarts job reason".split()
        assert cells(rows[0]) == "0 trainer.seed=0 finished 80/80 8/8 val/sisdr 3.250 12_0".split()
        assert cells(rows[1])[:9] == "1 trainer.seed=1 running 40/80 4/8 2.50 val/sisdr 3.250 1".split()
        assert rows[1].endswith("12_1  requeued saved, to go on")
        assert cells(rows[2]) == "2 trainer.seed=2 queued 12_2 Priority".split()
        assert rows[3].endswith("12_3  DataError: data.root: no such folder")

    def test_one_run_has_all_its_overrides(self, sweep):
        _, _, row = run("status", "--run", sweep / "2").splitlines()
        assert "trainer.seed=2 model=SEANet_real_small" in row

    def test_a_run_that_records_nothing_any_more(self, sweep):
        progress(sweep / "1", "running")
        assert "no progress for" in run("status", "--run", sweep / "1")

    def test_runs_that_were_not_submitted(self, tmp_path, slurm):
        for number in (0, 10, 2):
            folder = tmp_path / "local" / str(number)
            finished(folder)
            (folder / ".hydra").mkdir()
            (folder / ".hydra" / "overrides.yaml").write_text(
                f"- trainer.seed={number}\n- model=a\n", encoding="utf-8"
            )
            (folder / "config.yaml").touch()
        rows = run("status", "--sweep", tmp_path / "local").splitlines()[2:]
        assert [cells(row)[:3] for row in rows] == [
            [str(number), f"trainer.seed={number}", "finished"] for number in (0, 2, 10)
        ]
        assert slurm.asked == []

    def test_no_runs(self, tmp_path, no_slurm, monkeypatch):
        monkeypatch.setenv("EULER_RUNS", str(tmp_path))
        assert run("status").startswith(f"no sweep in {tmp_path}; ")
        assert "no sweep; valid: a folder of runs" in run("status", "--sweep", tmp_path, code=1)
        assert "no run; valid: a run directory" in run("status", "--run", tmp_path, code=1)

    def test_without_slurm(self, sweep, no_slurm, monkeypatch):
        monkeypatch.setenv("PATH", str(no_slurm))
        output = run("status", "--sweep", sweep)
        assert "1 finished" in output and "1 failed" in output and "2 unknown" in output

    def test_it_loads_nothing_heavy(self, sweep):
        """Two hundred runs are to be told in less than two seconds, the start of Python included."""
        heavy = {*HEAVY, "hydra", "omegaconf", "pydantic", "rich"}
        script = (
            "import runpy, sys; sys.argv = ['status', '--sweep', sys.argv[1]]\n"
            "try:\n    runpy.run_module('pipeline.launch.slurm.status', run_name='__main__')\n"
            f"finally:\n    assert not {heavy!r} & set(sys.modules)\n"
        )
        command = [sys.executable, "-c", script, str(sweep)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stderr
        assert "4 runs" in ended.stdout


class TestLogs:
    def test_the_newest_job_or_the_first_rank(self, sweep):
        logs = sweep / "logs"
        logs.mkdir()
        (logs / "12_1.log").write_text("said by the job\n" * 5, encoding="utf-8")
        (sweep / "1" / "logs").mkdir()
        for rank in (0, 1):
            (sweep / "1" / "logs" / f"rank-{rank}.log").write_text(f"said by rank {rank}\n", encoding="utf-8")
        output = run("show_logs", "--run", sweep / "1", "--lines", 2)
        assert output.count("said by the job") == 2 and "rank" not in output
        assert f"==> {logs / '12_1.log'} <==" in output
        (logs / "12_1.log").unlink()
        output = run("show_logs", "--run", sweep / "1", "--lines", 2)
        assert "said by rank 0" in output and "rank 1" not in output

    def test_none_yet(self, sweep):
        assert "no log yet; its job 12_2 has not begun" in run("show_logs", "--run", sweep / "2", code=1)


class TestResume:
    def test_the_same_script_for_the_same_task(self, sweep, slurm):
        slurm.set("sbatch", "77\n")
        assert "submitted as job 77_3" in run("resume_run", "--run", sweep / "3")
        script = sweep / "scripts" / "0.sh"
        assert slurm.asked[-1] == f"sbatch --parsable --array=3 {script}"
        point = Sweep.open(sweep).points[3]
        assert point.jobs == ("12_3", "77_3")
        assert point.submissions[-1].log == str(sweep / "logs" / "77_3.log")

    @pytest.mark.parametrize(
        ("number", "reason"),
        [
            (0, "has finished its horizon; launch it again with a larger trainer.trainer.max_epochs"),
            (1, "job 12_1 is running (requeued saved, to go on); make cancel RUN="),
            (2, "job 12_2 is queued (Priority); make cancel RUN="),
        ],
    )
    def test_refused(self, number, reason, sweep, slurm):
        slurm.set("sbatch", "77\n")
        assert reason in run("resume_run", "--run", sweep / str(number), code=1)
        assert not any(line.startswith("sbatch") for line in slurm.asked)
        assert len(Sweep.open(sweep).points[number].jobs) == 1

    def test_a_run_that_was_not_submitted(self, tmp_path, slurm):
        (tmp_path / "config.yaml").touch()
        assert f"python train.py run.resume={tmp_path}" in run("resume_run", "--run", tmp_path, code=1)

    def test_a_sweep_that_was_moved(self, sweep):
        moved = sweep.rename(sweep.with_name("sweep_2"))
        assert "launch the run again instead" in run("resume_run", "--run", moved / "3", code=1)

    def test_slurm_refuses(self, sweep, slurm):
        slurm.set("sbatch", "", code=1, errors="sbatch: error: Batch job submission failed")
        assert "Batch job submission failed" in run("resume_run", "--run", sweep / "3", code=1)
        assert len(Sweep.open(sweep).points[3].jobs) == 1


class TestCancel:
    def test_a_run_and_its_successor_first(self, sweep, slurm):
        history(sweep / "1", "12_1 0 start node1", "12_1 0 successor 15_1")
        slurm.jobs("12_1 RUNNING", "15_1 PENDING Dependency")
        slurm.set("scancel", "")
        assert run("cancel", "--run", sweep / "1") == "cancelled: 15_1, 12_1\n"
        assert [line for line in slurm.asked if line.startswith("scancel")] == ["scancel 15_1 12_1"]

    def test_a_sweep(self, sweep, slurm):
        slurm.set("scancel", "")
        assert run("cancel", "--sweep", sweep) == "cancelled: 12_1, 12_2\n"

    def test_nothing_to_cancel(self, sweep):
        assert run("cancel", "--run", sweep / "0").startswith("nothing to cancel")

    def test_without_slurm(self, sweep, no_slurm, monkeypatch):
        monkeypatch.setenv("PATH", str(no_slurm))
        assert "on a login node" in run("cancel", "--sweep", sweep, code=1)


class TestSweepTable:
    @pytest.fixture(autouse=True)
    def measured(self, sweep):
        for number, values in enumerate([(9.0, 1.0, 2.0), (0.0, 5.0, 4.0), (0.0, 3.0, 3.0)]):
            rows = [f"{step},0,,{value},{-value}" for step, value in zip((0, 10, 20), values, strict=True)]
            text = "\n".join(["step,epoch,train/loss,val/sisdr,val/mel", "5,0,1.5,,", *rows, "30,0,1.0,7"])
            (sweep / str(number) / "metrics.csv").write_text(text, encoding="utf-8")

    def test_best_first(self, sweep):
        """The highest; the untrained model, which would win at run 0, takes no part, nor does a row cut short."""
        headings, *rows, written = run("sweep_table", "--sweep", sweep).splitlines()
        assert cells(headings)[:5] == ["run", "trainer.seed", "best", "val/sisdr", "at"]
        assert [cells(row)[:5] for row in rows[:3]] == [
            ["1", "1", "5", "10", "4"],
            ["2", "2", "3", "10", "3"],
            ["0", "0", "2", "20", "2"],
        ]
        assert cells(rows[3]) == ["3", "3", "failed"]
        assert written == f"written to {sweep / 'table.csv'}"
        table = list(csv.DictReader((sweep / "table.csv").open(encoding="utf-8")))
        assert [row["run"] for row in table] == ["1", "2", "0", "3"]
        assert table[0]["trainer.seed"] == "1" and table[0]["directory"] == str(sweep / "1")

    def test_of_a_distance_the_lowest_is_best(self, sweep):
        rows = run("sweep_table", "--sweep", sweep, "--metric", "val/mel").splitlines()[1:]
        assert [cells(row)[2] for row in rows[:3]] == ["-5", "-3", "-2"]

    def test_a_loss(self, sweep):
        rows = run("sweep_table", "--sweep", sweep, "--metric", "train/loss").splitlines()[1:]
        assert cells(rows[0])[2:4] == ["1.5", "5"]

    def test_a_column_without_values(self, sweep):
        for number in range(3):
            text = "step,epoch,train/loss,val/sisdr\n5,0,1.5,\n"
            (sweep / str(number) / "metrics.csv").write_text(text, encoding="utf-8")
        said = run("sweep_table", "--sweep", sweep, "--metric", "val/sisdr").splitlines()
        assert [cells(row)[:2] for row in said[1:5]] == [[number, number] for number in "0123"]
        assert said[5] == "val/sisdr: no values yet"
        table = list(csv.DictReader((sweep / "table.csv").open(encoding="utf-8")))
        assert [row["best val/sisdr"] for row in table] == [""] * 4

    def test_an_unknown_metric(self, sweep):
        said = run("sweep_table", "--sweep", sweep, "--metric", "val/sdr", code=1)
        assert "METRIC=val/sdr: not measured in these runs; valid: train/loss, val/mel, val/sisdr" in said
