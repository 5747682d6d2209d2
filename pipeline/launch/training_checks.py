"""What training options need of each other, refused with the remedy before a run exists. Imports no torch."""

from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.losses.plan import RECONSTRUCTION_FAMILIES, LossPlan


def check(config: Config, losses: LossPlan) -> None:
    """Refuse options that cannot be honoured together.

    Raises:
        ConfigError: names both keys and what to set.
    """
    trainer = config.trainer
    if trainer.train_only == "decoder" and config.run.init_from is None:
        raise ConfigError(
            "trainer.train_only=decoder needs run.init_from=CKPT: the encoder keeps the weights that it starts with; "
            "valid: a checkpoint or run directory whose encoder is trained, or trainer.train_only=null"
        )
    if not trainer.loss_balancer.enabled:
        return
    if not any(loss.family in RECONSTRUCTION_FAMILIES for loss in losses.active):
        raise ConfigError(
            "trainer.loss_balancer.enabled=true shares the gradient between reconstruction losses, and none is active; "
            f"valid: false, or a positive weight in trainer.loss_config.{{{','.join(RECONSTRUCTION_FAMILIES)}}}"
        )
    if trainer.optimizer.type == "LBFGS":
        raise ConfigError(
            "trainer.loss_balancer.enabled=true: trainer.optimizer.type=LBFGS evaluates a step several times, and each "
            "would move the balance; valid: false, or another optimiser such as AdamW"
        )
