"""AudioCLIP: CLIP's RN50 with a third encoder, for sounds, in the same feature space.

Guzhov et al., "AudioCLIP: Extending CLIP to Image, Text and Audio", 2021 (arXiv:2106.13043). Importing this package
does not start Jittor.
"""
