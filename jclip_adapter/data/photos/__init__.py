"""From a photo's file to pixels: formats, orientation, bit depth, damage, and the networks' transforms."""
