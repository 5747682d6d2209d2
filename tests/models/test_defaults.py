from copy import deepcopy

from pipeline.config.compose import settle
from pipeline.launch.identity import differences, identity_difference, identity_of
from pipeline.models.build import build_autoencoder, describe
from pipeline.models.defaults import bare, filled
from tests.config.compositions import compose

LATER = {
    "causal": False,
    "residual_groups": 1,
    "double_final_conv": False,
    "sequence_model": "none",
    "sequence_layers": 2,
    "sequence_heads": 4,
}


def without_later_keys(config):
    """The configuration as a run holds it that began before there were these keys."""
    model = deepcopy(config.model.model_dump())
    for name in ("encoder", "decoder"):
        for key in LATER:
            del model[name]["config"][key]
    return config.model_copy(update={"model": config.model.model_validate(model)})


def test_what_is_shipped_is_what_older_runs_did():
    config = settle(compose())
    model = config.model.model_dump()
    assert {key: model["encoder"]["config"][key] for key in LATER} == LATER
    older = without_later_keys(config).model.model_dump()
    assert filled(older) == model and bare(model) == bare(older)
    assert bare({"encoder": {"type": "Unknown"}}) == filled({"encoder": {"type": "Unknown"}})


def test_an_older_run_is_the_same_run():
    config = settle(compose())
    older = without_later_keys(config)
    assert list(differences(older, config)) == [] and identity_difference(older, config) is None
    assert identity_of(older) == identity_of(config)


def test_another_value_is_another_run():
    older = without_later_keys(settle(compose()))
    causal = settle(compose("model.encoder.config.causal=true"))
    assert ("model.encoder.config.causal", False, True) in differences(older, causal)
    assert identity_of(older) != identity_of(causal)


def test_an_older_checkpoint_is_built_as_before():
    config = settle(compose())
    older = without_later_keys(config)
    networks = [
        build_autoencoder(describe(one.model.model_dump(), config.data.stft.model_dump(), 44100, 1))
        for one in (config, older)
    ]
    shapes = [{name: value.shape for name, value in network.state_dict().items()} for network in networks]
    assert shapes[0] == shapes[1]
