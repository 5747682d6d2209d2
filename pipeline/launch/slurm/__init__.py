"""Runs as SLURM jobs: submitted, brought back, looked after."""
