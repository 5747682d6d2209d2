"""The STFT sizes of multi-resolution losses, checked without torch."""

from collections.abc import Sequence

from pipeline.dsp.stft_settings import StftSettings
from pipeline.errors import ConfigError


def stft_resolutions(
    fft_sizes: Sequence[int],
    hop_sizes: Sequence[int] | None = None,
    win_lengths: Sequence[int] | None = None,
    n_mels: Sequence[int] | None = None,
) -> list[StftSettings]:
    """Pair up the lists of sizes; a hop defaults to a quarter of the FFT, a window to the whole of it.

    Args:
        fft_sizes: FFT sizes in samples.
        hop_sizes: hops in samples, one per FFT size, or None.
        win_lengths: window lengths in samples, one per FFT size, or None.
        n_mels: mel bands, one count per FFT size, or None.

    Raises:
        ConfigError: lists of unequal length, sizes that make no STFT, more bands than bins; led by the argument's
            name.
    """
    if not fft_sizes:
        raise ConfigError("fft_sizes=[]: at least one size is needed")
    hops = [size // 4 for size in fft_sizes] if hop_sizes is None else list(hop_sizes)
    windows = list(fft_sizes) if win_lengths is None else list(win_lengths)
    for name, values in (("hop_sizes", hops), ("win_lengths", windows)):
        _require_pairs(name, values, fft_sizes)
    found = []
    for index, sizes in enumerate(zip(fft_sizes, hops, windows, strict=True)):
        try:
            found.append(StftSettings(*sizes))
        except ConfigError as error:
            raise ConfigError(f"fft_sizes[{index}]: {error}") from None
    if n_mels is not None:
        _require_pairs("n_mels", n_mels, fft_sizes)
        for resolution, bands in zip(found, n_mels, strict=True):
            require_mel_bands(bands, resolution)
    return found


def mel_resolutions(fft_sizes: Sequence[int], n_mels: Sequence[int]) -> list[StftSettings]:
    """Return the STFTs of a multi-scale mel loss after checking the band counts against them.

    Args:
        fft_sizes: FFT sizes in samples; windows are as long, hops a quarter.
        n_mels: mel bands, one count per FFT size.

    Raises:
        ConfigError: lists of unequal length, sizes that make no STFT, more bands than frequency bins.
    """
    return stft_resolutions(fft_sizes, n_mels=n_mels)


def require_mel_bands(n_mels: int, stft: StftSettings) -> None:
    """Raise ConfigError where more mel bands than frequency bins are asked for."""
    if n_mels > stft.num_bins:
        bins = f"the {stft.num_bins} bins of an FFT of {stft.n_fft}"
        raise ConfigError(f"n_mels: {n_mels} bands are more than {bins}")


def _require_pairs(name: str, values: Sequence[int], fft_sizes: Sequence[int]) -> None:
    if len(values) != len(fft_sizes):
        counts = f"{len(values)} entries, fft_sizes {len(fft_sizes)}"
        raise ConfigError(f"{name} has {counts}; they are read in pairs")
