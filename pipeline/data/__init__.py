"""Data family: which files count as audio, and names. No code, so that reading a configuration imports no torch."""

AUDIO_EXTENSIONS = (
    ".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".au", ".caf", ".w64", ".rf64",
)  # fmt: skip
"""Read directly."""

UNSUPPORTED_EXTENSIONS = (".m4a", ".aac", ".wma", ".mp4", ".ape", ".wv", ".mka", ".webm")
"""Audio that libsndfile cannot read: counted and reported, to be converted once by the user."""

SELECTIONS = {
    "Folders": "pipeline.data.selections.folders:Folders",
    "TrackList": "pipeline.data.selections.track_list:TrackList",
    "JamendoSplits": "pipeline.data.selections.jamendo:JamendoSplits",
    "FmaTracks": "pipeline.data.selections.fma:FmaTracks",
}
"""How the tracks of a folder are divided, `data.selection.type`."""

AUGMENTATIONS = {
    "gain": "pipeline.data.augmentations:Gain",
    "polarity": "pipeline.data.augmentations:Polarity",
    "channel_swap": "pipeline.data.augmentations:ChannelSwap",
    "mono_mix": "pipeline.data.augmentations:MonoMix",
    "level": "pipeline.data.augmentations:Level",
}
"""Changes of training crops, `data.train_dataset.augmentations`."""
