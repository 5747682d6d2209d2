"""Packed audio: tracks of any format as 16-bit samples in a few large files that are read without decoding."""
