"""Every YAML file of conf/ composes, passes the checks of a launch, and describes a model that works."""

from itertools import product

import pytest
import torch

from pipeline.config.compose import CONF_DIR, settle
from pipeline.dsp.stft_settings import StftSettings
from pipeline.launch import preflight
from pipeline.models.build import build_autoencoder, describe
from tests.config.compositions import compose
from tests.data.layouts import write_all

FILES = {
    group.name: sorted(path.stem for path in group.glob("*.yaml"))
    for group in CONF_DIR.iterdir()
    if group.is_dir() and group.name != "hydra"
}
GROUPS = ("data", "model", "trainer")
USUAL = ("default", "SEANet_complex_small", "default")
COMBINATIONS = [
    pytest.param(
        [f"{group}={name}" for group, name in zip(GROUPS, names, strict=True)],
        # each file in the usual company; all with all takes minutes
        marks=() if sum(map(str.__eq__, names, USUAL)) >= 2 else pytest.mark.long,
    )
    for names in product(*(FILES[group] for group in GROUPS))
]
OTHERS = [[f"{group}={name}"] for group, names in FILES.items() if group not in GROUPS for name in names]


@pytest.fixture(scope="module", autouse=True)
def data_folder(tmp_path_factory):
    """An EULER_DATA that is laid out as the shipped data files expect it; this machine's GPUs stay out."""
    root = tmp_path_factory.mktemp("audio")
    write_all(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EULER_DATA", str(root))
        patch.setattr("torch.cuda.device_count", lambda: 0)
        yield root


def test_no_file_is_left_out():
    found = {path.relative_to(CONF_DIR).as_posix() for path in CONF_DIR.rglob("*.yaml")}
    tested = {f"{group}/{name}.yaml" for group, names in FILES.items() for name in names}
    beyond = {path for path in found - tested if not path.startswith("hydra/")}
    assert beyond == {"config.yaml"}
    assert all(FILES[group] for group in GROUPS)


@pytest.mark.parametrize(
    "choice", [[], *COMBINATIONS, *OTHERS], ids=lambda choice: ",".join(choice) or "plain"
)
def test_it_passes_the_checks_of_a_launch(choice):
    composition = compose(*choice)
    checked = preflight.check(settle(composition), composition.given)
    assert checked.losses.active and checked.metrics
    assert checked.config.trainer.trainer.monitor.removeprefix("val/") in checked.metrics
    assert checked.resources.world_size == 1


@pytest.mark.parametrize("name", FILES["model"])
@pytest.mark.parametrize("channels", [1, pytest.param(2, marks=pytest.mark.long)])
def test_the_model_works(name, channels):
    config = settle(compose(f"model={name}", f"data.channels={channels}"))
    stft = config.data.stft
    torch.manual_seed(0)
    description = describe(
        config.model.model_dump(), stft.model_dump(), config.data.sample_rate_hz, config.data.channels
    )
    autoencoder = build_autoencoder(description).eval()
    waveform = 0.1 * torch.randn(1, channels, 7 * stft.hop_length + 11)  # a few frames
    with torch.no_grad():
        output = autoencoder(waveform)
    assert output.waveform.shape == waveform.shape
    assert output.waveform.isfinite().all() and output.latents.isfinite().all()
    plan = preflight.plan_model(config.model.model_dump(), StftSettings(**stft.model_dump()))
    assert output.latents.shape[1] == plan.latent_values
