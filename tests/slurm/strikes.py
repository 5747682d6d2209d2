"""What a cluster does to running jobs, as functions of a sweep."""

from collections.abc import Callable

from tests.slurm.submitted import Sweep

Strike = Callable[[Sweep], None]


def preempt(sweep: Sweep) -> None:
    """Let a job that goes first take all nodes."""
    sweep.cluster.preempt()


def requeue(sweep: Sweep) -> None:
    """Send all jobs back into the queue, as an administrator does."""
    for job in sweep.cluster.running():
        sweep.cluster.ask("scontrol", "requeue", job)


def ask_to_save(sweep: Sweep) -> None:
    """Send the signal to save, as a user may."""
    for job in sweep.cluster.running():
        sweep.cluster.ask("scancel", "--signal=USR2", job)


def kill_node_1(sweep: Sweep) -> None:
    """Let the node die that the script and rank 0 run on."""
    sweep.cluster.kill("node1")
    sweep.cluster.revive("node1")


def kill_node_2(sweep: Sweep) -> None:
    """Let the other node die."""
    sweep.cluster.kill("node2")
    sweep.cluster.revive("node2")


def kill_rank_0(sweep: Sweep) -> None:
    """Kill the process that writes, with SIGKILL."""
    sweep.kill_rank(0)


def kill_rank_1(sweep: Sweep) -> None:
    """Kill another process, with SIGKILL."""
    sweep.kill_rank(1)


def preempt_once(sweep: Sweep) -> None:
    """Preempt the one job in its training; it saves, comes back once and completes."""
    sweep.wait_for_step(8)
    preempt(sweep)
    (job,) = sweep.cluster.end_of_jobs()
    assert job.state == "COMPLETED" and sweep.cluster.restarts(job.name) == 1
    sweep.check_nothing_lost()
