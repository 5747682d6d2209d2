"""`run.resume` as a word or a place: the same command again, a run that was killed while it was set up."""

import shutil

from tests.integration.runs import TINY, weights_digest


def test_the_same_command_again_goes_on(train):
    auto = (*TINY, "run.resume=auto")
    first = train(*auto)
    assert first.code == 0 and "run.resume=auto: no run in" in first.output, first.output
    longer = train(*auto, "trainer.trainer.max_steps=5")
    assert longer.code == 0 and longer.directory == first.directory, longer.output
    assert f"goes on with the run in {first.directory}" in longer.output
    assert "trainer.trainer.max_steps was 3, now 5" in longer.output and "at step 3" in longer.output
    finished = train(*auto, "trainer.trainer.max_steps=5")
    assert finished.code == 0 and "nothing left to train" in finished.output, finished.output
    other = train(*auto, "trainer.seed=1")
    assert other.code == 0 and len(other.directories) == 2, other.output


def test_a_chosen_directory_is_begun_and_continued_by_one_command(train, tmp_path):
    command = (*TINY, f"run.dir={tmp_path / 'mine'}", "run.resume=auto")
    begun, continued = train(*command), train(*command)
    assert begun.code == 0 and "no run in" in begun.output, begun.output
    assert continued.code == 0 and "nothing left to train" in continued.output, continued.output
    refused = train(*command, "trainer.seed=1")
    assert refused.code == 1 and "trainer.seed: cannot change" in refused.output


def test_a_run_that_was_killed_while_it_was_set_up_begins(train, tmp_path):
    whole = train(*TINY)
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(whole.directory / "config.yaml", bare / "config.yaml")
    begun = train(f"run.resume={bare}")
    assert begun.code == 0, begun.output
    assert weights_digest(bare / "checkpoints" / "last.ckpt") == whole.weights
    assert (bare / "provenance.json").is_file()
