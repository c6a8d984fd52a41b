"""What tells CLIP's relatives apart: names of their weights, their configurations and tokenizers, one file each.

Their arithmetic is `models/clip` with other parts and settings; see `ClipConfig`.
"""
