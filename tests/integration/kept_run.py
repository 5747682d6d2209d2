"""Changes to the records of a finished run."""

import json


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def record(run, **changes):
    """Have the run say that it was made of something else."""
    path = run / "provenance.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def recorded(run, key):
    return json.loads((run / "provenance.json").read_text())[key]


def forget_losses(run):
    """All checks are made, and nothing is trained."""
    (run / "losses.jsonl").unlink()
