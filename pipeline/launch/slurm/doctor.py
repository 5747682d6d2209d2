"""`make doctor`: what training and submitting need here, what is missing, and what to do about it."""

import argparse
import sys
from collections.abc import Callable, Iterator

from pipeline.launch.slurm import examine_cluster, examine_images, examine_machine
from pipeline.launch.slurm.cli import run_command, say
from pipeline.launch.slurm.finding import MISSING, Finding

_PARTS: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
    ("software", examine_machine.software),
    ("devices", examine_machine.devices),
    ("folders", examine_machine.folders),
    ("data", examine_machine.audio),
    ("Weights & Biases", examine_machine.wandb),
    ("images", examine_images.images),
    ("SLURM", examine_cluster.cluster),
)


def _examine(arguments: argparse.Namespace) -> int:
    stops: list[str] = []
    for title, part in _PARTS:
        say(title)
        for finding in part():
            say(f"  {finding.word:8}{finding.text}")
            if finding.remedy:
                say(f"  {'':8}-> {finding.remedy}")
            if finding.word == MISSING and finding.stops_training:
                stops.append(finding.text)
        sys.stdout.flush()
    say("training works here" if not stops else f"training cannot work here: {'; '.join(stops)}")
    return 1 if stops else 0


if __name__ == "__main__":
    run_command(argparse.ArgumentParser(prog="make doctor", description=__doc__), _examine)
