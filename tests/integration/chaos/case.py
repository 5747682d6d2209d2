"""Runs one case: start, strike, start again until the run has ended, compare."""

import logging
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.integration.chaos import processes
from tests.integration.chaos.observer.chaos_observer import Observation
from tests.integration.chaos.outcome import Hit, Result
from tests.integration.chaos.plan import ANY, Case, Strike
from tests.integration.chaos.session import (
    Forked,
    Preloaded,
    Scratch,
    Session,
    environment,
    plain_environment,
)

RESUME_EXIT_CODE = 75
_SESSION_S = 180.0
_MOST_SESSIONS = 40
_VANISH_S = 10.0
_POLL_S = 0.001
_MOST_STEPS_TO_STOP = 2  # several ranks decide one step late
_CHECKER = Path(__file__).with_name("checker.py")
_log = logging.getLogger("chaos")


class Refuted(AssertionError):
    """The run did not do what was promised; the message says what."""


class CaseRun:
    """One case in a folder of its own.

    Args:
        case: what to do.
        folder: a new folder for all of it.
        baseline: run directory of the uninterrupted run.
        cache: with the audio.
        server: forks the runs.
    """

    def __init__(self, case: Case, folder: Path, baseline: Path, cache: Path, server: Preloaded) -> None:
        self.result = Result(case)
        self._case, self._folder, self._baseline = case, folder, baseline
        self._cache, self._server = cache, server
        self._marker = f"{folder.parent.name}-{folder.name}"
        self._sessions: list[Session] = []
        self._hit_sessions: list[int] = []
        folder.mkdir(parents=True)

    def run(self) -> Result:
        """Carry the case out; the verdict says what was wrong."""
        began = time.monotonic()
        try:
            self._train_to_the_end()
            self._check_losses()
            self._check_remains()
            self._compare()
        except Refuted as error:
            self.result.verdict = str(error)
            self.result.details = self._sessions[-1].text[-3000:] if self._sessions else ""
        finally:
            for session in self._sessions:
                session.kill_all()
                session.wait(_VANISH_S)
        self.result.seconds = time.monotonic() - began
        if self.result.is_equal:
            shutil.rmtree(self._folder)
        return self.result

    def _train_to_the_end(self) -> None:
        strikes = list(self._case.strikes)
        for _ in range(_MOST_SESSIONS):
            session = self._start()
            strike = strikes.pop(0) if strikes else None
            if strike is not None and _await(session, strike):
                seen = self._hit(session, strike)
                if self._note_end(session, strike, seen):
                    self._break_if_planned()
                    continue
                return
            code = session.wait(_SESSION_S)
            if code == 0:
                return
            if code != RESUME_EXIT_CODE:
                raise Refuted("hangs" if code is None else f"session {len(self._sessions)} ended with {code}")
        raise Refuted(f"not finished after {_MOST_SESSIONS} sessions")

    def _start(self) -> Session:
        number = len(self._sessions) + 1
        stages, output = self._folder / f"stages-{number}", self._folder / f"output-{number}.log"
        stages.mkdir()
        variables = environment(self._cache, self._folder / "runs", self._marker, stages)
        if number > 1 and self._case.broken:
            variables["EULER_CHAOS_BREAK"] = self._case.broken
        arguments = self._arguments()
        output.touch()
        root: Forked | Scratch
        if self._case.is_forked:
            root = self._server.start(arguments, variables, output)
        else:
            root = Scratch(arguments, variables, output)
        session = Session(root, stages, output, self._marker, self._case.configuration.is_parallel)
        self._sessions.append(session)
        self.result.restarts = number - 1
        return session

    def _arguments(self) -> tuple[str, ...]:
        """Return the first command, or how the run goes on; one killed before its directory was made begins anew."""
        run_dir = self._folder / "run"
        first = self._case.configuration.arguments
        if self._case.resume == "auto, no dir":
            return (*first, "run.resume=auto")
        if self._case.resume == "auto":
            return (*first, f"run.dir={run_dir}", "run.resume=auto")
        if (run_dir / "config.yaml").exists():
            return (f"run.resume={run_dir}",)
        return (*first, f"run.dir={run_dir}")

    def _hit(self, session: Session, strike: Strike) -> Observation | None:
        """Send the signal, and return what the process did when it got it."""
        seen = session.observe(strike.rank)
        first = session.root.process
        if strike.how == "job" or strike.how.startswith("rank"):
            first = session.process_of(strike.rank) or first
        processes.send(first, strike.number)
        if strike.is_kill:
            seen = session.observe(strike.rank)
        if strike.how in ("job", "all"):
            others = [member.process for member in session.members() if member.process != first]
            random.Random(first).shuffle(others)
            for process in others:
                processes.send(process, strike.number)
        if strike.how == "job":
            session.kill_all()
        return seen

    def _note_end(self, session: Session, strike: Strike, seen: Observation | None) -> bool:
        """Wait for the end that the strike brings; return whether there is something to go on with."""
        code = session.wait(_SESSION_S)
        if code is None:
            raise Refuted(f"hangs after {strike.number.name} of {strike.how}")
        if code == 0:
            self._check_lateness(session, strike, seen)
            return False
        if not strike.is_kill:
            expected = RESUME_EXIT_CODE
        elif strike.how.startswith("rank"):
            expected = 1
        else:
            expected = -signal.SIGKILL
        if code != expected:
            raise Refuted(f"exit code {code} after {strike.number.name} of {strike.how}, not {expected}")
        if expected == 1 and f"{strike.how} was killed by signal SIGKILL" not in session.text:
            raise Refuted(f"the message does not name {strike.how}")
        self.result.hits.append(Hit(strike, seen))
        self._hit_sessions.append(len(self._sessions) - 1)
        return True

    def _check_lateness(self, session: Session, strike: Strike, seen: Observation | None) -> None:
        """Check that a run which ended all the same was about to end."""
        last = session.observe(strike.rank)
        if seen is None or last is None or last.step - seen.step > _MOST_STEPS_TO_STOP:
            raise Refuted(f"went on to its end after {strike.number.name} of {strike.how}")

    def _break_if_planned(self) -> None:
        if self._case.broken != "seed":
            return
        config = self._folder / "run" / "config.yaml"
        text, found = re.subn(
            r"(?m)^(  seed: )(\d+)$", lambda m: f"{m[1]}{int(m[2]) + 1}", config.read_text(encoding="utf-8")
        )
        assert found == 1, "one seed is written in config.yaml"
        config.write_text(text, encoding="utf-8")

    def _check_losses(self) -> None:
        """Compare where each session began with where the one before had come to."""
        spans = [session.observe(0) for session in self._sessions]
        for hit, index in zip(self.result.hits, self._hit_sessions, strict=True):
            now = spans[index]
            after = next((span for span in spans[index + 1 :] if span and span.first_step >= 0), None)
            if now is None or now.first_step < 0 or after is None:
                continue
            hit.lost = now.step - after.first_step
            if hit.strike.is_kill:
                continue
            said = re.search(r"saved up to step (\d+)", self._sessions[index].text)
            if hit.lost or said is None or int(said[1]) != now.step:
                saved = "nothing" if said is None else said[1]
                raise Refuted(f"trained {now.step} steps, said {saved}, went on at {after.first_step}")

    def _check_remains(self) -> None:
        for session in self._sessions:
            if left := processes.wait_for_none(self._marker, session.root.process, _VANISH_S):
                raise Refuted(f"{len(left)} processes are left")
        files = sorted(path.name for path in self._run_dir().glob("checkpoints/*.tmp"))
        if files:
            raise Refuted(f"left in checkpoints: {', '.join(files)}")

    def _run_dir(self) -> Path:
        if self._case.resume != "auto, no dir":
            return self._folder / "run"
        found = [file.parent.parent for file in (self._folder / "runs").rglob("checkpoints/last.ckpt")]
        if len(found) != 1:
            raise Refuted(f"{len(found)} runs have checkpoints, not one")
        return found[0]

    def _compare(self) -> None:
        command = [sys.executable, str(_CHECKER), str(self._baseline), str(self._run_dir())]
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.result.details = ended.stdout[:3000]
        self.result.verdict = "equal" if ended.returncode == 0 else "differs"


