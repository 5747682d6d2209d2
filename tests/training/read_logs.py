"""Reads logs back, for comparisons."""

import contextlib
import json
import os
import re
import time
from hashlib import sha256
from pathlib import Path

import soundfile
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from pipeline.training.logs.wandb_segments import history, segments

_FILE = re.compile(r"media/([\w/-]+)_\d+_(\w+)\.\w+")  # name, wandb's count in this start, checksum
_CHECKSUM = re.compile(r"(?<=\"sha256\": \")\w+")
_TIMES = ("_timestamp", "_runtime")


def events(directory):
    """(tag, step, value) of all event files one after the other, nothing purged."""
    found = []
    for path in sorted(directory.glob("events.*")):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                content = value.audio if value.HasField("audio") else value.image
                blob = sha256(content.SerializeToString()).hexdigest()
                number = value.simple_value if value.HasField("simple_value") else blob
                found.append((value.tag, event.step, number))
    return found


def wandb_rows(run_dir):
    """The rows of all segments one after the other, without times; a file counts by what is to hear or see in it."""
    found = []
    for path in segments(run_dir / "wandb"):
        for row in history(path):
            text = json.dumps({name: value for name, value in row.items() if name not in _TIMES})
            files = [path.parent / "files" / match.group() for match in _FILE.finditer(text)]
            kept = json.loads(_CHECKSUM.sub("", _FILE.sub(r"media/\1", text)))
            found.append(kept | {"contents": [_digest(file) for file in files]})
    return found


def _digest(file):
    # the header of a WAV file of floats holds the time of writing
    content = soundfile.read(file)[0].tobytes() if file.suffix == ".wav" else file.read_bytes()
    return sha256(content).hexdigest()


def open_files(run_dir, within_s):
    """(process, file of the run) still open after a while; [] as soon as there are none."""
    end = time.monotonic() + within_s
    while (found := _now_open(run_dir)) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def _now_open(run_dir):
    """What `lsof` would list, were it installed everywhere."""
    found = []
    for process in [name for name in os.listdir("/proc") if name.isdigit()]:
        with contextlib.suppress(OSError):  # ended in between
            for number in os.listdir(f"/proc/{process}/fd"):
                target = Path(os.readlink(f"/proc/{process}/fd/{number}"))
                if target.is_relative_to(run_dir):
                    found.append((process, target))
    return found
