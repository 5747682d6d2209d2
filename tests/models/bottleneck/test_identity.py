import torch

from pipeline.models.bottleneck.identity import IdentityBottleneck


def test_passes_latents_without_statistics():
    bottleneck = IdentityBottleneck(dimension=6, complex_valued=True)
    latents = torch.randn(2, 12, 5)
    output, loss_info = bottleneck(latents)
    assert output is latents
    assert loss_info == {} and bottleneck.loss_keys == ()
    assert (bottleneck.dimension, bottleneck.latent_channels) == (6, 12)
