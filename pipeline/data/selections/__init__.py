"""Which tracks of a folder are trained on, which are held out, and which are drawn more often."""
