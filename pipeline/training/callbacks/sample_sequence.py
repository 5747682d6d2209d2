"""A fingerprint of the audio that a run was trained on, in its order, over all ranks and all resumes."""

from hashlib import blake2b
from typing import Any

import pytorch_lightning as pl

from pipeline.data.dataset import Batch
from pipeline.training.ranks.agreement import RankAgreement

_MODULUS = 2**256


class SampleSequence(pl.Callback):
    """Sum the hashes of (place in the global sequence, crop) of all training samples.

    A sum does not depend on which rank read a sample, while the place stands in each hash: two runs have the same
    fingerprint exactly if they read the same crops in the same order, on any number of ranks.

    Args:
        agreement: adds up what the ranks have read.
    """

    def __init__(self, agreement: RankAgreement) -> None:
        self._agreement = agreement
        self._behind = 0  # of all ranks, up to the newest `gather`
        self._own = 0  # of this rank, since then

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits, up to the newest `gather`."""
        return f"{self._behind:064x}"

    def gather(self) -> None:
        """Add up what all ranks have read; every rank calls it at the same step."""
        self._behind = (self._behind + self._agreement.total(self._own)) % _MODULUS
        self._own = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Note the samples of a batch."""
        for place, source in zip(batch.position.tolist(), batch.sources, strict=True):
            sample = f"{place} {source}".encode(errors="surrogateescape")
            digest = blake2b(sample, digest_size=32).digest()
            self._own = (self._own + int.from_bytes(digest, "little")) % _MODULUS

    def state_dict(self) -> dict[str, Any]:
        """Return the fingerprint so far."""
        return {"fingerprint": self.fingerprint}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._behind = int(state_dict["fingerprint"], 16)
