"""Loaded by the interpreter of every process of an observed run: this folder is first on its PYTHONPATH."""

import chaos_observer

chaos_observer.watch_if_told()
