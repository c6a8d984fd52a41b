"""Decoding and preprocessing of photos: formats, orientation, bit depth, damage, transforms."""
