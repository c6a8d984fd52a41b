"""Data sets, photos, texts of classes, and submissions: everything that is read before a network runs, or written for the contest."""
