"""Checking a run against what it is made of now, and repeating its first steps."""
