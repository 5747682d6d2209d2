"""Small real data sets in the layouts of public ones."""

import numpy as np
import soundfile


def write_tone(path, number, seconds=1.0, rate_hz=22050):
    """A tone of its own pitch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    samples = 0.3 * np.sin(2 * np.pi * (200 + 30 * (number % 50)) * t)
    options = {"format": "MP3"} if path.suffix == ".mp3" else {"subtype": "PCM_16"}
    soundfile.write(path, np.stack([samples, samples], 1), rate_hz, **options)


def write_jamendo(root, extension="mp3", numbers=(948, 1048, 2148, 2199)):
    """Tracks in folders named after the last two digits, and the lists of a split; returns the folder of the lists."""
    for number in numbers:
        write_tone(root / f"{number % 100:02d}" / f"{number}.{extension}", number)
    splits = root / "splits" / "split-0"
    splits.mkdir(parents=True)
    rows = [
        f"track_{n:07d}\tartist_1\talbum_2\t{n % 100:02d}/{n}.mp3\t1.0\tgenre---a\tmood---b" for n in numbers
    ]
    header = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"
    for split, own in {"train": rows[:-2], "validation": rows[-2:-1], "test": rows[-1:]}.items():
        (splits / f"autotagging-{split}.tsv").write_text("\n".join([header, *own]) + "\n")
    return splits


FMA = {  # track: (split, subset)
    2: ("training", "small"),
    5: ("training", "medium"),
    10: ("validation", "small"),
    140: ("test", "small"),
    1200: ("training", "large"),
    155066: ("training", "full"),
}


def write_fma(root, table):
    """Tracks in folders named after the first three of six digits, and the table with its two header lines."""
    lines = [
        ",album,album,set,set,track,track",
        ",comments,title,split,subset,bit_rate,title",
        "track_id,,,,,,",
    ]
    for number, (split, subset) in FMA.items():
        write_tone(root / f"{number:06d}"[:3] / f"{number:06d}.mp3", number)
        lines.append(f'{number},0,"An album, with a comma",{split},{subset},256000,"Title ""{number}"""')
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("\n".join(lines) + "\n")


def write_all(root):
    """Everything that the shipped data files look for below EULER_DATA."""
    write_jamendo(root / "mtg-jamendo")
    write_jamendo(root / "mtg-jamendo-low", "low.mp3")
    write_fma(root / "fma_full", root / "fma_metadata" / "tracks.csv")
    (root / "tracks.csv").write_text(
        "path,split,weight\nmtg-jamendo/48/948.mp3,train,2\nmtg-jamendo/48/1048.mp3,train,\nfma_full/000/000002.mp3,valid,\n"
    )