def _await(session: Session, strike: Strike) -> bool:
    """Wait for the moment of a strike; return False where the run ends before it."""
    deadline = time.monotonic() + _SESSION_S
    while not (_is_ready(session, strike) and _is_due(session, strike)):
        if session.root.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    time.sleep(strike.delay_s)
    return session.root.poll() is None


def _is_ready(session: Session, strike: Strike) -> bool:
    """Return whether a graceful signal would find its handler; before that, the interpreter itself starts."""
    if strike.is_kill:
        return True
    process = session.process_of(strike.rank) if strike.how.startswith("rank") else session.root.process
    return process is not None and processes.catches(process, signal.SIGTERM)


def _is_due(session: Session, strike: Strike) -> bool:
    if strike.stage in ("set-up", ANY):
        return not strike.how.startswith("rank") or session.process_of(strike.rank) is not None
    seen = session.observe(strike.rank)
    return seen is not None and seen.count(strike.stage) >= strike.occurrence and seen.is_in(strike.stage)


def run_baseline(arguments: tuple[str, ...], folder: Path, cache: Path) -> Path:
    """Train without any interruption, from scratch and unobserved; return the run directory.

    Raises:
        RuntimeError: the run failed.
    """
    folder.mkdir(parents=True)
    run = Scratch(
        (*arguments, f"run.dir={folder / 'run'}"),
        plain_environment(cache, folder / "runs"),
        folder / "output.log",
    )
    deadline = time.monotonic() + _SESSION_S
    while (code := run.poll()) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if code != 0:
        text = (folder / "output.log").read_text(encoding="utf-8", errors="replace")
        processes.send(run.process, signal.SIGKILL)
        raise RuntimeError(f"the uninterrupted run ended with {code}:\n{text[-3000:]}")
    return folder / "run"
