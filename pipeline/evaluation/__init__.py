"""Metrics by name, as in `trainer.eval_loss_config`; logged as `val/<name>`. Imports no torch."""

METRICS: dict[str, str] = {
    "sisdr": "pipeline.evaluation.metrics:SiSdr",
    "stft": "pipeline.evaluation.metrics:StftDistance",
    "mel": "pipeline.evaluation.metrics:MelDistance",
}

HIGHER_IS_BETTER: dict[str, bool] = {"sisdr": True, "stft": False, "mel": False}
