"""metrics.csv after other programs had it in their hands."""

import pytest

from pipeline.training.curves import draw_curves
from pipeline.training.logs.metrics_csv import DamagedMetricsError, MetricsCsv, read_rows

ROWS = ["step,epoch,train/loss", "1,0,0.5", "2,0,0.25"]


def resumed(path, rows=2):
    log = MetricsCsv(path, ["train/loss"], {"rows": rows}, 2)
    log.log_metrics({"train/loss": 0.125, "epoch": 0}, step=3)
    return path.read_text().splitlines()


def test_a_byte_order_mark_and_other_line_ends_are_accepted(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"\xef\xbb\xbf" + "".join(f"{row}\r\n" for row in ROWS).encode())
    assert resumed(path) == [*ROWS, "3,0,0.125"]
    assert path.read_bytes().startswith(b"step")


STRANGE = {
    "no header": [*ROWS[1:]],
    "another header": ["a,b,c", *ROWS[1:]],
    "semicolons": [row.replace(",", ";") for row in ROWS],
    "an unknown column": ["step,epoch,loss", *ROWS[1:]],
    "a column twice": ["step,epoch,epoch", *ROWS[1:]],
    "a row cut": [*ROWS[:2], "2,0"],
    "a row too long": [*ROWS[:2], "2,0,1,2"],
    "another step": [*ROWS[:2], "two,0,1"],
}


@pytest.mark.parametrize("how", STRANGE)
def test_what_was_not_written_here_is_set_aside(tmp_path, how, caplog):
    path = tmp_path / "metrics.csv"
    text = "".join(f"{row}\n" for row in STRANGE[how])
    for name in ("metrics.csv.damaged", "metrics.csv.damaged-2"):
        path.write_text(text)
        assert resumed(path) == [ROWS[0], "3,0,0.125"]
        assert (tmp_path / name).read_text() == text
        assert f"it is kept as {name}, and a new one begun" in caplog.text


def test_bytes_that_are_no_text_are_set_aside(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"\xff\xfe\x00\n" * 5)
    assert resumed(path) == [ROWS[0], "3,0,0.125"]
    assert (tmp_path / "metrics.csv.damaged").read_bytes() == b"\xff\xfe\x00\n" * 5


def test_curves_are_not_drawn_from_it(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("a,b,c\n1,2,3\n")
    with pytest.raises(DamagedMetricsError, match="not the header"):
        draw_curves(path, tmp_path / "curves.png")
    path.write_text("")
    assert read_rows(path) == []
