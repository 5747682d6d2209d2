"""The three numbers of an STFT and what follows from them. Imports no torch."""

from dataclasses import dataclass

from pipeline.errors import ConfigError


@dataclass(frozen=True)
class StftSettings:
    """STFT sizes in samples, checked so that the inverse exists and is well conditioned.

    Args:
        n_fft: Transform length, even, at least 2.
        hop_length: Step between frames; at most half the window, which keeps the overlap-added squared Hann
            window at or above half of its peak everywhere.
        win_length: Length of the Hann window, at most `n_fft`; it is centred in the transform.

    Raises:
        ConfigError: A size is out of range; the message starts with the name of the size.
    """

    n_fft: int
    hop_length: int
    win_length: int

    def __post_init__(self) -> None:
        """Refuses sizes without a well-conditioned inverse."""
        if self.n_fft < 2 or self.n_fft % 2:
            raise ConfigError(f"n_fft={self.n_fft} must be an even number of at least 2")
        if not 2 <= self.win_length <= self.n_fft:
            raise ConfigError(f"win_length={self.win_length} must lie between 2 and n_fft={self.n_fft}")
        if not 1 <= self.hop_length <= self.win_length // 2:
            raise ConfigError(
                f"hop_length={self.hop_length} must lie between 1 and {self.win_length // 2}, half of "
                f"win_length={self.win_length}, for the spectrogram to be invertible"
            )

    @property
    def num_bins(self) -> int:
        """Frequency bins of a one-sided spectrum, zero and Nyquist included."""
        return self.n_fft // 2 + 1

    def num_frames(self, num_samples: int) -> int:
        """Frames that cover `num_samples` samples: one centred on each hop, the end included."""
        return -(-num_samples // self.hop_length) + 1

    def num_samples(self, num_frames: int) -> int:
        """The longest waveform that has exactly `num_frames` frames."""
        return (num_frames - 1) * self.hop_length
