"""Code for JCLIP, as the JCLIP-Adapter slides write it, runs against `jclip_adapter.clip`; only the import differs."""

import runpy

import numpy as np
import pytest
from PIL import Image

from tests.random_weights import write_safe

CODE = """
import jittor as jt
from jittor import nn
from PIL import Image
from jclip_adapter import clip


class Adapter(nn.Module):
    def __init__(self, c_in, reduction=4):
        super(Adapter, self).__init__()
        self.fc = nn.Sequential(
            nn.Linear(c_in, c_in // reduction, bias=False),
            nn.ReLU(),
            nn.Linear(c_in // reduction, c_in, bias=False),
            nn.ReLU(),
        )

    def execute(self, x):
        return self.fc(x)


class CustomCLIP(nn.Module):
    def __init__(self, clip_model, text_features):
        super(CustomCLIP, self).__init__()
        self.image_encoder = clip_model.visual
        self.logit_scale = clip_model.logit_scale
        self.dtype = clip_model.dtype
        self.text_features = text_features
        self.adapter = Adapter(text_features.shape[-1])

    def execute(self, image):
        image_features = self.image_encoder(image.cast(self.dtype))
        image_features = 0.2 * self.adapter(image_features) + 0.8 * image_features
        image_features = image_features / image_features.norm(dim=-1, keepdim=True)
        return self.logit_scale.exp() * image_features @ self.text_features.t()


clip_model, preprocess = clip.load(WEIGHTS)
classes = ["Animal_Bear", "Food-101_apple_pie"]
prompts = [f"a photo of {name.split('_', 1)[1]}" for name in classes]
with jt.no_grad():
    text_features = clip_model.encode_text(clip.tokenize(prompts))
    text_features /= text_features.norm(dim=-1, keepdim=True)
model = CustomCLIP(clip_model, text_features)
optimizer = nn.AdamW(model.adapter.parameters(), lr=1e-3)
criterion = nn.CrossEntropyLoss()
images = jt.stack([preprocess(Image.open(path)) for path in PHOTOS])
losses = []
for epoch in range(3):
    output = nn.softmax(model(images), dim=1)
    loss = criterion(output, jt.array([0, 1]))
    optimizer.step(loss)
    losses.append(loss.item())
values, indices = model(images).topk(2, dim=-1)
"""


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    return paths


def test_the_slides_code_runs(tmp_path, photos):
    names = {"WEIGHTS": str(write_safe(tmp_path / "tiny.safetensors")), "PHOTOS": photos}
    path = tmp_path / "slides.py"
    path.write_text(CODE)
    names = runpy.run_path(str(path), names)
    assert names["clip_model"].dtype == "float32"
    assert names["losses"][-1] < names["losses"][0]
    assert sorted(names["indices"].numpy()[0]) == [0, 1]
