"""What `torch.compile` needs to know of a training run."""

import os
from pathlib import Path


def prepare_compilation(cache_dir: Path, deterministic: bool) -> None:
    """Set how passes are compiled; before the first one is.

    Args:
        cache_dir: kept folder, so that a run that goes on and all others like it compile nothing anew.
        deterministic: kernels are chosen by rule, not by timing, which would choose others in the next start.
    """
    import torch._dynamo.config
    import torch._inductor.config
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    # torch sets it to a folder below /tmp as soon as anything, even an optimiser, asks for it
    if os.environ.get("TORCHINDUCTOR_CACHE_DIR") in (None, default_cache_dir()):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache_dir.expanduser() / "compiled")
    # A pass is one graph under DDP, too, with the kernels that it has on one GPU; gradients leave when a half is done.
    torch._dynamo.config.optimize_ddp = False
    torch._inductor.config.deterministic = deterministic


def end_compilers() -> None:
    """End the processes that have compiled: a run would wait for them at its end."""
    from torch._inductor.async_compile import shutdown_compile_workers

    shutdown_compile_workers()
