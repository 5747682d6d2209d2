"""What happens around the training step, one concern a file."""

LOSSES = "losses.jsonl"
"""File of a run directory: the losses of the first steps."""
