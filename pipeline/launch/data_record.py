"""`data.jsonl`: the audio files that a run trains and evaluates on, with what tells whether they have changed."""

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.atomic import write_text
from pipeline.data.content import content_digest
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
        content: digest of what it holds.
    """

    part: str
    path: str
    size_bytes: int
    num_frames: int
    content: str


def files_of(corpus: Corpus) -> list[DataFile]:
    """Return the files of a corpus: those for training by path, then those for evaluation."""
    same = corpus.train.entries == corpus.evaluation.entries and corpus.train.root == corpus.evaluation.root
    parts = {"both": corpus.train} if same else {"train": corpus.train, "eval": corpus.evaluation}
    return [
        DataFile(part, entry.path, entry.size_bytes, entry.audio.num_frames, entry.content)
        for part, manifest in parts.items()
        for entry in manifest.entries
    ]


def describe(corpus: Corpus) -> dict[str, Any]:
    """Return what `provenance.json` says about the data: its manifest hash, how much it is, where it was."""
    files = files_of(corpus)
    return {
        "sha256": f"{corpus.train.content_digest}:{corpus.evaluation.content_digest}",
        "train_root": str(corpus.train.root),
        "eval_root": str(corpus.evaluation.root),
        "files": len(files),
        "size_bytes": sum(file.size_bytes for file in files),
    }


def write(run_dir: Path, corpus: Corpus) -> None:
    """Write the record of a run; names of any bytes survive."""
    rows = (
        [file.part, file.path, file.size_bytes, file.num_frames, file.content] for file in files_of(corpus)
    )
    write_text(run_dir / DATA, "".join(f"{json.dumps(row)}\n" for row in rows))


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
    part, path, size_bytes, num_frames, content = row
    texts = (part, path, content)
    numbers = (size_bytes, num_frames)
    if not (
        all(isinstance(text, str) for text in texts) and all(isinstance(number, int) for number in numbers)
    ):
        raise ValueError(row)
    if part not in _PARTS:
        raise ValueError(part)
    return DataFile(part, path, size_bytes, num_frames, content)


def first_difference(
    recorded: list[DataFile], corpus: Corpus, report: Callable[[str], None] = lambda line: None
) -> str | None:
    """Return the first file in which a corpus differs from a record, and how; None if in none.

    Every file is read again: times and sizes prove nothing.

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
    report(f"reading {len(recorded)} files")
    return next(_with_other_content(recorded, roots), None)


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
