"""Batches for batch norm; as a script, one of two gloo processes that share them unevenly."""

import sys
from pathlib import Path

import torch
import torch.distributed
from torch import nn

sys.path[:0] = [str(Path(__file__).parents[2])]

from pipeline.dsp.complex_channels import join  # noqa: E402
from pipeline.layers.batch_norm import BatchNorm, ComplexBatchNorm  # noqa: E402

CHANNELS = 3
SHARES = (slice(0, 2), slice(2, 5))


def correlated(batch, seed=0):
    """Stacked float64 values with a mean, unequal variances and a strong correlation of the parts."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, CHANNELS, 5, 4)
    real = 2 + 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return join(real, -1 + 0.8 * real + 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64))


def build(complex_valued):
    """A batch norm in float64 whose parameters are not those of the start."""
    torch.manual_seed(0)
    norm = (ComplexBatchNorm(CHANNELS) if complex_valued else BatchNorm(2 * CHANNELS)).double()
    for parameter in norm.parameters():
        nn.init.uniform_(parameter, 0.2, 1.5)
    return norm


def train(complex_valued, share):
    """Outputs, gradients and state of three batches, of which this process has a share."""
    norm, outputs, inputs = build(complex_valued), [], []
    for seed in range(3):
        stacked = correlated(5, seed)[share].requires_grad_()
        output = norm(stacked)
        output.pow(3).sum().backward()
        outputs.append(output.detach())
        inputs.append(stacked.grad)
    return {
        "state": norm.state_dict(),
        "outputs": torch.stack(outputs),
        "inputs": torch.stack(inputs),
        "parameters": {name: parameter.grad for name, parameter in norm.named_parameters()},
    }


def main(rank, folder):
    """Train both kinds on this rank's share and store what came out."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save({kind: train(kind, SHARES[rank]) for kind in (False, True)}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
