"""What SLURM says of jobs, from answers of a real one (22.05)."""

import pytest

from pipeline.launch.slurm.accounting import UNKNOWN, ask, expand


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("12", ["12"]),
        ("12_3", ["12_3"]),
        ("12_[3-5%2]", ["12_3", "12_4", "12_5"]),
        ("12_[0-4:2,7,9-10%3]", ["12_0", "12_2", "12_4", "12_7", "12_9", "12_10"]),
        ("12_[6]", ["12_6"]),
    ],
)
def test_tasks_that_are_written_as_one(name, tasks):
    assert list(expand(name)) == tasks


def test_one_question_to_each_for_any_number_of_jobs(slurm):
    slurm.jobs(*(f"12_{task} RUNNING" for task in range(200)), "7 PENDING Resources")
    jobs = ask([*(f"12_{task}" for task in range(200)), "7"]).jobs
    assert len(jobs) == 201 and jobs["7"].reason == "Resources" and jobs["12_199"].is_active
    assert sorted(line.split()[0] for line in slurm.asked) == ["sacct", "squeue"]
    assert all("--jobs=7,12" in line for line in slurm.asked)


def test_no_job_no_question(slurm):
    assert ask([]).jobs == {} and slurm.asked == []


def test_the_queue_tells_what_is_and_the_accounting_what_was(slurm):
    slurm.set(
        "squeue", "6_4|RUNNING|None\n6_3|PENDING|BeginTime\n6_1|FAILED|NonZeroExitCode\n6_5|COMPLETING|None\n"
    )
    slurm.set(
        "sacct",
        "6_0|COMPLETED|0:0\n6_1|FAILED|3:0\n6_2|FAILED|0:9\n6_3|REQUEUED|0:0\n6_4|RUNNING|0:0\n"
        "6_[7-8%2]|CANCELLED by 1000|0:15\n6_9|RUNNING|0:0\n",
    )
    jobs = ask(f"6_{task}" for task in range(11)).jobs
    assert {name: job.state for name, job in jobs.items()} == {
        "6_0": "COMPLETED",
        "6_1": "FAILED",
        "6_2": "FAILED",
        "6_3": "PENDING",  # requeued: the accounting speaks of the attempt before
        "6_4": "RUNNING",
        "6_5": "COMPLETING",
        "6_7": "CANCELLED",
        "6_8": "CANCELLED",
        "6_9": UNKNOWN,  # it has left the queue, and the accounting does not know it yet
    }
    assert {name for name, job in jobs.items() if job.is_active} == {"6_3", "6_4", "6_5"}
    assert (jobs["6_1"].code, jobs["6_2"].code, jobs["6_7"].code) == (3, 137, 143)


def test_an_array_that_was_cancelled_before_it_began(slurm):
    slurm.set("squeue", "", code=1, errors="slurm_load_jobs error: Invalid job id specified")
    slurm.set("sacct", "13|CANCELLED by 0|0:0\n")
    assert {job.state for job in ask(["13_0", "13_1"]).jobs.values()} == {"CANCELLED"}


def test_a_job_that_the_queue_has_forgotten(slurm):
    slurm.set("squeue", "", code=1, errors="slurm_load_jobs error: Invalid job id specified")
    slurm.set("sacct", "5|COMPLETED|0:0\n")
    answer = ask(["5"])
    assert answer.has_queue and answer.jobs["5"].state == "COMPLETED" and answer.notes == ()


def test_without_accounting(slurm):
    slurm.set("squeue", "5|FAILED|NonZeroExitCode\n6|RUNNING|None\n")
    slurm.set("sacct", "", code=1, errors="Slurm accounting storage is disabled")
    answer = ask(["5", "6", "7"])
    assert answer.jobs["5"].code is None and answer.jobs["6"].is_active and "7" not in answer.jobs
    assert answer.notes == (
        "no accounting (Slurm accounting storage is disabled); ended jobs are known from the run directories alone",
    )


def test_a_controller_that_does_not_answer(slurm):
    slurm.set("squeue", "", code=1, errors="Unable to contact slurm controller (connect failure)")
    slurm.set("sacct", "6|RUNNING|0:0\n")
    answer = ask(["6"])
    assert not answer.has_queue and answer.jobs["6"].is_active and "may lag" in answer.notes[0]


def test_no_slurm_at_all(no_slurm):
    answer = ask(["6"])
    assert answer.jobs == {} and not answer.has_queue
    assert answer.notes[0].startswith("SLURM cannot be asked here (squeue: No such file")
