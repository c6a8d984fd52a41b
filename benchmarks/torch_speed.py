"""openai/CLIP's forward pass and an adapter's training in PyTorch: a process that speed.py drives.

    python torch_speed.py ATTENTION FOLDER DEVICE PRECISION

ATTENTION is "plain" or "fused", as for torch_reference.py, or "onnx" or "onnx-int8" for the vision tower in ONNX
Runtime; FOLDER holds weights.npz (by OpenAI's names), photos.txt
and texts.npz (token ids); PRECISION is "float32", "bfloat16" or "float16" (weights and activations, with sums in single
precision, as model.half() has it). It imports nothing of the package, as it runs where PyTorch is installed. Questions
and answers are those of speed_ours.py.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
BATCH, WIDTH = 32, 512


class Work:
    """What can be asked for.

    Args:
        folder: As above.
        fused: Which attention.
        device: "cpu" or "cuda".
        precision: Of weights and activations.
    """

    def __init__(self, folder: Path, fused: bool, device: str, precision: str) -> None:
        import torch

        # It lies beside this program.
        from torch_reference import tower  # type: ignore[import-not-found]

        self.tower = tower
        self.torch, self.fused, self.device, self.folder = torch, fused, device, folder
        self.kind = getattr(torch, precision)
        with np.load(folder / "weights.npz") as arrays:
            self.w = {key: torch.from_numpy(arrays[key]).to(device, self.kind) for key in arrays.files}
        self.patch = self.w["visual.conv1.weight"].shape[-1]
        self.side = self.patch * round((len(self.w["visual.positional_embedding"]) - 1) ** 0.5)
        self.paths = (folder / "photos.txt").read_text("utf-8").splitlines()

    def images(self, pixels: Any) -> Any:
        """(B, 3, n, n) float32 → (B, d) numpy."""
        with self.torch.inference_mode():
            given = self.torch.from_numpy(pixels).to(self.device, self.kind)
            return self.embed(given).float().cpu().numpy()

    def embed(self, pixels: Any) -> Any:
        """(B, 3, n, n) → (B, d), both PyTorch's."""
        w = self.w
        x = self.torch.nn.functional.conv2d(pixels, w["visual.conv1.weight"], stride=self.patch)
        x = x.flatten(2).transpose(1, 2)
        token = w["visual.class_embedding"].expand(x.shape[0], 1, -1)
        x = self._norm("visual.ln_pre", self.torch.cat([token, x], dim=1) + w["visual.positional_embedding"])
        x = self.tower(w, x, None, self.fused, "visual.")
        return self._norm("visual.ln_post", x[:, 0]) @ w["visual.proj"]

    def texts(self, tokens: Any) -> Any:
        """(B, 77) int64 → (B, d) numpy."""
        w, torch = self.w, self.torch
        with torch.inference_mode():
            ids = torch.from_numpy(tokens).to(self.device)
            mask = torch.full((ids.shape[1],) * 2, float("-inf"), device=self.device, dtype=self.kind).triu_(1)
            x = self.tower(w, w["token_embedding.weight"][ids] + w["positional_embedding"], mask, self.fused)
            last = self._norm("ln_final", x)[torch.arange(len(ids)), ids.argmax(dim=1)]
            return (last @ w["text_projection"]).float().cpu().numpy()

    def _norm(self, name: str, x: Any) -> Any:
        weight, bias = self.w[f"{name}.weight"], self.w[f"{name}.bias"]
        return self.torch.nn.functional.layer_norm(x, weight.shape, weight, bias)

    def encode(self, count: int, batch: int) -> Callable[[], int]:
        """Photos that are decoded already."""
        noise = np.random.default_rng(0).integers(0, 256, (count, self.side, self.side, 3), dtype=np.uint8)
        pixels = np.ascontiguousarray(((noise / np.float32(255) - MEAN) / STD).transpose(0, 3, 1, 2))

        def run() -> int:
            for first in range(0, count, batch):
                self.images(pixels[first : first + batch])
            return count

        return run

    def end_to_end(self, count: int, batch: int) -> Callable[[], int]:
        """Photo files, opened and encoded batch by batch in one process."""

        def run() -> int:
            for first in range(0, count, batch):
                self.images(np.stack([self._photo(path) for path in self.paths[first : min(first + batch, count)]]))
            return count

        return run

    def _photo(self, path: str) -> Any:
        with Image.open(path) as image:
            width, height = image.size
            scale = self.side / min(width, height)
            small = image.resize(
                (max(self.side, int(scale * width)), max(self.side, int(scale * height))), Image.Resampling.BICUBIC
            )
        left, top = (round((size - self.side) / 2) for size in small.size)
        square = small.crop((left, top, left + self.side, top + self.side)).convert("RGB")
        return ((np.asarray(square, np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)

    def text(self, count: int, _: int) -> Callable[[], int]:
        """The prompts of `count` classes, class by class."""
        with np.load(self.folder / "texts.npz") as arrays:
            groups = [arrays[str(number)] for number in range(count)]

        def run() -> int:
            return sum(len(self.texts(tokens)) for tokens in groups)

        return run

    def adapter(self, count: int, batch: int) -> Callable[[], int]:
        """`batch` shots of each of `count` classes, ten epochs of jclip-adapter's loop."""
        torch, rng = self.torch, np.random.default_rng(0)

        def rows(number: int) -> Any:
            drawn = torch.from_numpy(rng.standard_normal((number, WIDTH)).astype(np.float32)).to(self.device)
            return drawn / drawn.norm(dim=1, keepdim=True)

        photos, texts = rows(count * batch), rows(count)
        labels = torch.arange(count, device=self.device).repeat_interleave(batch)
        down, up = torch.nn.Linear(WIDTH, WIDTH // 4), torch.nn.Linear(WIDTH // 4, WIDTH)
        down, up = down.to(self.device), up.to(self.device)
        optimiser = torch.optim.AdamW([*down.parameters(), *up.parameters()], lr=3e-4, weight_decay=1e-2)

        def run() -> int:
            for _ in range(10):
                order, total, hits = torch.randperm(len(labels), device=self.device), 0.0, 0
                for chosen in order.split(64):
                    x = photos[chosen]
                    mixed = 0.4 * up(torch.relu(down(x))) + 0.6 * x
                    scores = 100 * (mixed / mixed.norm(dim=1, keepdim=True)) @ texts.T
                    loss = torch.nn.functional.cross_entropy(scores, labels[chosen])
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
                    total += loss.detach() * len(chosen)
                    hits += (scores.argmax(dim=1) == labels[chosen]).sum()
                float(total), int(hits)
            return 10

        return run

    def features(self) -> tuple[Any, Any]:
        """Of a few photos and texts."""
        noise = np.random.default_rng(0).integers(0, 256, (4, self.side, self.side, 3), dtype=np.uint8)
        with np.load(self.folder / "texts.npz") as arrays:
            texts = self.texts(arrays["0"][:4])
        return self.images(np.ascontiguousarray(((noise / np.float32(255) - MEAN) / STD).transpose(0, 3, 1, 2))), texts

    def product(self, count: int, _: int) -> Callable[[], int]:
        """GFLOP of matrix products of 2048 by 2048."""
        torch = self.torch
        a, b = (torch.randn(2048, 2048, device=self.device).to(self.kind) for _ in range(2))

        def run() -> int:
            for _ in range(count):
                torch.mm(a, b)
            if self.device == "cuda":
                torch.cuda.synchronize()
            return count * 2 * 2048**3 // 10**9

        return run


class OnnxWork(Work):
    """The vision tower, exported to ONNX and run by ONNX Runtime on the CPU.

    Args:
        folder: As above.
        whole: Whether products are of float32; else of 8-bit integers, quantised per pass (dynamically).
    """

    def __init__(self, folder: Path, whole: bool) -> None:
        import onnxruntime

        super().__init__(folder, fused=False, device="cpu", precision="float32")
        path = folder / "vision.onnx"
        if not path.exists():
            self._export(path)
        if not whole:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            small = folder / "vision-int8.onnx"
            quantize_dynamic(path, small, weight_type=QuantType.QInt8, per_channel=True)
            path = small
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def _export(self, path: Path) -> None:
        work, torch = self, self.torch

        class Vision(torch.nn.Module):  # type: ignore[name-defined]
            def forward(self, pixels: Any) -> Any:
                return work.embed(pixels)

        example = torch.zeros(2, 3, self.side, self.side)
        names: dict[str, Any] = {"input_names": ["pixels"], "output_names": ["features"]}
        axes = {"pixels": {0: "batch"}, "features": {0: "batch"}}
        torch.onnx.export(Vision(), (example,), str(path), dynamic_axes=axes, dynamo=False, **names)

    def images(self, pixels: Any) -> Any:
        """(B, 3, n, n) float32 → (B, d) numpy."""
        return self.session.run(None, {"pixels": pixels})[0]


def main() -> None:
    """Answer questions."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # exporting to ONNX prints
    kind, folder = sys.argv[1], Path(sys.argv[2])
    if kind.startswith("onnx"):
        work: Work = OnnxWork(folder, kind == "onnx")
    else:
        work = Work(folder, kind == "fused", sys.argv[3], sys.argv[4])
    ready: dict[str, Callable[[], int]] = {}
    for line in sys.stdin:
        question = json.loads(line)
        if question["task"] == "check":
            found = (rows.tolist() for rows in work.features())
            print(json.dumps(dict(zip(("images", "texts"), found, strict=True))), file=out, flush=True)
            continue
        if line not in ready:
            ready = {line: getattr(work, question["task"])(question["count"], question["batch"])}
        started = time.perf_counter()
        count = ready[line]()
        answer: dict[str, Any] = {"seconds": time.perf_counter() - started, "count": count}
        # Not ru_maxrss, which begins with that of the process that started this one.
        answer["peak_mb"] = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
