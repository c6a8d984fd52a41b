"""Situations from users' bug reports, each with its right outcome."""
