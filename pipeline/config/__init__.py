"""Text in, checked values out: registry, typed schema and composition. Imports no torch."""
