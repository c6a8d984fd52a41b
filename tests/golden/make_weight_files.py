"""Make the small genuine weight files in tests/golden/weights/ that the readers are tested on.

Needs what the program itself does without, so it is run by hand and its output is committed:

    python tests/golden/make_weight_files.py torch     # in an environment with torch 2.13, numpy < 2 and safetensors
    python tests/golden/make_weight_files.py jittor    # in the project's own environment

The two calls write expected-torch.npz and expected-jittor.npz, the numbers that every file must give, under
`<file> <file> …/<OpenAI name>`.
"""
# ruff: noqa: TID251, T201

from __future__ import annotations

import collections
import hashlib
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "weights"
WIDTH, PATCH = 4, 2


def jittor_bytes(value: object, protocol: int = 4) -> bytes:
    """What jt.save writes: a pickle, its SHA-1 and a mark (jittor/__init__.py, safepickle)."""
    data = pickle.dumps(value, protocol)
    return data + hashlib.sha1(data, usedforsecurity=False).digest() + b"HCAJSLHD"


def build_models() -> tuple[Any, Any]:  # noqa: C901  # classes that need torch have to be defined here
    """A CLIP of width 4 with OpenAI's attribute names, nested as theirs is, and its text tower."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, mask: Any = None) -> None:
            super().__init__()
            self.attn = nn.MultiheadAttention(WIDTH, 2)
            self.ln_1 = nn.LayerNorm(WIDTH)
            parts = [
                ("c_fc", nn.Linear(WIDTH, 2 * WIDTH)),
                ("gelu", nn.GELU()),
                ("c_proj", nn.Linear(2 * WIDTH, WIDTH)),
            ]
            self.mlp = nn.Sequential(collections.OrderedDict(parts))
            self.ln_2 = nn.LayerNorm(WIDTH)
            self.attn_mask = mask

        def forward(self, x):
            y = self.ln_1(x)
            x = x + self.attn(y, y, y, need_weights=False, attn_mask=self.attn_mask)[0]
            return x + self.mlp(self.ln_2(x))

    class Transformer(nn.Module):
        def __init__(self, layers: int, mask: Any = None) -> None:
            super().__init__()
            self.resblocks = nn.Sequential(*[Block(mask) for _ in range(layers)])

        def forward(self, x):
            return self.resblocks(x)

    class Visual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
            self.class_embedding = nn.Parameter(torch.randn(WIDTH))
            self.positional_embedding = nn.Parameter(torch.randn(5, WIDTH))
            self.ln_pre = nn.LayerNorm(WIDTH)
            self.transformer = Transformer(2)
            self.ln_post = nn.LayerNorm(WIDTH)
            self.proj = nn.Parameter(torch.randn(WIDTH, 3))

        def forward(self, x):
            x = self.conv1(x).flatten(2).permute(0, 2, 1)
            x = torch.cat([self.class_embedding.expand(x.shape[0], 1, -1), x], 1) + self.positional_embedding
            return self.ln_post(self.transformer(self.ln_pre(x).permute(1, 0, 2))[0]) @ self.proj

    class Clip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = Visual()
            self.transformer = Transformer(1, torch.full((6, 6), float("-inf")).triu_(1))
            self.token_embedding = nn.Embedding(11, WIDTH)
            self.positional_embedding = nn.Parameter(torch.randn(6, WIDTH))
            self.ln_final = nn.LayerNorm(WIDTH)
            self.text_projection = nn.Parameter(torch.randn(WIDTH, 3))
            self.logit_scale = nn.Parameter(torch.tensor(2.6592))
            for name, value in (("input_resolution", 4), ("context_length", 6), ("vocab_size", 11)):
                self.register_buffer(name, torch.tensor(value))

    class Tower(nn.Module):
        """The part of it that goes into the TorchScript archives, whose code would make the whole one large."""

        def __init__(self, clip: Clip) -> None:
            super().__init__()
            self.transformer, self.logit_scale = clip.transformer, clip.logit_scale
            self.register_buffer("input_resolution", clip.input_resolution)
            self.vocab_size = 11

        def forward(self, x):
            return self.transformer(x) * self.logit_scale.exp()

    torch.manual_seed(0)
    model = Clip().eval()
    return model, Tower(model).eval()


def weights_only(state: Any) -> dict[str, Any]:
    """The state dict without the sizes that OpenAI keeps as buffers."""
    return {k: v for k, v in state.items() if k not in ("input_resolution", "context_length", "vocab_size")}


def hugging_face(state: dict[str, Any]) -> dict[str, Any]:
    """The same weights by the names of transformers' CLIPModel, position_ids among them."""
    import torch

    names = {
        "logit_scale": "logit_scale",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "ln_final": "text_model.final_layer_norm",
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "visual.ln_pre": "vision_model.pre_layrnorm",
        "visual.ln_post": "vision_model.post_layernorm",
    }
    parts = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "c_fc": "mlp.fc1", "c_proj": "mlp.fc2"}
    out = {"text_model.embeddings.position_ids": torch.arange(6)[None]}
    for name, value in state.items():
        stem, _, kind = name.rpartition(".")
        if name in names:
            out[names[name]] = value
        elif name in ("text_projection", "visual.proj"):
            out["text_projection.weight" if name == "text_projection" else "visual_projection.weight"] = value.t()
        elif stem in names:
            out[f"{names[stem]}.{kind}"] = value
        else:
            tower = "vision_model" if name.startswith("visual.") else "text_model"
            number, _, rest = name.split("resblocks.")[1].partition(".")
            layer = f"{tower}.encoder.layers.{number}."
            if "in_proj_" in rest:
                kind = rest.rpartition("_")[2]
                for part, piece in zip("qkv", value.chunk(3), strict=True):
                    out[f"{layer}self_attn.{part}_proj.{kind}"] = piece
            elif "out_proj" in rest:
                out[f"{layer}self_attn.out_proj.{kind}"] = value
            else:
                out[f"{layer}{parts[rest.split('.')[-2]]}.{kind}"] = value
    return out


