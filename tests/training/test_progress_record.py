"""The speed that progress.json tells."""

from pipeline.training.callbacks.progress_record import Speed


def test_no_speed_before_a_step():
    speed = Speed()
    assert speed.at(10, 100.0) is None
    assert speed.at(10, 105.0) is None


def test_between_two_looks():
    speed = Speed()
    speed.at(10, 100.0)
    assert speed.at(30, 105.0) == 4.0
    assert speed.at(31, 115.0) == 0.1


def test_validations_do_not_count():
    speed = Speed()
    speed.at(0, 100.0)
    speed.pause(101.0)
    speed.go_on(151.0)
    assert speed.at(10, 155.0) == 2.0
    assert speed.at(20, 160.0) == 2.0


def test_a_look_without_a_new_step_keeps_the_speed_and_the_time():
    """Steps that take longer than the time between two looks."""
    speed = Speed()
    speed.at(0, 0.0)
    assert speed.at(1, 20.0) == 0.05
    assert speed.at(1, 25.0) == 0.05
    assert speed.at(2, 40.0) == 0.05
