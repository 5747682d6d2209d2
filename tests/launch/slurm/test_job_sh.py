"""slurm/job.sh: what comes of a job's end. Its life on a real SLURM is in tests/slurm."""

import re
import signal
import time
from datetime import UTC, datetime

import pytest

from tests.launch.slurm.batch_node import BatchNode


@pytest.fixture
def node(tmp_path):
    return BatchNode(tmp_path)


def test_a_run_that_is_finished(node):
    ended = node.live()
    assert (ended.code, ended.events) == (0, ["start localhost", "finished"])
    (step,) = node.calls("srun")
    assert step.endswith(f"python -m pipeline.launch.slurm.task {node.run}")
    assert "--kill-on-bad-exit=1" in step
    assert all(call.startswith("show") for call in node.calls("scontrol"))


def test_what_the_tasks_are_told(node):
    node.does("srun", "env > $NODE/told; pwd >> $NODE/told")
    node.live(
        SLURM_ARRAY_JOB_ID="12", SLURM_ARRAY_TASK_ID="3", SLURM_RESTART_COUNT="2", SLURM_CPUS_PER_TASK="5"
    )
    told = dict(line.split("=", 1) for line in (node.folder / "told").read_text().splitlines() if "=" in line)
    assert told["MASTER_ADDR"] == "localhost" and told["MASTER_PORT"].isdecimal()
    assert (told["EULER_JOB"], told["EULER_RESTART"]) == ("12_3", "2")
    assert told["PYTHONPATH"].startswith(told["EULER_CODE"]) and told["PYTHONSAFEPATH"] == "1"
    assert told["OMP_NUM_THREADS"] == told["SRUN_CPUS_PER_TASK"] == "5"


def test_a_genuine_error_ends_the_job_with_its_code(node):
    node.fails(143)
    ended = node.live()
    assert (ended.code, ended.events[-1]) == (3, "failed 3")
    assert not any(call.startswith("requeue") for call in node.calls("scontrol"))


def test_the_failure_of_an_earlier_attempt_counts_no_more(node):
    node.fails()
    node.live()
    node.does("srun", "exit 75")
    assert node.live(SLURM_RESTART_COUNT="1").events[-1] == "requeued stopped"


def test_a_failure_that_a_full_disk_has_cut_short(node):
    node.does("srun", f": > {node.run}/.job/failure; exit 1")
    assert node.live().code == 1


def test_the_time_of_an_event_is_there_while_signals_kill_every_command(node):
    node.does("date", "exit 140")
    before = datetime.now(UTC).replace(microsecond=0)
    node.live()
    lines = (node.run / ".job" / "history").read_text().splitlines()
    times = [datetime.fromisoformat(line.split("\t")[0]) for line in lines]
    assert len(times) == 2 and before <= min(times) <= max(times) <= datetime.now(UTC)


@pytest.mark.parametrize("code", [0, 75])
def test_what_set_up_lines_have_set_does_not_end_the_script(code, node):
    node.does("srun", f"exit {code}")
    ended = node.live(setup="set -euC -o pipefail; IFS=:")
    assert (ended.code, ended.events[-1]) == (code, "requeued stopped" if code else "finished")
    assert ended.errors.count("\n") == 2, ended.errors


@pytest.mark.parametrize(
    ("code", "reason"), [(75, "stopped"), (137, "killed by signal 9"), (1, "srun ended with 1")]
)
def test_anything_else_comes_back(code, reason, node):
    node.does("srun", f"exit {code}")
    ended = node.live()
    assert (ended.code, ended.events[-1]) == (code, f"requeued {reason}")
    assert "requeue 12" in node.calls("scontrol")
    assert node.calls("sleep")[-1] == "600", "SLURM ends it, not the script"


def test_the_reason_that_a_rank_gives(node):
    node.does("srun", f"echo 'stopped by SIGUSR2' > {node.run}/.job/reason; exit 143")
    assert node.live().events[-1] == "requeued stopped by SIGUSR2"


