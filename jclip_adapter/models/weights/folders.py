"""The weight file in a folder of open_clip or Hugging Face."""

from __future__ import annotations

from pathlib import Path

from jclip_adapter.core.errors import WeightsError

# In order of precedence: safetensors before pickles, then open_clip's names before Hugging Face's.
NAMES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_model.safetensors.index.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".pkl", ".ckpt")
_ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
_SHARDED_PICKLE = "pytorch_model.bin.index.json"


def weight_file_in(folder: Path) -> Path:
    """The weight file of a folder.

    Args:
        folder: A folder with open_clip's or Hugging Face's file names, with one weight file of any name, or a folder
            `models--…` of Hugging Face's cache.

    Returns:
        The file; the index of weights in several parts.

    Raises:
        WeightsError: there is none, there are several, or it is a link to a missing file.
    """
    folder = _snapshot(folder)
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
        if (folder / name).is_symlink():
            raise WeightsError(
                f"{folder / name} is a link to a missing file.", "Download the model again, or copy it completely."
            )
    if any((folder / name).is_file() for name in _ADAPTERS):
        raise WeightsError(
            f"the folder {str(folder)!r} has a LoRA adapter of peft, not a CLIP.",
            "Merge it first: model.merge_and_unload(), then save the merged model.",
        )
    if (folder / _SHARDED_PICKLE).is_file():
        raise WeightsError(
            f"{folder / _SHARDED_PICKLE} lists pickled parts, of which only one file can be read.",
            "Save the model as safetensors: model.save_pretrained(FOLDER).",
        )
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if len(found) == 1:
        return found[0]
    if found:
        raise WeightsError(
            f"the folder {str(folder)!r} has {len(found)} weight files: {', '.join(path.name for path in found[:5])}.",
            "Give --weights one of them.",
        )
    raise WeightsError(
        f"the folder {str(folder)!r} has no weight file.",
        "Give a weight file, or a folder by open_clip or Hugging Face.",
    )


def _snapshot(folder: Path) -> Path:
    """The snapshot of a model's folder in Hugging Face's cache; any other folder unchanged."""
    snapshots = folder / "snapshots"
    if not snapshots.is_dir():
        return folder
    reference = folder / "refs" / "main"
    if reference.is_file():
        named = snapshots / reference.read_text(encoding="utf-8").strip()
        if named.parent == snapshots and named.is_dir():
            return named
    found = sorted(path for path in snapshots.iterdir() if path.is_dir())
    if len(found) == 1:
        return found[0]
    raise WeightsError(
        f"{snapshots} has {len(found)} snapshots, and refs/main names none of them.", "Give --weights one of them."
    )
