"""Data sets, photos, class names and prompts, and the contest's result files."""
