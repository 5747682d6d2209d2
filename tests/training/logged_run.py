"""A run that only logs, to be killed: a row a step, a sound and a picture every fifth.

At one step it keeps what a checkpoint would; a later start continues from there.
"""

import json
import os
import signal
import time

import numpy as np
import soundfile
from matplotlib.image import imsave

from pipeline.training.loggers import build_loggers, close_loggers, log_audio, log_picture, mark_logs

RATE_HZ = 8000
NAMES = ("csv", "tensorboard", "wandb")


def log_step(loggers, run_dir, step):
    """Log what belongs to a step: a function of the step alone."""
    if step % 5 == 0:
        folder = run_dir / "media" / f"step-{step}"
        folder.mkdir(parents=True, exist_ok=True)
        samples = np.random.default_rng(step).uniform(-1, 1, (100, 2))
        soundfile.write(folder / "sound.wav", samples, RATE_HZ, subtype="FLOAT")
        log_audio(loggers, "demo/sound", folder / "sound.wav", samples, RATE_HZ, step)
        imsave(folder / "picture.png", np.full((4, 4), step / 100), vmin=0, vmax=1, cmap="gray")
        log_picture(loggers, "demo/picture", folder / "picture.png", step)
    for logger in loggers:
        logger.log_metrics({"train/loss": 1 / step, "epoch": step // 10}, step=step)


def logged_run(run_dir, last_step, mark_at=0, kill_at=0, seconds_before_kill=0, begin_at=0):
    """Log from the mark, or from a later step, to the last; mark and die on the way."""
    run_dir.mkdir(exist_ok=True)
    checkpoint = run_dir / "checkpoint.json"
    mark, start = json.loads(checkpoint.read_text()) if checkpoint.exists() else (None, None)
    loggers = build_loggers(NAMES, run_dir, ["train/loss"], "project", "name", {"a": {"b": 1}}, mark, start)
    for step in range(max((start or 0) + 1, begin_at), last_step + 1):
        log_step(loggers, run_dir, step)
        if step == mark_at:
            checkpoint.write_text(json.dumps([mark_logs(loggers), step]))
        if step == kill_at:
            time.sleep(seconds_before_kill)
            os.kill(os.getpid(), signal.SIGKILL)
    close_loggers(loggers)
