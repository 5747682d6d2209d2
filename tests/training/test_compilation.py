"""What is compiled is kept where runs keep things, whatever torch has set before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from pathlib import Path
import torch
torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])  # sets the folder of the compiler
from pipeline.training.compilation import prepare_compilation
prepare_compilation(Path(sys.argv[1]), deterministic=True)
from torch._inductor.runtime.cache_dir_utils import cache_dir
print(cache_dir(), torch._inductor.config.deterministic)
"""


@pytest.mark.parametrize("chosen", [None, "own"])
def test_what_is_compiled_is_kept_in_the_cache_of_runs(tmp_path: Path, chosen: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    if chosen is not None:
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path / chosen)
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == [str(tmp_path / (chosen or "compiled")), "True"]
