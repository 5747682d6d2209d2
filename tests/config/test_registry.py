"""What is read from the source of a registered class is what the class itself says."""

import inspect
from typing import get_args

import pytest
from pydantic import TypeAdapter
from torch import nn

from pipeline.config.registry import REQUIRED, build, check_arguments, check_block, load, parameters, suggest
from pipeline.dsp import COMPRESSIONS
from pipeline.errors import ConfigError
from pipeline.evaluation import METRICS
from pipeline.layers import COMPLEX_ACTIVATIONS
from pipeline.losses import LOSSES
from pipeline.models import BOTTLENECKS, DECODERS, ENCODERS

FAMILIES = (COMPRESSIONS, ENCODERS, DECODERS, BOTTLENECKS, METRICS, *LOSSES.values())
TARGETS = sorted(
    {target for family in FAMILIES for target in family.values()}
    | {"pipeline.training.inverse_curve:InverseCurve"}
)
WITH_ARGUMENTS = [target for target in TARGETS if parameters(target)]


@pytest.mark.parametrize("target", TARGETS)
def test_the_source_says_what_the_class_says(target):
    found = load(target)
    if found.__init__ is nn.Module.__init__:
        assert parameters(target) == {}
        return
    signature = inspect.signature(found, eval_str=True)
    real = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    }
    supplied = set(signature.parameters) - set(real)
    assert all(signature.parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in supplied)
    read = parameters(target)
    assert list(read) == list(real)
    for name, parameter in real.items():
        # compared as what they accept: an annotation made twice is not equal to itself
        assert _accepted(read[name].annotation) == _accepted(parameter.annotation), name
        default = REQUIRED if parameter.default is inspect.Parameter.empty else parameter.default
        assert read[name].default == default, name


def _accepted(annotation):
    return TypeAdapter(annotation).json_schema()


@pytest.mark.parametrize("target", COMPLEX_ACTIVATIONS.values())
def test_activations_exist(target):
    assert inspect.isclass(load(target))


def _some_value(annotation):
    """A value that the annotation accepts."""
    candidates = (
        *get_args(annotation),
        1,
        0.5,
        "mean",
        "none",
        "reflect",
        "text",
        True,
        None,
        [[1, 1]],
        [1],
        [0.5],
        {},
    )
    for value in candidates:
        try:
            TypeAdapter(annotation).validate_python(value, strict=True)
        except ValueError:
            continue
        return value
    raise AssertionError(f"no candidate fits {annotation}")


@pytest.mark.parametrize("target", TARGETS)
def test_unknown_arguments_are_refused(target):
    required = {
        name: _some_value(p.annotation) for name, p in parameters(target).items() if p.default is REQUIRED
    }
    with pytest.raises(ConfigError, match=r"^a\.b\.no_such_key: unknown key; .*Valid: "):
        check_arguments(target, {**required, "no_such_key": 1}, "a.b")


@pytest.mark.parametrize("target", WITH_ARGUMENTS)
def test_missing_arguments_are_named(target):
    known = parameters(target)
    required = {name: _some_value(p.annotation) for name, p in known.items() if p.default is REQUIRED}
    for missing in required:
        rest = {name: value for name, value in required.items() if name != missing}
        with pytest.raises(
            ConfigError, match=rf"^a\.b\.{missing}: required and not given; valid keys: .*{missing}"
        ):
            check_arguments(target, rest, "a.b")
    filled = check_arguments(target, required, "a.b")
    assert list(filled) == list(known)
    assert all(filled[name] == p.default for name, p in known.items() if p.default is not REQUIRED)


@pytest.mark.parametrize("target", WITH_ARGUMENTS)
def test_mistyped_arguments_are_refused(target):
    known = parameters(target)
    good = {name: _some_value(p.annotation) for name, p in known.items() if p.default is REQUIRED}
    for name in known:
        for wrong in ({"a": 1}, [{"b": 2}], b"bytes"):
            with pytest.raises(ConfigError, match=rf"^a\.b\.{name}="):
                check_arguments(target, {**good, name: wrong}, "a.b")


def test_numbers_are_not_converted():
    target = COMPRESSIONS["power_norm"]
    good = {"alpha": 0.5, "beta": 1.0}
    assert check_arguments(target, {**good, "beta": 1}, "x")["beta"] == 1  # a whole number is a number
    for wrong in ("1.0", True, None, float("nan"), -1.0, 0):
        with pytest.raises(ConfigError, match=r"^x\.beta="):
            check_arguments(target, {**good, "beta": wrong}, "x")
    with pytest.raises(ConfigError, match=r"^model\.encoder\.config\.n_filters=4\.0: .*integer"):
        check_arguments(ENCODERS["SEANetEncoder"], _encoder(n_filters=4.0), "model.encoder.config")


def _encoder(**changes):
    known = parameters(ENCODERS["SEANetEncoder"])
    fitting = {"activation": "ELU", "latent_fbins": 8, "ratios": [[4, 2]], "compress": 1}
    return {name: _some_value(p.annotation) for name, p in known.items()} | fitting | changes


def test_choices_are_listed():
    with pytest.raises(ConfigError, match="'none', 'weight_norm', .*'layer_norm' or 'batch_norm'"):
        check_arguments(ENCODERS["SEANetEncoder"], _encoder(norm="instance_norm"), "model.encoder.config")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"type": "VAE"},
            r"^model\.bottleneck\.type='VAE': unknown; .*Valid: IdentityBottleneck, VAEBottleneck$",
        ),
        ({"type": "VAEBottlenek"}, r"did you mean 'VAEBottleneck'\?"),
        ({}, r"^model\.bottleneck\.type=None: unknown"),
        ({"type": ["VAEBottleneck"]}, r"^model\.bottleneck\.type=\['VAEBottleneck'\]: unknown"),
        ({"type": "VAEBottleneck", "confg": {}}, r"^model\.bottleneck\.confg: .*did you mean 'config'"),
        ({"type": "VAEBottleneck", "config": {"a": 1}}, r"^model\.bottleneck\.config\.a: unknown key"),
    ],
)
def test_blocks(spec, message):
    with pytest.raises(ConfigError, match=message):
        check_block(spec, BOTTLENECKS, "model.bottleneck")


@pytest.mark.parametrize("config", [{}, {"config": None}, {"config": {}}])
def test_an_empty_config_is_the_defaults(config):
    block = check_block({"type": "VAEBottleneck", **config}, BOTTLENECKS, "model.bottleneck")
    assert (block.type, block.config, block.target) == ("VAEBottleneck", {}, BOTTLENECKS["VAEBottleneck"])


def test_build():
    built = build(
        {"type": "log_mag", "config": {"alpha": 2.0}}, COMPRESSIONS, "model.autoencoder.pre_transform"
    )
    assert type(built) is load(COMPRESSIONS["log_mag"]) and built.alpha == 2.0


def test_what_a_constructor_refuses_gets_its_path():
    spec = {"type": "SEANetEncoder", "config": _encoder(latent_fbins=9)}
    with pytest.raises(ConfigError, match=r"^model\.encoder\.config\.latent_fbins=9 does not fit"):
        build(spec, ENCODERS, "model.encoder", in_channels=1, num_bins=33)


def test_suggest():
    assert suggest("sede", ["seed", "strategy"]) == "did you mean 'seed'? Valid: seed, strategy"
    assert suggest("zzz", ["b", "a"]) == "Valid: a, b"
    assert suggest(None, []) == "Valid: (none)"
