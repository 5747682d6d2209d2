"""The logs of a run, each of which a resumed run continues exactly."""
