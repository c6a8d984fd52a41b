"""The words that users choose between. Without imports, so that `--help` need not load what they stand for."""

SAMPLE = "sample"  # the built-in data set and CLIP
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("float32", "bfloat16", "float16")  # of matrix products
NETWORKS = ("efficientnet-lite0", "efficientnet-lite2")  # of ImageNet, in CLIP's place or beside it
NETWORK_REQUIREMENTS = "requirements-backbones.txt"  # what pip needs for these
LAYOUTS = ("class", "domain/class")  # what folders of photos are, below train/ and test/ where there are these
ALL_SHOTS = 1_000_000
"""More photos per class than any data set has: what `--shots all` stands for."""
