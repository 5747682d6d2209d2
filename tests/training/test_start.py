"""What a run starts from: its checkpoint, if it fits; weights, if they fit; nothing, if there never was anything."""

import math

import pytest
import torch

from pipeline.errors import CheckpointError
from pipeline.models.build import build_autoencoder
from pipeline.training.checkpoints.file import write_atomically
from pipeline.training.checkpoints.store import CheckpointStore
from pipeline.training.optimizer import build_optimizer, optimizer_names
from pipeline.training.start import check_weights, find_start
from tests.config.compositions import compose

ADAMW = {"type": "AdamW", "config": {"lr": 1e-3}}


class Module(torch.nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.autoencoder = torch.nn.Linear(2, width)


def state_of(module, spec=ADAMW, step=3):
    """A run's checkpoint after one step of an optimiser."""
    optimizer = build_optimizer(spec, list(module.autoencoder.parameters()))
    module.autoencoder(torch.ones(2)).sum().backward()
    optimizer.step()
    return {
        "state_dict": module.state_dict(),
        "global_step": step,
        "optimizer_states": [optimizer.state_dict()],
        "logs": {"csv": {"rows": 1}},
    }


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints", 1, tmp_path / "marker")


def start(store, module=None, spec=ADAMW):
    return find_start(store, None, module or Module(), spec, is_first_rank=True)


def save(store, checkpoint):
    write_atomically(checkpoint, store.last, before_rename=store.keep_previous)
    store.enter([], [])


def test_a_run_that_has_saved_nothing_begins(store):
    assert start(store).checkpoint is None


def test_a_run_whose_checkpoints_are_gone_is_refused(store):
    save(store, state_of(Module()))
    assert start(store).step == 3
    away = store.directory.rename(store.directory.with_name("away"))
    with pytest.raises(CheckpointError, match=f"{store.directory}: no checkpoint is there.*disk mounted"):
        start(store)
    store.directory.symlink_to(store.directory.with_name("missing"))
    with pytest.raises(CheckpointError, match="no checkpoint is there"):
        start(store)
    store.directory.unlink()
    away.rename(store.directory)
    assert start(store).step == 3


def test_a_run_whose_checkpoints_are_all_damaged_begins_again(store):
    save(store, state_of(Module()))
    store.last.write_bytes(b"half")
    for _ in range(2):  # also when it was killed before the next save
        assert start(store).checkpoint is None


def test_a_folder_in_a_checkpoints_place_is_passed_over(store):
    store.last.mkdir(parents=True)
    (store.directory / "last.ckpt.damaged").touch()
    write_atomically(state_of(Module(), step=2), store.directory / "previous.ckpt")
    found = start(store)
    assert found.step == 2 and found.notes[0] == f"passed over: {store.last}: a folder, not a checkpoint"
    save(store, state_of(Module()))
    assert start(store).step == 3


@pytest.mark.parametrize("key", ["logs", "optimizer_states"])
def test_a_checkpoint_of_another_program_is_refused(store, key):
    foreign = state_of(Module())
    del foreign[key]
    save(store, foreign)
    with pytest.raises(CheckpointError, match=rf"last\.ckpt: not a checkpoint of this project \(no {key}\)"):
        start(store)


@pytest.mark.parametrize("states", [[], [3], [{"state": {}}], [{"state": {}, "param_groups": []}]])
def test_an_optimiser_state_of_another_form_is_refused(store, states):
    save(store, state_of(Module()) | {"optimizer_states": states})
    with pytest.raises(CheckpointError, match="not a checkpoint of this project"):
        start(store)


def test_weights_of_another_model_are_refused_with_the_first_of_them(store):
    save(store, state_of(Module(width=4)))
    with pytest.raises(
        CheckpointError,
        match=r"last\.ckpt: .*: autoencoder.weight is \[4, 2\] instead of \[3, 2\]; was config.yaml",
    ):
        start(store)
    state = state_of(Module())
    state["state_dict"]["autoencoder.more"] = torch.zeros(1)
    save(store, state)
    with pytest.raises(CheckpointError, match=r"the model has no autoencoder.more"):
        start(store)


SGD = {"type": "SGD", "config": {"lr": 1e-3}}
MOMENTUM = {"type": "SGD", "config": {"lr": 1e-3, "momentum": 0.9}}
ADAGRAD = {"type": "Adagrad", "config": {"lr": 1e-3}}


@pytest.mark.parametrize(
    ("written", "wanted"), [(ADAMW, SGD), (SGD, ADAMW), (ADAMW, ADAGRAD), (MOMENTUM, ADAMW)]
)
def test_the_state_of_another_optimiser_is_refused(store, written, wanted):
    module = Module()
    save(store, state_of(module, written))
    assert start(store, module, written).step == 3
    with pytest.raises(
        CheckpointError, match=rf"last\.ckpt: its optimiser state does not fit .*{wanted['type']}"
    ):
        start(store, module, wanted)


def test_the_state_of_fewer_weights_is_refused(store):
    state = state_of(Module())
    state["optimizer_states"][0]["param_groups"][0]["params"] = [0]
    save(store, state)
    with pytest.raises(CheckpointError, match="it has 1 weights instead of 2"):
        start(store)


def description(*arguments):
    tree = compose(*arguments).tree
    data = tree["data"]
    return {
        "model": tree["model"],
        "stft": data["stft"],
        "sample_rate_hz": data["sample_rate_hz"],
        "channels": data["channels"],
    }


def test_weights_to_begin_with_are_checked_without_a_run(tmp_path):
    small = description("model=SEANet_real_small")
    state = {f"autoencoder.{k}": v for k, v in build_autoencoder(small).state_dict().items()}
    assert sum(math.prod(value.shape) for value in state.values()) > 1000
    path = tmp_path / "best.ckpt"
    write_atomically({"state_dict": state}, path)
    check_weights(str(path), small)
    with pytest.raises(CheckpointError, match=r"best\.ckpt: its weights do not fit the configured model: "):
        check_weights(str(path), description())
    write_atomically({"state_dict": list(state.values())}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this project"):
        check_weights(str(path), small)
    path.write_bytes(bytes(range(256)) * 9)
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        check_weights(str(path), small)
    for missing in (tmp_path / "missing.ckpt", tmp_path):
        with pytest.raises(CheckpointError, match="no such checkpoint"):
            check_weights(str(missing), small)


NEEDED = {"SGD": {"lr": 1e-3}, "Adam": {"amsgrad": True}, "RMSprop": {"momentum": 0.9, "centered": True}}


@pytest.mark.parametrize("name", optimizer_names())
def test_the_own_state_of_every_optimiser_fits(store, name):
    spec, module = {"type": name, "config": NEEDED.get(name, {})}, Module()
    optimizer = build_optimizer(spec, list(module.autoencoder.parameters()))

    def closure():
        optimizer.zero_grad()
        loss = module.autoencoder(torch.ones(2)).square().sum()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    save(store, state_of(module) | {"optimizer_states": [optimizer.state_dict()]})
    assert start(store, module, spec).step == 3
