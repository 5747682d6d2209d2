"""Ends a run that hangs and names the rank at fault."""