def test_a_task_of_an_array_is_never_named_by_its_raw_number(node):
    node.does("srun", "exit 75")
    node.live(SLURM_JOB_ID="15", SLURM_ARRAY_JOB_ID="12", SLURM_ARRAY_TASK_ID="3")
    assert "requeue 12_3" in node.calls("scontrol")
    assert node.calls("squeue") == ["-h -j 12_3 -o %T"] * 2


@pytest.mark.parametrize("state", ["COMPLETING", "CANCELLED", ""])
def test_what_slurm_has_decided_stays(state, node):
    node.does("srun", "exit 75")
    node.does("squeue", f"echo {state}")
    ended = node.live()
    assert (ended.code, ended.events[-1]) == (75, f"left {state or 'gone'}")
    assert not any(call.startswith("requeue") for call in node.calls("scontrol"))


def test_restarts_are_capped(node):
    node.does("srun", "exit 75")
    ended = node.live(SLURM_RESTART_COUNT="5", EULER_RESTARTS="4")
    assert ended.code == 75
    assert ended.events[-1] == "gave up stopped after 9 restarts (hydra.launcher.max_restarts)"


def test_returns_in_vain_are_capped_and_a_new_checkpoint_begins_anew(node):
    node.does("srun", "exit 137")
    checkpoint = node.run / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)

    def attempts(first, number):
        return [node.live(SLURM_RESTART_COUNT=str(first + each)).events[-1] for each in range(number)]

    assert attempts(0, 4) == ["requeued killed by signal 9"] * 4
    checkpoint.write_text("one")
    assert attempts(4, 4) == ["requeued killed by signal 9"] * 4
    (given_up,) = attempts(8, 1)
    assert given_up == "gave up killed by signal 9, 4 times in a row without a new checkpoint"
    # submitted again by hand
    assert attempts(0, 1) == ["requeued killed by signal 9"]


@pytest.mark.parametrize(("code", "reason"), [(75, "stopped"), (140, "killed by signal 12")])
def test_orders_to_stop_are_no_deaths(code, reason, node):
    node.does("srun", f"exit {code}")
    events = [node.live(SLURM_RESTART_COUNT=str(min(number, 8))).events[-1] for number in range(21)]
    assert events[:20] == [f"requeued {reason}"] * 20
    assert events[20] == f"gave up {reason}, 20 times in a row without a new checkpoint"


def test_checkpoints_elsewhere_count(node):
    node.does(
        "srun", f"echo {node.folder} > {node.run}/.job/checkpoints; date +%N > $NODE/last.ckpt; exit 137"
    )
    events = [node.live(SLURM_RESTART_COUNT=str(number)).events[-1] for number in range(7)]
    assert events == ["requeued killed by signal 9"] * 7


def test_a_requeue_that_fails_is_tried_again_and_replaced_by_a_successor(node):
    node.does("srun", "exit 75")
    node.does("scontrol", '[ "$1" != requeue ]')
    ended = node.live(SLURM_ARRAY_JOB_ID="12", SLURM_ARRAY_TASK_ID="3", EULER_RESTARTS="1")
    assert (ended.code, ended.events[-2:]) == (75, ["successor 77_3", "chained 77_3 stopped"])
    assert node.calls("scontrol").count("requeue 12_3") == 5
    (asked,) = node.calls("sbatch")
    assert "--dependency=afternotok:12_3 --kill-on-invalid-dep=yes --array=3" in asked


def test_nothing_of_slurm_works(node):
    node.does("srun", "exit 75")
    for command in ("scontrol", "sbatch", "squeue"):
        node.does(command, "exit 1")
    ended = node.live()
    assert ended.code == 75
    assert ended.events[-1] == "gave up stopped; neither scontrol requeue nor sbatch works here"


