"""`data.jsonl`: the audio files that a run trains and evaluates on, with what tells whether they have changed.

What a file holds may be read after training has begun: until then its line says when the file was last changed, and its
content is completed only if that is still so.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config.atomic import write_text
from pipeline.data.content import content_digest, is_pending
from pipeline.data.corpus import Corpus
from pipeline.errors import LaunchError

DATA = "data.jsonl"
_PARTS = ("train", "eval", "both")
_NUM_THREADS = 16  # reading waits for the disk or the network


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of a run.

    Attributes:
        part: `train`, `eval`, or `both` where one file serves for both.
        path: relative to the folder.
        size_bytes: its size.
        num_frames: its length at its own rate.
        content: digest of what it holds, or pending.
        mtime_ns: when it was last changed; None where its content is known.
    """

    part: str
    path: str
    size_bytes: int
    num_frames: int
    content: str
    mtime_ns: int | None = None

    @property
    def is_pending(self) -> bool:
        """Whether its content was not read yet."""
        return is_pending(self.content)


def files_of(corpus: Corpus) -> list[DataFile]:
    """Return the files of a corpus: those for training by path, then those for evaluation."""
    same = corpus.train.entries == corpus.evaluation.entries and corpus.train.root == corpus.evaluation.root
    parts = {"both": corpus.train} if same else {"train": corpus.train, "eval": corpus.evaluation}
    return [
        DataFile(
            part,
            entry.path,
            entry.size_bytes,
            entry.audio.num_frames,
            entry.content,
            entry.mtime_ns if is_pending(entry.content) else None,
        )
        for part, manifest in parts.items()
        for entry in manifest.entries
    ]


def digest(files: Iterable[DataFile]) -> str | None:
    """Return the manifest hash, of training and of evaluation: SHA-256 over path, length and content of the files.

    None while the content of any of them is not known.
    """
    hashes = {"train": hashlib.sha256(), "eval": hashlib.sha256()}
    for file in files:
        if file.is_pending:
            return None
        line = f"{file.path}\0{file.num_frames}\0{file.content}\n".encode(errors="surrogateescape")
        for part, found in hashes.items():
            if file.part in (part, "both"):
                found.update(line)
    return f"{hashes['train'].hexdigest()}:{hashes['eval'].hexdigest()}"


def describe(corpus: Corpus) -> dict[str, Any]:
    """Return what `provenance.json` says about the data: its manifest hash, how much it is, where it was."""
    files = files_of(corpus)
    return {
        "sha256": digest(files),
        "train_root": str(corpus.train.root),
        "eval_root": str(corpus.evaluation.root),
        "files": len(files),
        "size_bytes": sum(file.size_bytes for file in files),
    }


def write(run_dir: Path, files: Iterable[DataFile]) -> None:
    """Write the record of a run; names of any bytes survive."""
    write_text(run_dir / DATA, "".join(f"{json.dumps(_row(file))}\n" for file in files))


def _row(file: DataFile) -> list[Any]:
    row = [file.part, file.path, file.size_bytes, file.num_frames, file.content]
    return row if file.mtime_ns is None else [*row, file.mtime_ns]


def completed(recorded: Iterable[DataFile], corpus: Corpus) -> list[DataFile]:
    """Return a record with the contents that were read since, of files that are still what they were.

    Args:
        recorded: of the run.
        corpus: with the contents that are known.
    """
    known = {
        (place, entry.path, entry.size_bytes, entry.mtime_ns): entry.content
        for place, manifest in (("train", corpus.train), ("eval", corpus.evaluation))
        for entry in manifest.entries
        if not is_pending(entry.content)
    }

    def complete(file: DataFile) -> DataFile:
        place = "eval" if file.part == "eval" else "train"
        content = known.get((place, file.path, file.size_bytes, file.mtime_ns or 0), "")
        is_wanted = file.is_pending and content.startswith(file.content)
        return replace(file, content=content, mtime_ns=None) if is_wanted else file

    return [complete(file) for file in recorded]


def read(run_dir: Path) -> list[DataFile] | None:
    """Return the record of a run; None if it has none.

    Raises:
        LaunchError: the record is damaged.
    """
    path = run_dir / DATA
    if not path.is_file():
        return None
    try:
        return [_file(json.loads(line)) for line in path.read_bytes().splitlines()]
    except (ValueError, TypeError):
        raise LaunchError(f"{path}: damaged, so the data cannot be checked") from None


def _file(row: Any) -> DataFile:
    part, path, size_bytes, num_frames, content, *times = row
    texts = (part, path, content)
    numbers = (size_bytes, num_frames, *times)
    if not (
        all(isinstance(text, str) for text in texts) and all(isinstance(number, int) for number in numbers)
    ):
        raise ValueError(row)
    if part not in _PARTS or len(times) != is_pending(content):
        raise ValueError(row)
    return DataFile(part, path, size_bytes, num_frames, content, *times)


def first_difference(
    recorded: list[DataFile], corpus: Corpus, report: Callable[[str], None] = lambda line: None
) -> str | None:
    """Return the first file in which a corpus differs from a record, and how; None if in none.

    Every file whose content is recorded is read again: times and sizes prove nothing.

    Args:
        recorded: of the run.
        corpus: as the files are now.
        report: takes progress lines.
    """
    roots = {"train": corpus.train.root, "both": corpus.train.root, "eval": corpus.evaluation.root}
    bad = {file.path: file.reason for file in corpus.bad_files}
    now = {(file.part, file.path): file for file in files_of(corpus)}
    then = {(file.part, file.path): file for file in recorded}
    if listed := next(_differing(then, now, roots, bad), None):
        return listed
    read = [file for file in recorded if not file.is_pending]
    report(f"reading {len(read)} files")
    return next(_with_other_content(read, roots), None)


def _differing(
    then: dict[tuple[str, str], DataFile],
    now: dict[tuple[str, str], DataFile],
    roots: dict[str, Path],
    bad: dict[str, str],
) -> Iterator[str]:
    moved = []  # most often the consequence of another difference
    for part, path in sorted({*then, *now}, key=lambda key: (key[1], key[0])):
        old, new, where = then.get((part, path)), now.get((part, path)), roots[part] / path
        if new is None:
            others = [other for other in roots if (other, path) in now]
            if others:
                moved.append(f"{where}: was for {part}, is for {others[0]}")
            else:
                yield f"{where}: {bad.get(str(where), 'is gone')}"
        elif old is None and not any((other, path) in then for other in roots):
            yield f"{where}: was not there"
        elif old is not None and old.size_bytes != new.size_bytes:
            yield f"{where}: had {old.size_bytes} bytes, has {new.size_bytes}"
        elif old is not None and old.num_frames != new.num_frames:
            yield f"{where}: had {old.num_frames} samples, has {new.num_frames}"
    yield from moved


def _with_other_content(recorded: Iterable[DataFile], roots: dict[str, Path]) -> Iterator[str]:
    def judge(file: DataFile) -> str | None:
        where = roots[file.part] / file.path
        try:
            content = content_digest(where, file.content.partition(":")[0])
        except OSError as error:
            return f"{where}: cannot be read ({error.strerror})"
        return None if content == file.content else f"{where}: its content has changed"

    pool = ThreadPoolExecutor(_NUM_THREADS)
    try:
        yield from filter(None, pool.map(judge, recorded))
    finally:
        pool.shutdown(cancel_futures=True)
