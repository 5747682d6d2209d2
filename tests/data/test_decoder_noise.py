import os
import threading

import soundfile

from pipeline.data.audio_io import probe, read_crop
from pipeline.data.decoder_noise import filtered_stderr


def test_mp3_seeks_leave_the_terminal_clean(good_root, tmp_path, capfd):
    path = good_root / "vbr.mp3"
    for start in range(3000, 40000, 1500):
        with soundfile.SoundFile(path) as file:
            file.seek(start)
            file.read(100)
    assert "libmpg123" in capfd.readouterr().err, "the decoder is not noisy any more: the filter can go"
    num_frames = probe(path).num_frames
    for start in range(3000, num_frames - 100, 1500):
        read_crop(path, start, 100)
    (tmp_path / "half.mp3").write_bytes(path.read_bytes()[:-5000])
    read_crop(tmp_path / "half.mp3", 20000, 100)
    assert capfd.readouterr().err == ""


def test_other_lines_pass(capfd):
    with filtered_stderr():
        os.write(2, b"[src/libmpg123/layer3.c] error: whatever\nNote: all is well\n")
        with filtered_stderr():
            os.write(2, b"Warning: Xing stream size off\nhalf a line")
    assert capfd.readouterr().err == "Note: all is well\nhalf a line"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_threads_may_overlap(capfd):
    start = threading.Barrier(4)

    def work():
        start.wait()
        for _ in range(50):
            with filtered_stderr():
                os.write(2, b"kept\n[src/libmpg123/x] dropped\n")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert capfd.readouterr().err == "kept\n" * 200
