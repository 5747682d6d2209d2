"""How far a network looks along its last axis."""

from torch import nn

from pipeline.layers.convolution import Convolution


def receptive_field(network: nn.Module) -> int:
    """Input elements of the last axis that can influence one output element, normalisation left aside.

    Args:
        network: A chain of convolutions, registered in the order of application. Branches beside the chain
            must be 1x1 convolutions, as the shortcuts of residual units are.
    """
    span = 1
    chain = [module for module in network.modules() if isinstance(module, Convolution)]
    for conv in reversed(chain):
        kernel_size, stride, dilation = conv.kernel_size[-1], conv.stride[-1], conv.dilation[-1]
        if conv.transposed:
            span = (span + kernel_size - 2) // stride + 1
        else:
            span = (span - 1) * stride + (kernel_size - 1) * dilation + 1
    return span
