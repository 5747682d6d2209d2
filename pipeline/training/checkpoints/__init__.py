"""How a checkpoint is written, kept and found again; `pipeline.training.checkpoint` reads one."""
