"""The reader of wandb's segments, against segments that wandb itself has written."""

import shutil

import pytest

from pipeline.training.loggers import build_loggers, close_loggers
from pipeline.training.logs.wandb_segments import history, mend, read_records, row_numbers, segments

NUM_ROWS = 30


@pytest.fixture(scope="module")
def segment(tmp_path_factory):
    """A segment whose records span several blocks of 32 KiB."""
    run_dir = tmp_path_factory.mktemp("run")
    big = {"words": "abcdefgh" * 12_000}
    loggers = build_loggers(["wandb"], run_dir, [], "project", "name", big, None, None)
    for step in range(NUM_ROWS):
        for logger in loggers:
            logger.log_metrics({f"{name}/{step}" * 100: step + 0.5 for name in "abc"}, step=step)
    close_loggers(loggers)
    (path,) = segments(run_dir / "wandb")
    return path


def test_all_rows_are_read(segment):
    assert segment.stat().st_size > 3 * 32 * 1024
    rows = history(segment)
    assert (
        [row["trainer/global_step"] for row in rows]
        == [row["_step"] for row in rows]
        == list(range(NUM_ROWS))
    )
    assert rows[7]["b/7" * 100] == 7.5
    assert row_numbers(segment) == set(range(NUM_ROWS))
    *_, (end, _) = read_records(segment)
    assert end == segment.stat().st_size


def test_a_torn_segment_is_read_to_its_last_whole_record(segment, tmp_path):
    ends = [end for end, _ in read_records(segment)]
    size, block = ends[-1], 32 * 1024
    cuts = {
        *range(7, size, 1009),
        *(block * n + d for n in (1, 2, 3) for d in (-8, -7, -6, -1, 0, 1, 6, 7, 8)),
    }
    for cut in sorted(cuts):
        torn = tmp_path / f"{cut}" / segment.name
        torn.parent.mkdir()
        shutil.copy(segment, torn)
        with torn.open("r+b") as file:
            file.truncate(cut)
        whole = [end for end in ends if end <= cut]
        assert [end for end, _ in read_records(torn)] == whole
        named = any(record.HasField("run") for _, record in read_records(torn))
        mend(torn)
        assert torn.exists() == named
        assert not named or torn.stat().st_size == whole[-1]


def test_a_flipped_bit_ends_the_reading(segment, tmp_path):
    ends = [end for end, _ in read_records(segment)]
    data = bytearray(segment.read_bytes())
    data[ends[20] + 9] ^= 4
    (tmp_path / "torn.wandb").write_bytes(data)
    assert [end for end, _ in read_records(tmp_path / "torn.wandb")] == ends[:21]
