"""Image towers of open_clip and transformers: a process that family_speed.py drives.

    python torch_family.py LIBRARY FOLDER PRECISION

It imports nothing of the package, as it runs where PyTorch is installed. Questions and answers are those of
speed_ours.py.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 32


def load(library: str, folder: Path) -> Any:
    """The function from pixels to features, and the model."""
    import torch

    if library == "open_clip":
        import open_clip

        model, _ = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
        return model.eval(), model.encode_image
    import transformers

    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    def image(pixels: Any) -> Any:
        found = model.get_image_features(pixel_values=pixels)
        return found if torch.is_tensor(found) else found.pooler_output

    return model, image


def main() -> None:
    """Answer questions."""
    import torch

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    library, folder, kind = sys.argv[1], Path(sys.argv[2]), getattr(torch, sys.argv[3])
    model, image = load(library, folder)
    model.to(kind)
    facts = json.loads((folder / "pixels.json").read_text("ascii"))
    mean, std = (np.array(facts[name], np.float32) for name in ("mean", "std"))

    def noise(count: int) -> Any:
        side = facts["side"]
        drawn = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        return np.ascontiguousarray(((drawn / np.float32(255) - mean) / std).transpose(0, 3, 1, 2))

    def encode(pixels: Any) -> Any:
        with torch.inference_mode():
            parts = [image(torch.from_numpy(pixels[n : n + BATCH]).to(kind)) for n in range(0, len(pixels), BATCH)]
            return torch.cat(parts).float().numpy()

    for line in sys.stdin:
        question = json.loads(line)
        if question["task"] == "images":
            answer: dict[str, Any] = {"images": encode(noise(4)).tolist()}
        else:
            pixels = noise(question["count"])
            started = time.perf_counter()
            encode(pixels)
            answer = {"seconds": time.perf_counter() - started, "count": question["count"]}
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
