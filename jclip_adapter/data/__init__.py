"""Data sets, photos, texts of classes, and submissions: what is read before a network runs, and the contest's files."""
