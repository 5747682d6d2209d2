"""Data family: which files count as audio. No code, so that reading a configuration imports no torch."""

AUDIO_EXTENSIONS = (
    ".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".au", ".caf", ".w64", ".rf64",
)  # fmt: skip
"""Read directly."""

UNSUPPORTED_EXTENSIONS = (".m4a", ".aac", ".wma", ".mp4", ".ape", ".wv", ".mka", ".webm")
"""Audio that libsndfile cannot read: counted and reported, to be converted once by the user."""
