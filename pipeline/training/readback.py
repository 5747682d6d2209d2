"""Values on their way from the training device to the host, without training waiting for them."""

import torch
from torch import Tensor


class Readback:
    """A copy of a tensor's values at one place in the stream of work, read later.

    On a GPU the copy goes into pinned memory, with an event behind it: the host goes on at once, and reading waits for
    no more than the work before the copy. Reading a tensor itself (`float(tensor)`) would wait for all that is queued.

    Args:
        values: any shape; may change afterwards.
    """

    def __init__(self, values: Tensor) -> None:
        values = values.detach()
        self._copied: torch.cuda.Event | None = None
        if not values.is_cuda:
            self._host = values.clone()
            return
        self._host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        self._host.copy_(values, non_blocking=True)
        self._copied = torch.cuda.Event(
            blocking=True
        )  # a waiting host leaves its core to the loader's workers
        self._copied.record(torch.cuda.current_stream(values.device))

    @property
    def is_late(self) -> bool:
        """Whether the values come from a device that works on its own, so that they are better read later."""
        return self._copied is not None

    def read(self) -> Tensor:
        """Return the values on the host, as soon as they are there."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._host
