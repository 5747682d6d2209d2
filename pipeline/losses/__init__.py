"""Losses by family and name, as in `trainer.loss_config.<family>.<name>`. Imports no torch."""

LOSSES: dict[str, dict[str, str]] = {
    "spectral": {
        "stft_mse": "pipeline.losses.spectral:StftMse",
        "mrstft": "pipeline.losses.spectral:MultiResolutionStft",
    },
    "mel": {"mrmel": "pipeline.losses.mel:MultiScaleMel"},
    "time": {"l1": "pipeline.losses.time:L1", "l2": "pipeline.losses.time:L2"},
    "bottleneck": {"kl": "pipeline.losses.value:ValueLoss"},
}
