import os

from pipeline.data.listing import list_audio

WAV = (".wav",)


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(listing):
    return [file.path for file in listing.files]


def test_files_are_found_in_all_folders_in_the_order_of_their_paths(tmp_path):
    touch(
        tmp_path,
        "b.wav",
        "a/z.WAV",
        "a/b/c.wav",
        "音.wav",
        "notes.txt",
        ".hidden.wav",
        "a/._x.wav",
        ".cache/y.wav",
    )
    assert names(list_audio(tmp_path, WAV)) == ["a/b/c.wav", "a/z.WAV", "b.wav", "音.wav"]


def test_unsupported_formats_are_counted(tmp_path):
    touch(tmp_path, "a.m4a", "b/c.M4A", "d.wma", "e.wav")
    assert list_audio(tmp_path, WAV).unsupported == {".m4a": 2, ".wma": 1}


def test_links_are_followed_and_every_file_is_taken_once(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    touch(root, "real/a.wav", "real/b.wav")
    touch(elsewhere, "c.wav", "d.wav")
    (root / "a loop").symlink_to(root)
    (root / "real" / "up").symlink_to("..")
    (root / "alias").symlink_to("real")
    (root / "linked").symlink_to(elsewhere)
    (root / "again.wav").symlink_to(root / "real" / "a.wav")
    (root / "d.wav").symlink_to(elsewhere / "d.wav")
    listing = list_audio(root, WAV)
    assert names(listing) == ["linked/c.wav", "linked/d.wav", "real/a.wav", "real/b.wav"]
    assert not listing.unreachable


def test_links_that_lead_nowhere_are_named(tmp_path):
    (tmp_path / "gone.wav").symlink_to("nothing")
    (tmp_path / "self.wav").symlink_to("self.wav")
    (tmp_path / "self").symlink_to("self")
    listing = list_audio(tmp_path, WAV)
    assert not listing.files
    assert [bad.path for bad in listing.unreachable] == [
        str(tmp_path / "gone.wav"),
        str(tmp_path / "self.wav"),
    ]
    assert all(bad.reason.startswith("broken link") for bad in listing.unreachable)


def test_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    touch(tmp_path, "a.wav", "closed/b.wav")
    scandir = os.scandir

    def refuse(folder):
        if folder.endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = list_audio(tmp_path, WAV)
    assert names(listing) == ["a.wav"]
    assert listing.unreachable == [(str(tmp_path / "closed"), "folder cannot be listed (Permission denied)")]


def test_what_is_no_file_is_named_and_never_opened(tmp_path):
    touch(tmp_path, "a.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    listing = list_audio(tmp_path, WAV)
    assert names(listing) == ["a.wav"]
    reason = "a pipe, a socket or a device, no file"
    assert listing.unreachable == [(str(tmp_path / name), reason) for name in ("pipe.wav", "zero.wav")]
