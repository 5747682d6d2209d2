"""The way of a batch to the GPU, beside what the GPU computes."""

import torch


class SideCopies:
    """Copies waveforms to a GPU in a stream of their own.

    The host is about a step ahead of the GPU, so that a copy in a stream beside training takes place while the step
    before is computed; in the stream of training it would lie between the two.
    """

    def __init__(self) -> None:
        """Opens no stream yet."""
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, waveform: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Returns the waveform on the device; work that is queued from now on finds it there.

        Args:
            waveform: (B, C, S), in pinned memory if the host is not to wait for the copy.
            device: Where it is needed.
        """
        if device.type != "cuda" or waveform.device == device:
            return waveform.to(device)
        if self._stream is None or self._stream.device != device:
            self._stream = torch.cuda.Stream(device)
        with torch.cuda.stream(self._stream):
            copied = waveform.to(device, non_blocking=True)
        training = torch.cuda.current_stream(device)
        training.wait_stream(self._stream)
        copied.record_stream(training)  # its memory is not given away before training is done with it
        return copied