class TestChain:
    """A site that allows no requeueing."""

    def test_the_successor_is_there_before_the_training(self, node):
        node.does("srun", "cp $NODE/calls $NODE/before; exit 75")
        ended = node.live("chain")
        assert "sbatch --parsable" in (node.folder / "before").read_text()
        assert (ended.code, ended.events) == (75, ["start localhost", "successor 77", "chained 77 stopped"])
        assert len(node.calls("sbatch")) == 1

    def test_what_the_successor_is_told(self, node):
        node.does("sbatch", "env > $NODE/told; echo '77;cluster'")
        ended = node.live("chain", SLURM_RESTART_COUNT="1", EULER_RESTARTS="2", SLURM_CONF="/etc/slurm.conf")
        told = (node.folder / "told").read_text().splitlines()
        assert {"EULER_AFTER=12", "EULER_RESTARTS=4", "SLURM_CONF=/etc/slurm.conf"} <= set(told)
        assert not any(re.match("(SLURM_(?!CONF)|SRUN_|MASTER_)", line) for line in told)
        assert "successor 77" in ended.events

    @pytest.mark.parametrize("code", [0, 1])
    def test_it_is_cancelled_when_there_is_nothing_to_come_back_for(self, code, node):
        if code:
            node.fails(code)
        node.live("chain")
        assert node.calls("scancel") == ["77"]

    @pytest.mark.parametrize("state", ["CANCELLED", "CANCELLED by 0"])
    def test_a_successor_of_a_cancelled_job_ends(self, state, node):
        node.does("scontrol", "exit 1")
        node.does("sacct", f"echo ' {state} '")
        ended = node.live("chain", EULER_AFTER="11", EULER_RESTARTS="1")
        assert (ended.code, ended.events) == (0, ["left 11 was cancelled"])
        assert node.calls("scancel") == ["12"]

    def test_a_successor_of_a_failed_job_ends(self, node):
        node.fails()
        node.live("chain")
        ended = node.live("chain", EULER_AFTER="12", EULER_RESTARTS="1", SLURM_JOB_ID="77")
        assert ended.events[-1] == "left 12 has failed"
        assert len(node.calls("srun")) == 1

    def test_a_successor_of_a_job_that_was_killed_goes_on(self, node):
        node.does("scontrol", "echo '   JobState=NODE_FAIL Reason=None'")
        assert node.live("chain", EULER_AFTER="11", EULER_RESTARTS="1").events[-1] == "finished"

    def test_a_job_that_someone_requeues_keeps_its_successor(self, node):
        node.does("srun", "exit 75")
        node.live("chain")
        node.does("squeue", '[ "$3" = 77 ] && echo PENDING || echo RUNNING')
        assert node.live("chain", SLURM_RESTART_COUNT="1").events[-1] == "chained 77 stopped"
        assert len(node.calls("sbatch")) == 1


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# A training that saves when it is asked to, as srun would pass it on.
SAVES = """
trap 'echo saved > $NODE/saved; exit 75' USR2
touch $NODE/trains
while :; do /bin/sleep 0.1; done
"""


def test_a_signal_to_the_batch_script_alone_is_passed_on(node):
    node.does("srun", SAVES)
    process = node.start()
    wait_for(node.folder / "trains")
    process.send_signal(signal.SIGUSR2)
    process.communicate(timeout=60)
    assert (node.folder / "saved").exists()
    assert (process.returncode, node.events()[-1]) == (75, "requeued stopped")


def out_of_time(node):
    """A job at its limit: SLURM sends TERM to all, and the tasks need a while."""
    node.does("srun", "touch $NODE/trains; /bin/sleep 1; exit 75")
    node.does("squeue", "[ -e $NODE/over ] && echo COMPLETING TimeLimit || echo RUNNING")
    process = node.start()
    wait_for(node.folder / "trains")
    (node.folder / "over").touch()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    return process.returncode


def test_a_time_limit_without_a_warning_comes_back(node):
    assert out_of_time(node) == 75
    assert node.calls("scontrol").count("requeue 12") == 1
    assert node.events()[1] == "requeued out of time"


def test_other_terms_are_slurms_decision(node):
    node.does("srun", "touch $NODE/trains; /bin/sleep 1; exit 75")
    node.does("squeue", "echo COMPLETING None")
    process = node.start()
    wait_for(node.folder / "trains")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert node.events()[-1] == "left COMPLETING None"
    assert "requeue 12" not in node.calls("scontrol")


def test_it_is_part_of_a_batch_script(node):
    ended = node.start(SLURM_JOB_ID="")
    assert "which sbatch starts" in ended.communicate(timeout=60)[1]
    assert ended.returncode == 1
