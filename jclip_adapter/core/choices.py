"""Values of options. Without imports, so that `--help` is fast."""

SAMPLE = "sample"  # the built-in data set and CLIP
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("float32", "bfloat16", "float16")  # of matmuls
AUDIO_MODES = ("proper", "published")  # of encoding sounds
MODALITIES = ("image", "text", "audio")  # of training rows
NETWORKS = ("efficientnet-lite0", "efficientnet-lite2")  # trained on ImageNet
LAYOUTS = ("class", "domain/class")  # of folders of photos, below train/ and test/ if there are such
IMAGENET_ESC = "imagenet-esc"
PROTOCOLS = ("generalised", "base-to-new", IMAGENET_ESC)  # of a benchmark
ALL_SHOTS = 1_000_000
"""The value of `--shots all`: more photos per class than any data set has."""
PART_PHOTOS = 2_000
"""Photos per part of features; docs/scale.md says why."""
LANGUAGES = ("en", "zh")  # of the report
TABLES = (".csv", ".jsonl", ".parquet")
"""Suffixes of predictions that are written as a table."""
