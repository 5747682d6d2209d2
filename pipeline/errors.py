"""Errors that a user can mend; everything else is a defect of this project and keeps its traceback."""


class PipelineError(Exception):
    """Root of all user-facing errors; the message names the key or file and the remedy."""


class ConfigError(PipelineError):
    """A configuration key, value or combination is wrong."""


class DataError(PipelineError):
    """An audio file or a data folder cannot be used."""


class ShapeError(PipelineError):
    """Two tensors that must agree in shape do not."""


class CheckpointError(PipelineError):
    """A checkpoint is missing, damaged or does not fit."""


class LaunchError(PipelineError):
    """A run cannot be started, or one of its processes died."""


class PeerError(LaunchError):
    """Another process of the run is gone, or the way to it: this one has done nothing wrong, and may start again."""


class TrainingError(PipelineError):
    """Training cannot go on: the loss diverged or the device is out of memory."""
