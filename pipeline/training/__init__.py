"""Training: the step, optimiser, schedule, checkpoints and callbacks. Imports no torch."""
