"""When a run stops by itself."""

import time

import pytest

from pipeline.config.trainer_schema import LightningSettings
from pipeline.training.stopping import StopConditions


def make(max_time_s, behind_s=0.0, signal=None):
    return StopConditions(lambda: signal, max_time_s, time.monotonic() - behind_s)


def test_without_a_reason_it_goes_on():
    assert make(None).reason(0.0) is None
    assert make(None, behind_s=1e6).reason(5.0) is None
    assert make(1000.0).reason(0.0) is None


def test_a_signal_is_named():
    assert make(None, signal="SIGUSR1").reason(0.0) == "SIGUSR1 received"
    assert make(1000.0, signal="SIGTERM").reason(0.0) == "SIGTERM received"


@pytest.mark.parametrize(
    ("behind_s", "slowest_save_s", "stops"),
    [
        (970, 0.0, False),  # 10 s are assumed for a save that nobody has measured, and taken twice
        (985, 0.0, True),
        (985, 1.0, False),
        (999, 1.0, True),
        (900, 60.0, True),
        (740, 600.0, False),  # a quarter of the time at most is kept for saving
        (760, 600.0, True),
    ],
)
def test_the_time_ends_early_enough_to_save(behind_s, slowest_save_s, stops):
    reason = make(1000.0, behind_s).reason(slowest_save_s)
    assert (reason == "trainer.trainer.max_time of 1000 s is nearly over") == stops
    assert stops or reason is None


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(None, None), ("00:01:30:05", 5405.0), ("02:00:00:00", 172800.0), ({"hours": 2, "minutes": 1}, 7260.0)],
)
def test_max_time_in_seconds(written, seconds):
    assert LightningSettings.model_construct(max_time=written).max_time_s == seconds
