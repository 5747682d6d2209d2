"""Losses by family and name, as in `trainer.loss_config.<family>.<name>`. Imports no torch."""

LOSSES: dict[str, dict[str, str]] = {
    "spectral": {
        "stft_mse": "pipeline.losses.spectral:StftMse",
        "mrstft": "pipeline.losses.spectral:MultiResolutionStft",
        "mrstft_mid_side": "pipeline.losses.stereo:MidSideStft",
        "phase_cosine": "pipeline.losses.phase:PhaseCosine",
    },
    "mel": {"mrmel": "pipeline.losses.mel:MultiScaleMel"},
    "time": {
        "l1": "pipeline.losses.time:L1",
        "l2": "pipeline.losses.time:L2",
        "l1_mid_side": "pipeline.losses.stereo:MidSideL1",
    },
    "bottleneck": {"kl": "pipeline.losses.value:ValueLoss"},
}
