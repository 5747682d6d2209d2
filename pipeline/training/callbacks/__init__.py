"""What happens around the training step, one concern a file."""

LOSSES = "losses.jsonl"
"""File of a run directory: the losses of the first steps."""

RECORDED_STEPS = 200
"""Steps of a run whose losses are recorded."""

LOSSES_WRITTEN_EVERY = 20
"""Steps after which their losses are written: reading a loss makes a GPU wait, ten times in a run."""
