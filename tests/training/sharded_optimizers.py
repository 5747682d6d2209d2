"""Trains a tiny network by DeepSpeed and alone, with each optimiser and a schedule; prints how far weights part."""

import argparse
import json
import logging
import os
import sys

import deepspeed
import torch

from pipeline.config.compose import shipped_trainer
from pipeline.config.deepspeed_schema import DeepSpeedSettings, deepspeed_config
from pipeline.training.optimizer import build_optimizer

BATCHES = [torch.randn(4, 2, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(6)]


def parts(name):
    """Returns a network, its optimiser and its schedule."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv1d(2, 3, 3), torch.nn.Conv1d(3, 2, 3))
    optimizer = build_optimizer({"type": name, "config": {"lr": 0.02}}, network.parameters())
    return network, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)


def alone(name):
    network, optimizer, scheduler = parts(name)
    for batch in BATCHES:
        optimizer.zero_grad()
        network(batch).square().mean().backward()
        optimizer.step()
        scheduler.step()
    return list(network.parameters())


def by_deepspeed(name, stage):
    network, optimizer, scheduler = parts(name)
    block = DeepSpeedSettings.model_validate({**shipped_trainer()["deepspeed"], "stage": stage})
    config = {**deepspeed_config(block), "train_micro_batch_size_per_gpu": 4, "gradient_clipping": 0.0}
    engine, *_ = deepspeed.initialize(
        args=argparse.Namespace(device_rank=0),
        model=network,
        optimizer=optimizer,
        config=config,
        dist_init_required=False,
    )
    for batch in BATCHES:
        engine.backward(engine(batch).square().mean())
        engine.step()
        scheduler.step()
    engine.destroy()
    return list(network.parameters())


if __name__ == "__main__":
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", DS_ACCELERATOR="cpu")
    store = torch.distributed.FileStore(sys.argv[1], 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    logging.disable(logging.WARNING)
    deepspeed.init_distributed("gloo", rank=0, world_size=1)
    differences = {
        name: max(
            float((one - other).abs().max())
            for stage in (1, 2)
            for one, other in zip(alone(name), by_deepspeed(name, stage), strict=True)
        )
        for name in sys.argv[2:]
    }
    sys.stdout.write("\n" + json.dumps(differences) + "\n")
