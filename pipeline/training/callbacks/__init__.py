"""What happens around the training step, one concern a file."""
