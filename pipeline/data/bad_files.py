"""Bad audio files: what is wrong with each, and one account of all of them."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from pipeline.errors import DataError


class BadFile(NamedTuple):
    """A file that cannot be used, in whole or in part, and the reason in plain words."""

    path: str
    reason: str

    def __str__(self) -> str:
        """`path: reason`, with bytes that are no UTF-8 as escapes, so that printing cannot fail."""
        return (
            f"{self.path.encode(errors='surrogateescape').decode(errors='backslashreplace')}: {self.reason}"
        )


class UnreadableAudioError(DataError):
    """One audio file cannot be read where it was asked for; carries it as a `BadFile`."""

    def __init__(self, path: str, reason: str) -> None:
        """Keeps path and reason apart for the account."""
        self.bad_file = BadFile(path, reason)
        super().__init__(str(self.bad_file))


class BadFileLedger:
    """Names and counts every bad file once, whether it was found by the scan or met while reading.

    One ledger per process; it is fed with the bad files of the manifests and of every batch.
    """

    def __init__(self, num_files: int, max_bad_fraction: float, report: Callable[[str], None]) -> None:
        """Opens an empty account.

        Args:
            num_files: Audio files in all, good and bad.
            max_bad_fraction: Share of bad files, 0 to 1, above which a run is not worth going on.
            report: Takes one line per bad file.
        """
        self._num_files = num_files
        self._max_bad_fraction = max_bad_fraction
        self._report = report
        self._bad: dict[str, BadFile] = {}

    @property
    def bad_files(self) -> tuple[BadFile, ...]:
        """All bad files so far, in the order of their discovery."""
        return tuple(self._bad.values())

    def record(self, bad_files: Iterable[BadFile]) -> None:
        """Adds bad files and names those that are new.

        Raises:
            DataError: More than `max_bad_fraction` of all files are bad.
        """
        for bad_file in bad_files:
            if bad_file.path not in self._bad:
                self._bad[bad_file.path] = bad_file
                self._report(f"bad file {len(self._bad)}: {bad_file}")
        if len(self._bad) > self._max_bad_fraction * self._num_files:
            first = next(iter(self._bad.values()))
            raise DataError(
                f"{len(self._bad)} of {self._num_files} audio files are bad, more than "
                f"data.max_bad_fraction={self._max_bad_fraction:g} allows (first: {first}); "
                "mend or remove them, or raise data.max_bad_fraction"
            )
