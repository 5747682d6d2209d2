"""`make reproduce` of runs of every kind: many processes, interrupted, begun with weights."""

import shutil

import pytest

from tests.integration.background import Background
from tests.integration.kept_run import edit, recorded
from tests.integration.runs import TINY

EDITED = ("--ignore", "commit")  # by whoever works on the checkout meanwhile
HORIZON = (  # rates that follow from the horizon, and a validation within the first steps
    *TINY,
    "trainer.trainer.max_steps=24",
    "data.train_dataset.segments_per_epoch=16",
    "trainer.trainer.check_val_every_n_epoch=1",
    "trainer.scheduler.type=CosineAnnealingLR",
    "trainer.scheduler.config={T_max: 24}",
    "trainer.trainer.save_every_n_epochs=1",
)
TWO = ("trainer.num_gpus=0", "trainer.num_processes=2")
SHAPES = {
    "two processes": TWO,
    "accumulation": ("trainer.trainer.accumulate_grad_batches=2",),
    "DeepSpeed": (*TWO, "trainer.strategy=deepspeed"),
}


@pytest.mark.long
@pytest.mark.parametrize("words", SHAPES.values(), ids=SHAPES)
def test_every_shape_of_a_run_is_repeated(train, ask, words):
    run = train(*HORIZON, *words)
    assert run.code == 0, run.output
    code, said = ask(run.directory, "--steps", 6, *EDITED)
    assert code == 0 and "identical  6 steps" in said, said


@pytest.mark.long
def test_a_run_that_was_killed_and_resumed_is_identical(tmp_path, preloaded, cache_dir, train, ask):
    """Each step is recorded once, with the losses of the run that was never interrupted."""
    whole = train(*HORIZON, name="whole")
    killed = Background(preloaded, tmp_path, cache_dir, *HORIZON, "trainer.trainer.max_steps=100000")
    killed.wait_for(lambda run: any(path.stat().st_size for path in run.runs.rglob("last.ckpt")))
    killed.send("SIGKILL")
    run_dir = killed.end().directory
    words = (f"run.resume={run_dir}", "trainer.trainer.max_steps=24")
    assert train(*words, name="again").code == 0
    assert (run_dir / "losses.jsonl").read_bytes() == (whole.directory / "losses.jsonl").read_bytes()
    assert [attempt["step"] > 0 for attempt in recorded(run_dir, "attempts")] == [False, True]
    code, said = ask(run_dir, *EDITED)
    assert code == 0 and "identical  20 steps" in said, said


@pytest.mark.long
def test_what_a_run_went_on_with_ends_the_comparison(train, ask):
    run = train(*HORIZON, "trainer.trainer.max_steps=4")
    words = (
        f"run.resume={run.directory}",
        "trainer.trainer.max_steps=8",
        *TWO,
        "data.train_dataloader.batch_size=2",
    )
    assert train(*words, name="again").code == 0
    code, said = ask(run.directory, *EDITED)
    assert code == 0 and "identical  4 steps" in said, said
    assert "after step 4 the run went on with another number of processes, batch size" in said


@pytest.mark.long
def test_another_seed_gives_another_loss(copied, ask):
    edit(copied.run / "config.yaml", "seed: 94", "seed: 95")
    code, said = ask(copied.run, "--data", copied.audio, "--ignore", "config,commit")
    assert code == 1 and "different  losses: step 1: the loss was " in said


@pytest.mark.long
def test_the_weights_that_a_run_began_with_are_checked(train, ask, copied):
    run = train(*TINY, f"run.init_from={copied.run}")
    code, said = ask(run.directory, *EDITED)
    assert code == 0 and f"start      same: the weights of {copied.run}" in said, said
    weights = copied.run / "checkpoints" / "best.ckpt"
    weights.write_bytes(weights.read_bytes()[:-1])
    code, said = ask(run.directory, *EDITED)
    assert code == 1 and f"different  start: {weights}: not the weights" in said
    shutil.rmtree(copied.run)
    code, said = ask(run.directory, *EDITED)
    assert code == 1 and f"different  start: {weights}: the weights that the run began with are gone" in said
