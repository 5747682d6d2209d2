import importlib

import pytest
from torch import nn

from pipeline.models import BOTTLENECKS, DECODERS, ENCODERS


@pytest.mark.parametrize("registry", [ENCODERS, DECODERS, BOTTLENECKS])
def test_every_name_leads_to_its_class(registry):
    for name, target in registry.items():
        module, _, class_name = target.partition(":")
        assert class_name == name
        assert issubclass(getattr(importlib.import_module(module), class_name), nn.Module)
