from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from pipeline.data.corpus import prepare_corpus
from pipeline.errors import DataError


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, np.full(4000, 0.1), 8000)


@pytest.fixture
def prepare(tmp_path, make_settings):
    def prepare(*, trust_cache=False, **changes):
        settings = make_settings(**changes)
        return prepare_corpus(
            settings, cache_dir=tmp_path / "cache", report=lambda line: None, trust_cache=trust_cache
        )

    return prepare


def paths(manifest):
    return [entry.path for entry in manifest.entries]


@pytest.mark.parametrize("name", ["valid", "val", "validation", "eval", "test"])
def test_split_folders_are_used(tmp_path, prepare, name):
    write(tmp_path / "in", "train/a.wav", "train/x/b.wav", f"{name}/c.wav", "stray.wav")
    corpus = prepare(root=str(tmp_path / "in"))
    assert paths(corpus.train) == ["a.wav", "x/b.wav"]
    assert paths(corpus.evaluation) == ["c.wav"]
    assert corpus.num_files == 3


def test_names_divide_a_plain_folder_for_good(tmp_path, prepare):
    root = tmp_path / "in"
    write(root, *(f"{number}.wav" for number in range(30)))
    corpus = prepare(root=str(root))
    assert set(paths(corpus.train)) | set(paths(corpus.evaluation)) == {
        f"{number}.wav" for number in range(30)
    }
    assert 1 <= len(corpus.evaluation.entries) <= 12
    write(root, *(f"{number}.wav" for number in range(30, 40)))
    grown = prepare(root=str(root))
    assert set(paths(corpus.train)) <= set(paths(grown.train))
    assert set(paths(corpus.evaluation)) <= set(paths(grown.evaluation))


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_both_sides_have_a_file(tmp_path, prepare, fraction):
    write(tmp_path / "in", "a.wav", "b.wav", "c.wav")
    corpus = prepare(root=str(tmp_path / "in"), eval_fraction=fraction)
    assert {len(corpus.train.entries), len(corpus.evaluation.entries)} == {1, 2}


def test_single_file_serves_both_and_says_so(tmp_path, prepare):
    write(tmp_path / "in", "only.wav")
    corpus = prepare(root=str(tmp_path / "in"))
    assert paths(corpus.train) == paths(corpus.evaluation) == ["only.wav"]
    assert any("only.wav is the only usable file" in note for note in corpus.notes)


def test_own_evaluation_folder(tmp_path, prepare):
    write(tmp_path / "in", "a.wav", "held/b.wav", "held out/c.wav")
    write(tmp_path / "other", "d.wav")

    def with_root(root):
        return SimpleNamespace(root=str(root), max_segments=None)

    outside = prepare(root=str(tmp_path / "in"), eval_dataset=with_root(tmp_path / "other"))
    assert paths(outside.train) == ["a.wav", "held out/c.wav", "held/b.wav"]
    assert paths(outside.evaluation) == ["d.wav"]
    inside = prepare(root=str(tmp_path / "in"), eval_dataset=with_root(tmp_path / "in" / "held"))
    assert paths(inside.train) == ["a.wav", "held out/c.wav"]
    assert paths(inside.evaluation) == ["held/b.wav"]
    assert inside.num_files == 3
    same = prepare(root=str(tmp_path / "in"), eval_dataset=with_root(tmp_path / "in"))
    assert paths(same.train) == paths(same.evaluation)
    assert same.notes
    with pytest.raises(DataError, match=r"data\.eval_dataset\.root=.*nowhere is not a folder"):
        prepare(root=str(tmp_path / "in"), eval_dataset=with_root(tmp_path / "nowhere"))


def test_root_that_is_missing_or_empty_or_useless_is_one_clear_sentence(tmp_path, prepare):
    root = tmp_path / "in"
    with pytest.raises(DataError, match=r"data\.root is not set; give a folder of audio, data\.root=DIR"):
        prepare()
    with pytest.raises(DataError, match=r"data\.root=.*in is not a folder"):
        prepare(root=str(root))
    root.mkdir()
    with pytest.raises(DataError, match=r"data\.root=.*in holds no usable audio \(no audio files\)"):
        prepare(root=str(root))
    (root / "a.wav").touch()
    (root / "b.m4a").touch()
    with pytest.raises(
        DataError, match=r"1 bad files \(first: .*a\.wav: empty file.*1 \.m4a files.*pipeline\.data\.convert"
    ):
        prepare(root=str(root))


def test_unsupported_files_are_one_line(tmp_path, prepare):
    write(tmp_path / "in", "a.wav", "b.wav")
    (tmp_path / "in" / "c.m4a").touch()
    corpus = prepare(root=str(tmp_path / "in"))
    assert corpus.unsupported == {".m4a": 1}
    assert len(corpus.notes) == 1
    assert "1 files in unsupported formats are left out (1 .m4a)" in corpus.notes[0]


def test_trusted_cache_is_not_compared_with_the_folder(tmp_path, prepare):
    write(tmp_path / "in", "a.wav", "b.wav")
    first = prepare(root=str(tmp_path / "in"))
    write(tmp_path / "in", "c.wav")
    assert prepare(root=str(tmp_path / "in"), trust_cache=True) == first
    assert prepare(root=str(tmp_path / "in")).num_files == 3
