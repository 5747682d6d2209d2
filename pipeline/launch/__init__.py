"""From a command line to running processes. Nothing here imports torch before a job runs."""
