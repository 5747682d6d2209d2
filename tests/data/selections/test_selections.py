"""Lists divide a folder as they say, or are refused with file and line."""

import json

import pytest

from pipeline.config.registry import build
from pipeline.data import SELECTIONS
from pipeline.data.manifest import scan
from pipeline.data.selections.fma import FmaTracks
from pipeline.data.selections.jamendo import JamendoSplits
from pipeline.data.selections.track_list import TrackList
from pipeline.errors import DataError
from tests.data.layouts import FMA, write_fma, write_jamendo, write_tone


def paths(entries):
    return [entry.path for entry in entries]


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    root = tmp_path_factory.mktemp("tones")
    for number in range(5):
        write_tone(root / "deep" / f"{number}.wav", number)
    (root / "bad.wav").touch()
    return scan(root, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(params=["csv", "jsonl"])
def write_list(request, tmp_path):
    """Writes a list of rows in both forms."""

    def write(*rows):
        path = tmp_path / f"list.{request.param}"
        if request.param == "csv":
            columns = list(dict.fromkeys(key for row in rows for key in row))
            lines = [",".join(columns), *(",".join(str(row.get(key, "")) for key in columns) for row in rows)]
        else:
            lines = [json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def test_a_list_with_splits_and_weights(tones, write_list):
    path = write_list(
        {"path": "deep/3.wav", "split": "train", "weight": 2.5, "genre": "rock"},
        {"path": "deep/0.wav", "split": "Training"},
        {"path": str(tones.root / "deep/1.wav"), "split": "val"},
        {"path": "deep/2.wav", "split": "test"},
        {"path": "deep/4.wav", "split": "train", "weight": 0},
        {"path": "bad.wav", "split": "train"},
        {"path": "gone.wav", "split": "train"},
    )
    division = TrackList(str(path)).divide(tones)
    assert paths(division.train) == ["deep/0.wav", "deep/3.wav"]
    assert paths(division.evaluation) == ["deep/1.wav"]
    assert division.weights == {"deep/3.wav": 2.5}
    assert division.notes == (f"warning: 1 tracks of {path} are not in {tones.root} (first: gone.wav)",)
    assert paths(TrackList(str(path), "test").divide(tones).evaluation) == ["deep/2.wav"]


def test_a_list_without_splits(tones, write_list):
    division = TrackList(str(write_list({"path": "deep/3.wav"}, {"path": "deep/1.wav"}))).divide(tones)
    assert paths(division.train) == ["deep/1.wav", "deep/3.wav"] and division.evaluation is None


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"path": "deep/1.wav"}, {"path": "deep/1.wav"}], r":\d: deep/1.wav stands in line \d already"),
        ([{"path": "deep/1.wav", "split": "tarin"}], r":\d: split 'tarin' is unknown; valid: train"),
        ([{"path": "deep/1.wav", "weight": -1}], r":\d: weight .?-1.? is no number of 0 and more"),
        ([{"path": "deep/1.wav", "weight": "heavy"}], r":\d: weight 'heavy'"),
        ([{"path": "../x.wav"}], r":\d: ../x.wav is not below data.root="),
        ([{"path": "/etc/x.wav"}], r":\d: /etc/x.wav is not below data.root="),
        ([{"path": "deep/1.wav", "split": "train"}], "no usable track for the split validation"),
        ([{"path": "gone.wav"}], "none of its 1 tracks is usable"),
        ([{"split": "train", "path": ""}], r":\d: has no path"),
    ],
)
def test_wrong_lists_are_refused(tones, write_list, rows, said):
    with pytest.raises(DataError, match=said):
        TrackList(str(write_list(*rows))).divide(tones)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("list.csv", "file,split\na,train\n", "has no column 'path'"),
        ("list.txt", "a.wav\n", "'.txt' is no list; valid: .csv, .jsonl"),
        ("list.jsonl", '{"path": "a.wav"\n', "list.jsonl:1: no JSON"),
        ("list.jsonl", '["a.wav"]\n', "list.jsonl:1: an object is expected"),
        ("none.csv", None, "the list of tracks cannot be read"),
    ],
)
def test_what_is_no_list_is_refused(tones, tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=said):
        TrackList(str(tmp_path / name)).divide(tones)


@pytest.mark.parametrize("extension", ["mp3", "low.mp3", "flac"])
def test_jamendo(tmp_path, extension):
    splits = write_jamendo(tmp_path / "audio", extension)
    manifest = scan(tmp_path / "audio", cache_dir=tmp_path / "cache")
    division = JamendoSplits(str(splits)).divide(manifest)
    assert paths(division.train) == [f"48/1048.{extension}", f"48/948.{extension}"]
    assert paths(division.evaluation) == [f"48/2148.{extension}"]
    assert paths(JamendoSplits(str(splits), evaluate_on="test").divide(manifest).evaluation) == [
        f"99/2199.{extension}"
    ]
    (splits / "autotagging-train.tsv").write_text("TRACK_ID\tDURATION\n")
    with pytest.raises(DataError, match=r"autotagging-train\.tsv:1: the header has no column PATH"):
        JamendoSplits(str(splits)).divide(manifest)
    with pytest.raises(DataError, match=r"moods-train\.tsv: the list of tracks cannot be read"):
        JamendoSplits(str(splits), "moods").divide(manifest)


def test_fma(tmp_path):
    table = tmp_path / "fma_metadata" / "tracks.csv"
    write_fma(tmp_path / "fma_full", table)
    manifest = scan(tmp_path / "fma_full", cache_dir=tmp_path / "cache")
    held = {"small": [2], "medium": [2, 5], "large": [2, 5, 1200], "full": [2, 5, 1200, 155066]}
    for subset, numbers in held.items():
        division = FmaTracks(str(table), subset).divide(manifest)
        assert paths(division.train) == [f"{number:06d}"[:3] + f"/{number:06d}.mp3" for number in numbers]
        assert paths(division.evaluation) == ["000/000010.mp3"]
    division = FmaTracks(str(table), evaluate_on="test").divide(manifest)
    assert paths(division.evaluation) == ["000/000140.mp3"] and len(FMA) == len(manifest.entries)
    (tmp_path / "fma_full" / "000" / "000005.mp3").unlink()
    manifest = scan(tmp_path / "fma_full", cache_dir=tmp_path / "cache")
    assert "1 tracks of" in FmaTracks(str(table)).divide(manifest).notes[0]
    table.write_text("a,b\nc,d\n")
    with pytest.raises(DataError, match="the two header lines have no column set/split"):
        FmaTracks(str(table)).divide(manifest)


def test_every_selection_is_built_by_its_name(tmp_path):
    configs = {
        "Folders": {},
        "TrackList": {"file": "x.csv"},
        "JamendoSplits": {"folder": "x"},
        "FmaTracks": {"tracks": "x.csv"},
    }
    assert set(configs) == set(SELECTIONS)
    for name, config in configs.items():
        assert type(build({"type": name, "config": config}, SELECTIONS, "data.selection")).__name__ == name
