import subprocess
import sys

import pytest

from pipeline.errors import ConfigError
from pipeline.models import BOTTLENECKS
from pipeline.models.geometry import (
    BOTTLENECK_TRAITS,
    bottleneck_dimension,
    check_fit,
    check_frequency,
    check_ratios,
    check_seanet,
    frequency_path,
    time_stride,
)

RATIOS = [[4, 2], [1, 2], [4, 2]]
ENCODER = {"dimension": 256, "ratios": RATIOS, "complex_valued": False}
DECODER = {"dimension": 128, "ratios": RATIOS, "complex_valued": False}


def test_paths_and_strides():
    assert frequency_path(1025, RATIOS) == [1025, 256, 256, 64]
    assert frequency_path(501, [[3, 1], [4, 1]]) == [501, 125, 41]
    assert time_stride(RATIOS) == 8
    assert time_stride([]) == 1


def test_the_full_size_fits():
    check_seanet(1025, RATIOS, 64, 8, 2, "ELU", False)
    check_fit(ENCODER, DECODER, "VAEBottleneck")
    check_fit(ENCODER, ENCODER, "IdentityBottleneck")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1025, RATIOS, 32, 8, 2, "ELU", False), r"^latent_fbins=32 .* 64 \(1025 -> 256 -> 256 -> 64\)"),
        ((3, RATIOS, 1, 8, 2, "ELU", False), r"^latent_fbins=1 .* 0 \(3 -> 0 -> 0 -> 0\)"),
        ((1025, [[4, 2], [1]], 64, 8, 2, "ELU", False), r"^ratios\[1\]=\[1\] must be two numbers"),
        ((1025, RATIOS, 64, 8, 16, "ELU", False), "^compress=16 .*n_filters=8"),
        ((1025, RATIOS, 64, 8, 2, "EUL", False), "^activation='EUL' .*did you mean 'ELU'"),
        ((1025, RATIOS, 64, 8, 2, "modReLU", False), "^activation='modReLU' needs complex_valued=true"),
    ],
)
def test_refuses_networks_that_cannot_be_built(arguments, message):
    with pytest.raises(ConfigError, match=message):
        check_seanet(*arguments)


@pytest.mark.parametrize(
    ("encoder", "decoder", "bottleneck", "message"),
    [
        ({}, {"dimension": 256}, "VAEBottleneck", "^decoder.*=256.* encoder.*=256 leaves .* as 128"),
        ({}, {}, "IdentityBottleneck", "decoder.config.dimension=128.*encoder.config.dimension=256"),
        ({"dimension": 255}, {}, "VAEBottleneck", "encoder.config.dimension=255 must be divisible by 2"),
        ({"complex_valued": True}, {}, "VAEBottleneck", "complex_valued=false .*complex_valued=true"),
        ({}, {"ratios": [[4, 2]]}, "VAEBottleneck", "decoder.config.ratios .* by 2, .* by 8"),
    ],
)
def test_refuses_encoders_and_decoders_that_do_not_meet(encoder, decoder, bottleneck, message):
    with pytest.raises(ConfigError, match=message):
        check_fit(ENCODER | encoder, DECODER | decoder, bottleneck)


def test_every_bottleneck_has_its_traits():
    assert BOTTLENECK_TRAITS.keys() == BOTTLENECKS.keys()
    assert bottleneck_dimension("VAEBottleneck", 256) == 128
    check_ratios([])
    check_frequency(33, [], 33)


def test_needs_no_torch():
    code = (
        "import sys, pipeline.models.geometry, pipeline.models.bottleneck, pipeline.dsp.stft_settings, "
        "pipeline.layers.activation_names; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
