"""The floor of arithmetic precision for signal processing and statistics."""

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Upcasts half precision to float32; float32 and float64 come back untouched, without a copy."""
    if tensor.dtype in (torch.float16, torch.bfloat16):
        return tensor.float()
    return tensor
