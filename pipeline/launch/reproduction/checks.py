"""Image, lock, packages, commit and configuration of a run, then and now."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config import compose
from pipeline.launch import surroundings
from pipeline.launch.attempt import file_digest
from pipeline.launch.checkout import diff_digest
from pipeline.launch.code import code_digest
from pipeline.launch.edited import edited_values, is_edited
from pipeline.launch.image import image
from pipeline.launch.provenance import ROOT, UNCOMMITTED, revision
from pipeline.launch.reproduction.finding import Finding, different, same, shown, unknown, was_is

_OLD = "not recorded: the run was begun by an earlier version"
_DEV_LOCK = "requirements-dev.lock"
_RUN_LOCKS = ("requirements-cpu.lock", "requirements-cuda.lock")
_IMAGE_FACTS = ("revision", "lock_sha256", "torch", "python", "base")
_SHOWN_DIGITS = 12


def check_image(run_dir: Path, record: Mapping[str, Any]) -> Finding:
    """Compare the container image that the run was trained in with the one that this process runs in."""
    if "image" not in record:
        return unknown("image", _OLD)
    then, now = record["image"], image()
    if then is None and now is None:
        return same("image", "none, the packages of this machine")
    if then is None or now is None:
        path = (then or {}).get("path") or "IMAGE"
        inside = f"apptainer exec {path} python -m pipeline.launch.reproduce {run_dir}"
        remedy = f"in that image: {inside}" if then else f"outside of any image: make reproduce RUN={run_dir}"
        return different("image", was_is("it", _name(then), _name(now)), remedy)
    if then.get("digest") and now.get("digest"):
        if then["digest"] == now["digest"]:
            return same("image", _name(now))
        return different("image", was_is("its digest", then["digest"], now["digest"]))
    for key in _IMAGE_FACTS:
        if then.get(key) != now.get(key):
            return different("image", was_is(f"its {key}", then.get(key), now.get(key)))
    return same("image", f"{_name(now)} (by its revision and lock: a digest is not known)")


def _name(facts: Mapping[str, Any] | None) -> str:
    if facts is None:
        return "no image"
    digest = facts.get("digest") or f"revision {shown(facts.get('revision'))}"
    return f"{facts.get('path') or 'an image'} ({digest})"


def check_lock(run_dir: Path, record: Mapping[str, Any]) -> Finding:
    """Compare the lock that the packages were installed from."""
    if "lock" not in record:
        return unknown("lock", _OLD)
    then, now = record["lock"], surroundings.lock(surroundings.packages())
    if then is None:
        return unknown("lock", "the packages of the run were installed from no lock that is known")
    remedy = f"build the environment of the run's commit: git checkout {_commit(record)}, then make env"
    if now is None:
        return different("lock", f"it was {_lock(then)}; these packages were installed from none", remedy)
    if (then["name"], then["sha256"]) != (now["name"], now["sha256"]):
        return different("lock", was_is("it", _lock(then), _lock(now)), remedy)
    notes = [
        f"the run's own packages were not those of its lock: {name}" for name in then.get("unlike") or ()
    ]
    return same("lock", _lock(now), *notes[:3])


def _lock(facts: Mapping[str, Any]) -> str:
    return f"{facts['name']} ({shown(facts['sha256'])[:_SHOWN_DIGITS]})"


def check_packages(run_dir: Path, record: Mapping[str, Any]) -> Finding:
    """Compare Python and every installed package; tools that no run imports may be absent."""
    then = record.get("packages")
    if not isinstance(then, dict):
        return unknown("packages", _OLD)
    now = surroundings.packages()
    then = surroundings.plain_names(then)
    remedy = "make env installs the versions of the lock anew once .venv is removed"
    if record.get("python") != (python := surroundings.python_version()):
        return different("packages", was_is("Python", record.get("python"), python), remedy)
    tools = _tools()
    missing_tools = [name for name in then if name not in now and name in tools]
    for name, version in then.items():
        if now.get(name) != version and name not in missing_tools:
            return different("packages", was_is(name, version, now.get(name, "missing")), remedy)
    notes = []
    if missing_tools:
        notes.append(f"{len(missing_tools)} development tools of the run are not installed here")
    if added := [name for name in now if name not in then]:
        notes.append(f"installed here and not then: {', '.join(added[:8])}")
    return same("packages", f"Python {python} and {len(then)} packages", *notes)


def _tools() -> set[str]:
    """Return the packages that the development lock adds."""
    runtime = {name for lock in _RUN_LOCKS for name in surroundings.pins(lock) or ()}
    return set(surroundings.pins(_DEV_LOCK) or ()) - runtime if runtime else set()


def check_commit(run_dir: Path, record: Mapping[str, Any]) -> Finding:
    """Compare the code: commit, uncommitted changes, and the files themselves."""
    then, now = record.get("git"), revision()
    if not isinstance(then, dict) or then.get("commit") is None:
        return unknown("commit", "not recorded: the run was begun outside of a checkout")
    if then["commit"] != now["commit"]:
        text = was_is("it", then["commit"], now["commit"])
        if _is_same_code(then):
            text += " (with the same train.py, pipeline/ and hydra_plugins/)"
        return different("commit", text, f"git checkout {then['commit']}")
    return _check_changes(run_dir, then, now["diff"])


def _check_changes(run_dir: Path, then: Mapping[str, Any], diff: str | None) -> Finding:
    commit = str(then["commit"])[:_SHOWN_DIGITS]
    kept = run_dir / UNCOMMITTED
    old = kept.read_bytes().decode("utf-8", errors="surrogateescape") if kept.is_file() else None
    old_digest = then.get("diff_sha256", diff_digest(old))
    if bool(then.get("dirty")) != bool(diff) or old_digest != diff_digest(diff):
        was, now = _files(old) if then.get("dirty") else "none", _files(diff)
        text = f"{commit} with other uncommitted changes: they were {was}, are {now}"
        if was == now:
            text = f"{commit} with other uncommitted changes, in {now}"
        aside = "git stash --include-untracked"
        remedy = f"{aside}, then git apply {kept}" if then.get("dirty") else aside
        return different("commit", text, remedy)
    if then.get("code_sha256") is not None and not _is_same_code(then):
        return different("commit", f"{commit}, but files that git does not track differ in pipeline/")
    return same("commit", commit + (" with the same uncommitted changes" if diff else ""))


def _is_same_code(then: Mapping[str, Any]) -> bool:
    return then.get("code_sha256") == code_digest(ROOT)


def _files(diff: str | None) -> str:
    """Return the files that a difference changes."""
    lines = (diff or "").splitlines()
    names = [line.rpartition(" b/")[2] for line in lines if line.startswith("diff --git ")]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "none"


def _commit(record: Mapping[str, Any]) -> str:
    return shown((record.get("git") or {}).get("commit"))


def check_config(run_dir: Path, record: Mapping[str, Any]) -> Finding:
    """Compare `config.yaml` with what it was when the run began; comments and order do not count."""
    edited = is_edited(run_dir, record)
    if edited is None:
        return unknown("config", _OLD)
    if not edited:
        return same("config", f"config.yaml as it was written, seed {record.get('seed')}")
    values = edited_values(run_dir, record)
    file = run_dir / "config.yaml"
    seed = compose.read(file).trainer.seed
    if values is None and record.get("seed") not in (None, seed):
        return different("config", was_is("trainer.seed", record["seed"], seed), f"put it back in {file}")
    if values is None:
        return different("config", f"{file} was edited; no copy as it was written is left to tell where")
    if not values:
        return same("config", f"every value of {file}", "config.yaml was edited, its values were not")
    key, was, now = values[0]
    others = f" (and {len(values) - 1} more keys)" if len(values) > 1 else ""
    return different("config", f"{was_is(key, was, now)}{others}", f"put it back in {file}")


def check_start(run_dir: Path, record: Mapping[str, Any]) -> Finding | None:
    """Compare the weights that the run began with; None for a run that began with its own."""
    weights = record.get("init_from")
    if weights is None:
        return None
    path = Path(weights["path"])
    if not path.is_file():
        return different("start", f"{path}: the weights that the run began with are gone", "put them back")
    if file_digest(path) != weights["sha256"]:
        return different("start", f"{path}: not the weights that the run began with")
    return same("start", f"the weights of {path}")