def make_torch() -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """Every kind that PyTorch writes; the answer is files → name → float32 array as torch itself reads it."""
    import torch
    from safetensors.torch import save_file

    model, tower = build_models()
    torch.jit.trace(tower, torch.randn(6, 2, WIDTH)).save(FOLDER / "traced.pt")
    half = build_models()[1].transformer.resblocks[0].mlp.half()  # OpenAI's archives hold fp16
    torch.jit.script(half).save(FOLDER / "scripted-half.pt")

    state = model.state_dict()
    plain = weights_only(state)
    hf = hugging_face(plain)
    wide = collections.OrderedDict(state)
    wide["visual.proj"] = torch.randn(8, 6)[2:6, 1:4]  # a window on a larger storage
    wide["text_projection"] = torch.randn(3, WIDTH).t()  # transposed strides
    torch.save(state, FOLDER / "zip.pt")
    torch.save(wide, FOLDER / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({k: v.half() for k, v in plain.items()}, FOLDER / "half.pt")
    torch.save({k: v.bfloat16() for k, v in plain.items()}, FOLDER / "bfloat16.pt")
    torch.save(
        {k: v.bfloat16() for k, v in plain.items()}, FOLDER / "b16-legacy.pt", _use_new_zipfile_serialization=False
    )
    wrapped = {
        "epoch": 3,
        "name": "tiny",
        "state_dict": {f"module.{k}": torch.nn.Parameter(v) for k, v in plain.items()},
    }
    torch.save(
        wrapped | {"optimizer": {"state": {0: {"step": 1}}, "param_groups": [{"lr": 0.1}]}}, FOLDER / "open_clip.pt"
    )
    torch.save(hf, FOLDER / "hugging_face.bin")
    converted = state.copy()
    for key in converted:  # what JCLIP's README does before jt.save
        converted[key] = converted[key].float().cpu()
    (FOLDER / "jclip-torch.pkl").write_bytes(jittor_bytes(converted))
    (FOLDER / "wide-torch.pkl").write_bytes(pickle.dumps(dict(wide), 2))

    save_file({k: v.contiguous() for k, v in hf.items()}, FOLDER / "hugging_face.safetensors")
    save_file({k: v.bfloat16() for k, v in plain.items()}, FOLDER / "bfloat16.safetensors")

    def numbers(tensors: Any) -> dict[str, np.ndarray[Any, Any]]:
        return {k: v.detach().float().contiguous().numpy() for k, v in weights_only(tensors).items()}

    return {
        "zip.pt open_clip.pt hugging_face.bin jclip-torch.pkl hugging_face.safetensors": numbers(state),
        "legacy.pt wide-torch.pkl": numbers(wide),
        "half.pt": numbers({k: v.half() for k, v in plain.items()}),
        "bfloat16.pt b16-legacy.pt bfloat16.safetensors": numbers({k: v.bfloat16() for k, v in plain.items()}),
        "traced.pt": numbers(tower.state_dict()),
        "scripted-half.pt": numbers(half.state_dict()),
    }


def make_jittor() -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """What jt.save writes of numpy arrays and of Jittor variables, and numpy pickles of every protocol."""
    from jclip_adapter.runtime import jt

    random = np.random.default_rng(0)
    arrays = {
        "logit_scale": np.array(2.6592, np.float32),
        "token_embedding.weight": random.standard_normal((11, WIDTH), np.float32),
        "text_projection": np.asfortranarray(random.standard_normal((WIDTH, 3)).astype(np.float16)),
        "visual.conv1.weight": random.standard_normal((WIDTH, 3, PATCH, PATCH)),
        "visual.proj": random.standard_normal((WIDTH, 3), np.float32).astype(">f4"),
    }
    jt.save(arrays, str(FOLDER / "jittor-numpy.pkl"))
    jt.save(
        {name: jt.array(np.ascontiguousarray(value, np.float32)) for name, value in arrays.items()},
        str(FOLDER / "jittor-vars.pkl"),
    )
    files = ["jittor-numpy.pkl", "jittor-vars.pkl"]
    for protocol in range(6):
        files.append(f"numpy-protocol-{protocol}.pkl")
        (FOLDER / files[-1]).write_bytes(pickle.dumps(arrays, protocol))
    return {" ".join(files): {name: value.astype("<f4") for name, value in arrays.items()}}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    kind = sys.argv[1]
    made = make_torch() if kind == "torch" else make_jittor()
    np.savez_compressed(
        FOLDER / f"expected-{kind}.npz", **{f"{f}/{k}": v for f, arrays in made.items() for k, v in arrays.items()}
    )
    print(f"{len(made)} files in {FOLDER}")
