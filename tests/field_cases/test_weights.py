"""Weights of other people: run with the settings that they were trained with, or refused with the reason."""

from __future__ import annotations

import dataclasses
import json
import pickle  # noqa: TID251  (writes what training scripts leave behind)
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from jclip_adapter.core.errors import AdapterError, UsageError, WeightsError
from jclip_adapter.models.clip.config import VIT_B_32, ClipConfig
from jclip_adapter.models.clip.encoder import load_encoder
from jclip_adapter.models.clip.tokenizer import token_ids
from jclip_adapter.models.description.find import configure
from jclip_adapter.models.weights import KNOWN, convert, read_state_dict
from jclip_adapter.models.weights.origin import Loaded, Origin
from jclip_adapter.models.weights.safetensors_file import read_with_facts
from jclip_adapter.storage import read_json, write_safetensors
from tests.conftest import Cli, Outcome
from tests.random_weights import random_state, write_jclip
from tests.tiny_contest import picture

from .reference_clip import Reference, activate, open_clip_config, relative

# Two layers, so that a wrong activation shows in what the second one is given; text width 16 keeps the files small.
SMALL = ClipConfig(24, 32, 2, 128, 16, 77, 49408, 16, 2)
TOLERANCE = 3e-5
TEXTS = ["a photo of a lynx", "a photo of a heron"]
OPEN_CLIP, MODEL = "open_clip_config.json", "open_clip_model.safetensors"
State = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def state() -> State:
    return drawn(SMALL)


def drawn(config: ClipConfig) -> State:
    """Random weights that are large enough for the activation to be far from linear."""
    arrays = random_state(config)
    for name in arrays:
        if name.endswith(("c_fc.weight", "in_proj_weight")):
            arrays[name] = 6 * arrays[name]
    return arrays


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A folder of two classes in the working directory; the photos to learn from."""
    monkeypatch.chdir(tmp_path)
    for label, name in enumerate(("heron", "lynx")):
        for part in ("train", "test"):
            (tmp_path / "photos" / part / name).mkdir(parents=True)
            picture(10 * label + (part == "test"), 60, 40).save(tmp_path / "photos" / part / name / f"{part}.png")
    return [tmp_path / "photos" / "train" / name / "train.png" for name in ("heron", "lynx")]


def put(folder: Path, weights: Mapping[str, np.ndarray], name: str = MODEL, **files: Any) -> Path:
    """Write weights and JSON files beside them; double underscores in their names become dots."""
    folder.mkdir(exist_ok=True)
    solid = {key: np.ascontiguousarray(value, dtype=np.float32) for key, value in weights.items()}
    save_file(solid, folder / name)
    for file, content in files.items():
        (folder / file.replace("__", ".")).write_text(json.dumps(content))
    return folder / name


def extracted(cli: Cli, weights: object, *flags: object) -> dict[str, np.ndarray]:
    """The features of the photos, through the command line."""
    done = cli("--extract", "f.npz", "--data", "photos", "--shots", 1, "--weights", weights, "--device", "cpu", *flags)
    assert done.status == 0, done.err
    with np.load("f.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def refused(cli: Cli, weights: object, *flags: object) -> str:
    """The one line by which the command line refuses weights."""
    done = cli("--extract", "f.npz", "--data", "photos", "--shots", 1, "--weights", weights, "--device", "cpu", *flags)
    return only_error(done)


def only_error(done: Outcome) -> str:
    assert done.status == 2, done
    assert "Traceback" not in done.err
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.err
    assert not Path("f.npz").exists()
    return lines[0]


def pixels_of(paths: list[Path], side: int, mean: float | np.ndarray, std: float | np.ndarray) -> np.ndarray:
    """(B, 3, n, n): the short side resized, the centre cropped, normalised."""
    found = []
    for path in paths:
        image = Image.open(path)
        wide = image.resize((int(side * image.width / image.height), side), Image.Resampling.BICUBIC)
        left = round((wide.width - side) / 2)
        square = np.asarray(wide.crop((left, 0, left + side, side)), np.float64) / 255
        found.append(((square - mean) / std).transpose(2, 0, 1))
    return np.stack(found)


OPENAI = (np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711]))
HALF = (0.5, 0.5)


def hugging_face(config: ClipConfig, **more: Any) -> dict[str, Any]:
    """A config.json of transformers for a model of these sizes."""
    return {
        "model_type": "clip",
        "projection_dim": config.embed_dim,
        "text_config": {
            "hidden_size": config.transformer_width,
            "intermediate_size": config.text_mlp,
            "num_hidden_layers": config.transformer_layers,
            "num_attention_heads": config.text_heads,
            "max_position_embeddings": config.context_length,
            **more.get("text", {}),
        },
        "vision_config": {
            "hidden_size": config.vision_width,
            "intermediate_size": config.vision_mlp,
            "num_hidden_layers": config.vision_layers,
            "num_attention_heads": config.vision_heads,
            "image_size": config.image_resolution,
            "patch_size": config.vision_patch_size,
            **more.get("vision", {}),
        },
    }


def processor(config: ClipConfig, **more: Any) -> dict[str, Any]:
    side = config.image_resolution
    return {"size": side, "crop_size": side, "image_processor_type": "CLIPImageProcessor", **more}


def in_hugging_face_names(state: State) -> State:
    """The weights as transformers' CLIPModel names them."""
    parts = {"attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2"}
    parts |= {"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    named = {
        "logit_scale": state["logit_scale"],
        "text_projection.weight": state["text_projection"].T,
        "visual_projection.weight": state["visual.proj"].T,
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
    }
    norms = {"ln_final": "text_model.final_layer_norm", "visual.ln_pre": "vision_model.pre_layrnorm"}
    for old, new in {**norms, "visual.ln_post": "vision_model.post_layernorm"}.items():
        named |= {f"{new}.{kind}": state[f"{old}.{kind}"] for kind in ("weight", "bias")}
    for key, value in state.items():
        tower, found, rest = key.partition("transformer.resblocks.")
        if found:
            number, _, part = rest.partition(".")
            layer = f"{'vision' if tower else 'text'}_model.encoder.layers.{number}"
            if ".in_proj_" in part or part.startswith("attn.in_proj_"):
                for letter, piece in zip("qkv", np.split(value, 3), strict=True):
                    named[f"{layer}.self_attn.{letter}_proj.{part.rpartition('_')[2]}"] = piece
            else:
                name, _, kind = part.rpartition(".")
                named[f"{layer}.{parts[name]}.{kind}"] = value
    return named


# --- A1


@pytest.mark.parametrize("kind", ["open_clip", "hugging_face", "flag"])
def test_a_mean_and_deviation_of_one_half_are_used(
    kind: str, state: State, photos: list[Path], tmp_path: Path, cli: Cli
) -> None:
    """A1: weights trained with mean = std = 0.5."""
    half: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.5] * 3}
    flags: tuple[object, ...] = ()
    if kind == "hugging_face":
        image = processor(SMALL, image_mean=[0.5] * 3, image_std=[0.5] * 3)
        files = {"config__json": hugging_face(SMALL), "preprocessor_config__json": image}
        weights = put(tmp_path / "w", in_hugging_face_names(state), "model.safetensors", **files)
    else:
        config = open_clip_config(SMALL, model={"quick_gelu": True}, pixels=half)
        weights = put(tmp_path / "w", state, open_clip_config__json=config)
        if kind == "flag":
            (tmp_path / "w" / OPEN_CLIP).rename(tmp_path / "c.json")
            flags = ("--model-config", "c.json")
    found = extracted(cli, weights, *flags)["train1_x"]
    tower = Reference(state, "visual.", SMALL.vision_heads, "quick_gelu")
    assert relative(found, tower.images(pixels_of(photos, 32, *HALF))) < TOLERANCE
    assert relative(found, tower.images(pixels_of(photos, 32, *OPENAI))) > 100 * TOLERANCE


@pytest.mark.usefixtures("photos")
def test_weights_without_a_configuration_are_refused(state: State, tmp_path: Path, cli: Cli) -> None:
    """A1: nothing tells the settings; the line says why and how to go on."""
    told = refused(cli, put(tmp_path / "w", state))
    for part in ("activation, head counts and preprocessing are not in the weights", "--model-config", OPEN_CLIP):
        assert part in told
    (tmp_path / "w" / "config.json").write_text('{"learning_rate": 0.1}')  # another program's
    assert "--model-config" in refused(cli, tmp_path / "w" / MODEL)
    assert "--model-config" in only_error(cli("--convert", tmp_path / "w" / MODEL, "c.safetensors"))


def test_two_configurations_of_the_same_weights_share_no_features(
    state: State, photos: list[Path], tmp_path: Path, cli: Cli
) -> None:
    """A1, A2: the settings are part of the key of stored features, one by one."""
    weights = put(tmp_path / "w", state)
    half = {"mean": [0.5] * 3}
    kinds = {
        "plain": open_clip_config(SMALL),
        "quick": open_clip_config(SMALL, model={"quick_gelu": True}),
        "mean": open_clip_config(SMALL, pixels=half),
        "squash": open_clip_config(SMALL, pixels={"resize_mode": "squash"}),
        "longest": open_clip_config(SMALL, pixels={"resize_mode": "longest"}),
        "bilinear": open_clip_config(SMALL, pixels={"interpolation": "bilinear"}),
        "heads": open_clip_config(SMALL, vision={"head_width": 32}, text={"heads": 4}),
        "eps": open_clip_config(SMALL, vision={"norm_kwargs": {"eps": 1e-3}}, text={"norm_kwargs": {"eps": 1e-3}}),
    }
    found = {}
    for name, config in kinds.items():
        Path(f"{name}.json").write_text(json.dumps(config))
        found[name] = extracted(cli, weights, "--model-config", f"{name}.json")
    plain = found.pop("plain")
    for name, other in found.items():
        assert relative(other["train1_x"], plain["train1_x"]) > TOLERANCE, name
        only_photos = name in ("mean", "squash", "longest", "bilinear")
        assert (relative(other["text"], plain["text"]) < TOLERANCE) == only_photos, name
    assert len(photos) == 2


# --- A2


@pytest.mark.parametrize(
    ("activation", "more"),
    [
        ("gelu", {}),
        ("quick_gelu", {"model": {"quick_gelu": True}}),
        (
            "gelu_tanh",
            {"vision": {"act_kwargs": {"approximate": "tanh"}}, "text": {"act_kwargs": {"approximate": "tanh"}}},
        ),
    ],
)
def test_the_activation_of_open_clip_s_configuration_is_used(
    activation: str, more: dict[str, Any], state: State, photos: list[Path], tmp_path: Path, cli: Cli
) -> None:
    """A2: a missing quick_gelu is plain GELU; tanh is a third one."""
    put(tmp_path / "w", state, open_clip_config__json=open_clip_config(SMALL, **more))
    found = extracted(cli, tmp_path / "w", "--prompts", prompts())
    check_both_towers(found, state, photos, (activation, activation))


def test_hugging_face_s_activations_are_set_for_each_tower(
    state: State, photos: list[Path], tmp_path: Path, cli: Cli
) -> None:
    """A2: hidden_act of text_config and vision_config; a missing one is quick_gelu."""
    config = hugging_face(SMALL, vision={"hidden_act": "gelu"})
    files = {"config__json": config, "preprocessor_config__json": processor(SMALL)}
    put(tmp_path / "w", in_hugging_face_names(state), "model.safetensors", **files)
    found = extracted(cli, tmp_path / "w", "--prompts", prompts())
    check_both_towers(found, state, photos, ("gelu", "quick_gelu"), left="floor")


def prompts() -> Path:
    Path("p.yaml").write_text("templates:\n  default: ['a photo of a {}']\n")
    return Path("p.yaml")


def check_both_towers(
    found: dict[str, np.ndarray], state: State, photos: list[Path], activations: tuple[str, str], left: str = "even"
) -> None:
    """Compare with float64, and show that another activation would be seen."""
    ids = token_ids(["a photo of a heron", "a photo of a lynx"])[:, :20]
    pixels = pixels_of(photos, 32, *OPENAI)
    assert left in ("even", "floor")  # 48 to 32 columns: both crop eight
    for activation in ("quick_gelu", "gelu", "gelu_tanh"):
        image = Reference(state, "visual.", 2, activation).images(pixels)
        text = Reference(state, "", 1, activation).texts(ids)
        text /= np.linalg.norm(text, axis=1, keepdims=True)
        assert (relative(found["train1_x"], image) < TOLERANCE) == (activation == activations[0])
        assert (relative(found["text"], text) < TOLERANCE) == (activation == activations[1])


def test_the_settings_stand_in_run_json_and_in_a_converted_file(
    state: State, photos: list[Path], tmp_path: Path, cli: Cli
) -> None:
    """A2: whoever gets the run or the converted file knows how the weights were run; the features stay the same."""
    config = open_clip_config(SMALL, vision={"head_width": 32}, pixels={"mean": [0.5] * 3})
    put(tmp_path / "w", state, open_clip_config__json=config)
    wanted = load_encoder(str(tmp_path / "w")).description
    assert (wanted["vision_activation"], wanted["vision_heads"], wanted["pixels"]["mean"]) == ("gelu", 4, [0.5] * 3)
    assert cli("--convert", tmp_path / "w", tmp_path / "c.safetensors").status == 0
    facts = read_with_facts(tmp_path / "c.safetensors")[1]
    assert facts is not None
    assert json.loads(facts["model"]) == wanted
    first, second = extracted(cli, tmp_path / "w"), extracted(cli, "c.safetensors", "--cache", "other")
    np.testing.assert_array_equal(first["train1_x"], second["train1_x"])
    convert(tmp_path / "c.safetensors", tmp_path / "again.safetensors")  # a copy of a copy knows them too
    assert load_encoder("again.safetensors").description == wanted
    flags = ("--data", "photos", "--shots", 1, "--run", "r", "--device", "cpu")
    assert cli("--train", "--weights", "w", *flags).status == 0
    assert read_json(Path("r/run.json"))["model"] == wanted
    Path("f.npz").unlink()
    told = only_error(cli("--train", "--weights", "c.safetensors", "--model-config", "openai", *flags))
    assert "disagrees with the file's metadata" in told
    assert len(photos) == 2


def test_a_run_is_refused_once_its_weights_are_run_in_another_way(
    state: State, photos: list[Path], tmp_path: Path, cli: Cli
) -> None:
    """A2: the configuration beside the weights was changed after training."""
    put(tmp_path / "w", state, open_clip_config__json=open_clip_config(SMALL))
    run = ("--data", "photos", "--run", "r", "--device", "cpu")
    assert cli("--train", "--weights", "w", "--shots", 1, *run).status == 0
    assert cli("--predict", "--images", photos[0], *run).status == 0
    (tmp_path / "w" / OPEN_CLIP).write_text(json.dumps(open_clip_config(SMALL, model={"quick_gelu": True})))
    assert "other settings" in only_error(cli("--predict", "--images", photos[0], *run))


def test_a_run_of_an_older_version_goes_on_with_openai_s_weights(
    state: State, photos: list[Path], tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A2: such a run has no `model` in run.json, and was trained with OpenAI's settings."""
    put(tmp_path / "w", state)
    run = ("--data", "photos", "--run", "r", "--device", "cpu")
    openai = ("--model-config", "openai")
    assert cli("--train", "--weights", f"w/{MODEL}", *openai, "--shots", 1, *run).status == 0
    read = read_json

    def without(path: Path) -> dict[str, Any]:
        facts = read(path)
        facts.pop("model", None)
        facts.get("settings", {}).pop("model_config", None)
        return facts

    monkeypatch.setattr("jclip_adapter.cli.runs.read_json", without)
    assert "--model-config" in only_error(cli("--predict", "--images", photos[0], *run))
    assert cli("--predict", "--images", photos[0], *run, *openai).status == 0
    Path("c.json").write_text(json.dumps(open_clip_config(SMALL)))
    told = only_error(cli("--predict", "--images", photos[0], *run, "--model-config", "c.json"))
    assert "other settings" in told


def test_a_recognised_file_beside_another_model_s_configuration(
    state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A2: the form of JCLIP's file and a configuration in its folder disagree: the user decides."""
    write_jclip(tmp_path / "w.pkl", state)
    config = tmp_path / OPEN_CLIP
    for other, said in (
        ({"vision": {"width": 768}}, "ignores the configuration beside it: "),  # of another size
        ({"vision": {"qk_norm": True}}, "ignores the configuration beside it: "),  # not run
        ({"model": {"quick_gelu": True}}, ""),  # the same
    ):
        config.write_text(json.dumps(open_clip_config(SMALL, **other)))
        caplog.clear()
        with caplog.at_level("WARNING"):
            assert load_encoder(str(tmp_path / "w.pkl")).description == SMALL.settings()
        assert said in caplog.text
        assert bool(said) == bool(caplog.text), "a configuration that agrees settles it"
    config.write_text(json.dumps(open_clip_config(SMALL)))
    with pytest.raises(WeightsError, match="has other settings than OpenAI's"):
        load_encoder(str(tmp_path / "w.pkl"))
    for wanted, activation in (("openai", "quick_gelu"), (str(config), "gelu")):
        found = load_encoder(str(tmp_path / "w.pkl"), model_config=wanted)
        assert found.description["text_activation"] == activation


@pytest.mark.parametrize("folder", ["DFN2B-CLIP-ViT-B-16", "DFN2B-CLIP-ViT-L-14-39B"])
def test_a_published_configuration_that_leaves_the_activation_out(
    folder: str, state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A2: apple/DFN2B-CLIP-ViT-B-16's file lacks quick_gelu; a message says what is done. Other files mean GELU."""
    put(tmp_path / folder, state, open_clip_config__json=open_clip_config(SMALL))
    with caplog.at_level("WARNING"):
        found = load_encoder(str(tmp_path / folder)).description["vision_activation"]
    assert (found, "QuickGELU" in caplog.text) == (("quick_gelu", True) if folder.endswith("16") else ("gelu", False))


# --- A3


@pytest.mark.parametrize(("width", "head"), [(160, 80), (176, 88), (208, 104), (96, 24)])
def test_heads_that_are_not_64_wide(width: int, head: int, photos: list[Path], tmp_path: Path, cli: Cli) -> None:
    """A3: heads of 80, 88 and 104 channels, as in ViT-H, g and bigG, and an MLP that is not four times as wide."""
    config = ClipConfig(24, 32, 2, width, 16, 77, 49408, 16, 1, vision_mlp=int(width * 4.3637), vision_heads=1)
    state = drawn(config)
    more = {"vision": {"head_width": head, "mlp_ratio": 4.3637}, "model": {"quick_gelu": True}}
    put(tmp_path / "w", state, open_clip_config__json=open_clip_config(config, **more))
    found = extracted(cli, tmp_path / "w")["train1_x"]
    pixels = pixels_of(photos, 32, *OPENAI)
    assert relative(found, Reference(state, "visual.", width // head, "quick_gelu").images(pixels)) < TOLERANCE
    assert relative(found, Reference(state, "visual.", 1, "quick_gelu").images(pixels)) > 100 * TOLERANCE


def test_names_of_open_clip_s_know_the_heads(tmp_path: Path) -> None:
    """A3: the wide models by name; a name for weights of other sizes is refused."""
    from jclip_adapter.models.description.find import described_by

    heads = {"ViT-H-14": 16, "ViT-g-14": 16, "ViT-bigG-14": 16, "ViT-L-14": 16, "ViT-B-32": 12}
    for name, count in heads.items():
        assert described_by(f"open_clip:{name}").settings["vision_heads"] == count
    settings = {
        "open_clip:ViT-B-32": ("gelu", "shortest", 0.48145466),
        "open_clip:ViT-B-32-quickgelu": ("quick_gelu", "shortest", 0.48145466),
        "open_clip:ViT-B-32/laion400m_e32": ("quick_gelu", "shortest", 0.48145466),
        "open_clip:ViT-B-16/laion400m_e32": ("gelu", "shortest", 0.48145466),
        "open_clip:ViT-L-14/laion2b_s32b_b82k": ("gelu", "shortest", 0.5),
        "open_clip:ViT-H-14/dfn5b": ("quick_gelu", "squash", 0.48145466),
    }
    for name, (activation, resize, mean) in settings.items():
        found = described_by(name).settings
        assert (found["text_activation"], found["pixels"].resize, found["pixels"].mean[0]) == (activation, resize, mean)
    weights = put(tmp_path, drawn(SMALL))
    with pytest.raises(WeightsError, match=r"open_clip:ViT-H-14 has vision_width = 1280, but the weights have 128"):
        load_encoder(str(weights), model_config="open_clip:ViT-H-14")


@pytest.mark.parametrize("wanted", ["open_clip:ViT-B-23", "openia", "open_clip", "none.json"])
def test_a_mistyped_name_of_a_configuration(wanted: str, state: State, tmp_path: Path) -> None:
    """A3: neither a file nor a known name."""
    with pytest.raises(UsageError, match="--model-config") as caught:
        load_encoder(str(put(tmp_path, state)), model_config=wanted)
    assert caught.value.hint


# --- A4, B1


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("rows", [60_000, 49_409, 49_407, 30_522, 1])
def test_another_tokenizer_s_vocabulary_is_refused(rows: int, state: State, tmp_path: Path, cli: Cli) -> None:
    """A4, B1: more rows than CLIP's would give foreign words, fewer an IndexError."""
    table = np.resize(state["token_embedding.weight"], (rows, 16))
    config = open_clip_config(SMALL, text={"vocab_size": rows})
    put(tmp_path / "w", {**state, "token_embedding.weight": table}, open_clip_config__json=config)
    told = refused(cli, tmp_path / "w")
    assert f"{rows:,} tokens" in told
    assert "another tokenizer" in told
    write_jclip(tmp_path / "w.pkl", {**state, "token_embedding.weight": table})  # recognised, and wrong all the same
    assert f"{rows:,} tokens" in refused(cli, "w.pkl")


# --- B4


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("visual.transformer.resblocks.1.mlp.c_fc.weight", np.nan),
        ("ln_final.bias", np.inf),
        ("token_embedding.weight", -np.inf),
        ("logit_scale", np.nan),
    ],
)
def test_numbers_that_are_not_finite_name_the_file_and_the_array(
    name: str, value: float, state: State, tmp_path: Path, cli: Cli
) -> None:
    """B4: NaN in weights is not blamed on photos."""
    spoilt = state[name].copy()
    spoilt[(-1,) * spoilt.ndim] = value
    put(tmp_path / "w", {**state, name: spoilt}, open_clip_config__json=open_clip_config(SMALL))
    told = refused(cli, tmp_path / "w")
    assert MODEL in told
    assert name in told
    assert "1 of" in told


# --- C1


@pytest.mark.parametrize(
    "prefix",
    [
        "model.",
        "clip_model.",
        "clip.",
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model.clip.",
    ],
)
@pytest.mark.parametrize("layout", ["open_clip", "text.", "hugging_face"])
def test_prefixes_are_removed_with_a_message(prefix: str, layout: str, state: State, tmp_path: Path) -> None:
    """C1: the names match behind the prefix."""
    names = in_hugging_face_names(state) if layout == "hugging_face" else state
    if layout == "text.":
        names = {k if k.startswith(("visual.", "logit")) else f"text.{k}": v for k, v in state.items()}
    path = put(tmp_path, {f"{prefix}{name}": value for name, value in names.items()})
    found = read_state_dict(path)
    assert found.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(found[name], value)


def test_the_message_of_a_removed_prefix(state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """C1: once, with the prefix; also a second time, when a pickle's copy is read."""
    write_jclip(tmp_path / "w.pkl", {f"module.model.{name}": value for name, value in state.items()})
    for _ in range(2):
        caplog.clear()
        with caplog.at_level("WARNING"):
            load_encoder(str(tmp_path / "w.pkl"), cache=tmp_path / "cache")
        assert caplog.text.count("'module.model.'") == 1


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (lambda n: [f"student.{n}", f"teacher.{n}"], r"2 models: names begin with 'student\.' and 'teacher\.'"),
        (lambda n: [n, f"ema.{n}"], "2 models"),
        (lambda n: [f"backbone.net.{n}"], r"begin with 'backbone\.net\.'"),
    ],
)
def test_several_models_in_one_file(
    names: Callable[[str], list[str]], message: str, state: State, tmp_path: Path
) -> None:
    """C1: which of them is meant cannot be told; a strange prefix is named."""
    path = put(tmp_path, {name: value for key, value in state.items() for name in names(key)})
    with pytest.raises(WeightsError, match=message):
        read_state_dict(path)


def test_several_models_in_one_checkpoint(state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """C1: student and teacher are refused; a moving average beside the model is left out, with a message."""
    (tmp_path / "two.pkl").write_bytes(pickle.dumps({"model": state, "teacher": state}))
    with pytest.raises(WeightsError, match="2 models: 'model', 'teacher'"):
        read_state_dict(tmp_path / "two.pkl")
    (tmp_path / "one.pkl").write_bytes(pickle.dumps({"epoch": 3, "state_dict": state, "model_ema": state}))
    with caplog.at_level("WARNING"):
        load_encoder(str(tmp_path / "one.pkl"), model_config="openai")
    assert "not the moving average 'model_ema'" in caplog.text


NESTED: dict[str, Callable[[State], object]] = {
    "two wrappers": lambda w: {"model": {"state_dict": w}, "teacher": {"state_dict": w}},
    "one wrapper": lambda w: {"state_dict": w, "teacher": {"net": {"state_dict": w}}},
    "inside": lambda w: {"model": {"student": w, "teacher": w}},
    "a list": lambda w: {"model": w, "others": [{"module": w}]},
}


@pytest.mark.parametrize("kind", NESTED)
def test_several_models_deeper_in_a_checkpoint(kind: str, state: State, tmp_path: Path) -> None:
    """C1: one of them was taken silently where each was in a dict of its own."""
    (tmp_path / "two.pkl").write_bytes(pickle.dumps(NESTED[kind](state)))
    with pytest.raises(WeightsError, match="2 models: '"):
        read_state_dict(tmp_path / "two.pkl")


@pytest.mark.parametrize(
    "beside",
    [
        {"optimizer": {"state": {"visual.conv1.weight": {"step": 3}}}},
        {"optim_state": {"exp_avg": "weights"}},
        {"epoch": 3, "args": {"model": "ViT-B-32"}},
        {"model_ema": {"module": "weights"}},
        {"ema": {"state_dict": "weights"}},
    ],
)
def test_one_model_in_a_checkpoint_s_own_dict(beside: dict[str, Any], state: State, tmp_path: Path) -> None:
    """C1, D: the optimiser's numbers by the weights' names are no second model, nor is a moving average."""
    other = {name: value + 1 for name, value in state.items()}
    filled = {
        key: {name: other if inner == "weights" else inner for name, inner in value.items()}
        if isinstance(value, dict)
        else value
        for key, value in beside.items()
    }
    (tmp_path / "one.pkl").write_bytes(pickle.dumps({"model": {"state_dict": state}, **filled}))
    found = read_state_dict(tmp_path / "one.pkl")
    assert np.array_equal(found["visual.proj"], state["visual.proj"])


# --- A1, A2: what a form says

ASSUMED = "assumes OpenAI's activation, heads and preprocessing"


def test_a_form_that_any_clip_can_have_is_told(state: State, photos: list[Path], tmp_path: Path, cli: Cli) -> None:
    """A2: a GELU model in Jittor's form ran as OpenAI's with a line of information alone, 0.8 % off."""
    write_jclip(tmp_path / "w.pkl", state)
    done = cli("--extract", "f.npz", "--data", "photos", "--shots", 1, "--weights", "w.pkl", "--device", "cpu")
    assert done.status == 0
    (line,) = [line for line in done.err.splitlines() if ASSUMED in line]
    assert "it has JCLIP's format" in line
    assert "give --model-config" in line
    quick = dict(np.load("f.npz"))
    Path("f.npz").unlink()
    Path("c.json").write_text(json.dumps(open_clip_config(SMALL)))
    for wanted in ("openai", "c.json"):
        flags = ("--shots", 1, "--weights", "w.pkl", "--device", "cpu", "--model-config", wanted)
        done = cli("--extract", "f.npz", "--data", "photos", *flags)
        assert done.status == 0
        assert ASSUMED not in done.err
        off = relative(np.load("f.npz")["test_x"], quick["test_x"])
        assert (off == 0) if wanted == "openai" else (off > 30 * TOLERANCE), "the guess would have been wrong"
        Path("f.npz").unlink()
    assert len(photos) == 2


@pytest.mark.parametrize(
    ("change", "sizes"),
    [
        ({"vision_width": 1280}, "ViT/16 of width 1280"),
        ({"vision_width": 768, "vision_layers": 3}, "ViT/16 of width 768, layers 3"),
        ({"vision_mlp": 500}, "MLP 500"),
        ({"text_mlp": 50}, "text of width 16, layers 2, MLP 50"),
    ],
)
def test_sizes_that_no_model_of_openai_s_has_are_refused(
    change: dict[str, int], sizes: str, photos: list[Path], tmp_path: Path, cli: Cli
) -> None:
    """A2, A3: in Jittor's form ViT-H ran with 20 heads in place of 16."""
    sized = {"vision_mlp": 0, "text_mlp": 0, "vision_heads": 0, "text_heads": 0, **change}
    write_jclip(tmp_path / "w.pkl", drawn(dataclasses.replace(SMALL, **sized)))
    told = refused(cli, "w.pkl")
    assert "its sizes match no model of OpenAI's" in told
    assert sizes in told
    assert "--model-config" in told
    assert extracted(cli, "w.pkl", "--model-config", "openai")
    assert len(photos) == 2


def empty(config: ClipConfig) -> State:
    """Arrays of zeros from which a model's sizes are read; they take no memory."""
    vision, text, side = config.vision_width, config.transformer_width, config.image_resolution
    shapes: dict[str, tuple[int, ...]] = {
        "ln_final.weight": (text,),
        "text_projection": (text, config.embed_dim),
        "positional_embedding": (config.context_length, text),
        "token_embedding.weight": (config.vocab_size, text),
        "transformer.resblocks.0.mlp.c_fc.weight": (config.text_mlp, text),
        f"transformer.resblocks.{config.transformer_layers - 1}.ln_1.weight": (text,),
    }
    if isinstance(config.vision_layers, int):
        patch = config.vision_patch_size
        shapes |= {
            "visual.proj": (vision, config.embed_dim),
            "visual.class_embedding": (vision,),
            "visual.ln_pre.weight": (vision,),
            "visual.conv1.weight": (vision, 3, patch, patch),
            "visual.positional_embedding": ((side // patch) ** 2 + 1, vision),
            "visual.transformer.resblocks.0.mlp.c_fc.weight": (config.vision_mlp, vision),
            f"visual.transformer.resblocks.{config.vision_layers - 1}.ln_1.weight": (vision,),
        }
    else:
        shapes["visual.attnpool.positional_embedding"] = ((side // 32) ** 2 + 1, 32 * vision)
        shapes["visual.layer1.0.conv1.weight"] = (vision, vision, 1, 1)
        for stage, blocks in enumerate(config.vision_layers, 1):
            shapes[f"visual.layer{stage}.{blocks - 1}.bn1.weight"] = (vision,)
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


PUBLISHED = {
    "RN50": ClipConfig(1024, 224, (3, 4, 6, 3), 64, 0, 77, 49408, 512, 12),
    "RN101": ClipConfig(512, 224, (3, 4, 23, 3), 64, 0, 77, 49408, 512, 12),
    "RN50x4": ClipConfig(640, 288, (4, 6, 10, 6), 80, 0, 77, 49408, 640, 12),
    "RN50x16": ClipConfig(768, 384, (6, 8, 18, 8), 96, 0, 77, 49408, 768, 12),
    "RN50x64": ClipConfig(1024, 448, (3, 15, 36, 10), 128, 0, 77, 49408, 1024, 12),
    "ViT-B/32": VIT_B_32,
    "ViT-B/16": ClipConfig(512, 224, 12, 768, 16, 77, 49408, 512, 12),
    "ViT-L/14": ClipConfig(768, 224, 24, 1024, 14, 77, 49408, 768, 12),
    "ViT-L/14@336px": ClipConfig(768, 336, 24, 1024, 14, 77, 49408, 768, 12),
}
OTHERS = {  # open_clip's and TinyCLIP's
    "ViT-H-14": ClipConfig(1024, 224, 32, 1280, 14, 77, 49408, 1024, 24),
    "ViT-g-14": ClipConfig(1024, 224, 40, 1408, 14, 77, 49408, 1024, 24, vision_mlp=6144),
    "ViT-bigG-14": ClipConfig(1280, 224, 48, 1664, 14, 77, 49408, 1280, 32, vision_mlp=8192),
    "ViT-B-32 with a wider text tower": dataclasses.replace(VIT_B_32, transformer_width=768, text_mlp=0, text_heads=0),
    "TinyCLIP-39M-16": ClipConfig(512, 224, 12, 512, 16, 77, 49408, 512, 6),
}


@pytest.mark.parametrize("form", ["jittor", "torchscript"])
@pytest.mark.parametrize("name", [*PUBLISHED, *OTHERS])
def test_openai_s_sizes_are_assumed_to_be_openai_s_models(
    name: str, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A2, A3: JCLIP's ViT-B/32, whose SHA-256 nobody published, runs with a word; ViT-H in its form is refused."""
    config = {**PUBLISHED, **OTHERS}[name]
    loaded = Loaded(Path("nowhere/w.pkl"), "0" * 64, empty(config), Origin(form, "open_clip"))
    with caplog.at_level("WARNING"):
        if name in OTHERS:
            with pytest.raises(WeightsError, match="match no model of OpenAI's"):
                configure(loaded)
        else:
            assert configure(loaded) == config
    assert caplog.text.count(ASSUMED) == (name in PUBLISHED)
    assert set(PUBLISHED) == set(KNOWN)
    caplog.clear()
    with caplog.at_level("WARNING"):
        assert configure(loaded, "openai").settings() == config.as_openai().settings()
    assert caplog.text == ""


# --- C2, C3 and other families


@pytest.mark.usefixtures("photos")
def test_lora_that_is_not_merged(state: State, tmp_path: Path, cli: Cli) -> None:
    """C2: peft's files, adapters alone, a folder of them, and CLIP-LoRA's own form: what to do is said."""
    low = np.zeros((2, 128), np.float32)
    layer = "vision_model.encoder.layers.0.self_attn.q_proj"
    whole = {f"base_model.model.{name}": value for name, value in in_hugging_face_names(state).items()}
    for names in (
        {**whole, f"base_model.model.{layer}.lora_A.default.weight": low},
        {f"base_model.model.{layer}.lora_A.weight": low, f"base_model.model.{layer}.lora_B.weight": low.T},
        {**state, "visual.transformer.resblocks.0.attn.q_proj.lora_A": low},
    ):
        told = refused(cli, put(tmp_path / "w", names))
        assert "LoRA" in told
        assert "merge_and_unload" in told
    put(tmp_path / "a", {"lora_A.weight": low}, "adapter_model.safetensors", adapter_config__json={"r": 2})
    assert "LoRA adapter" in refused(cli, tmp_path / "a")
    own = {"weights": {"layer_0": {"q_proj": {"w_lora_A": low, "w_lora_B": low}}}, "metadata": {"r": 2}}
    (tmp_path / "l.pkl").write_bytes(pickle.dumps(own))
    assert "LoRA matrices" in refused(cli, "l.pkl")


def test_what_features_do_not_need_is_ignored_with_a_message(
    state: State, photos: list[Path], tmp_path: Path, cli: Cli
) -> None:
    """C3: classification heads; the features are those without them. A bias of the logits is kept."""
    extra = {"fc.weight": np.ones((5, 24)), "fc.bias": np.ones(5)}
    config = open_clip_config(SMALL, model={"init_logit_bias": -10})
    bias = {"logit_bias": np.full((), -10.0)}
    put(tmp_path / "w", {**state, **extra, **bias}, open_clip_config__json=config)
    assert load_encoder(str(tmp_path / "w")).logit_bias == -10
    done = cli("--extract", "g.npz", "--data", "photos", "--shots", 1, "--weights", "w", "--device", "cpu")
    for name in extra:
        assert done.err.count(f"{name} is ignored") == 1
    found = extracted(cli, tmp_path / "w")["train1_x"]
    wanted = Reference(state, "visual.", 2, "gelu").images(pixels_of(photos, 32, *OPENAI))
    assert relative(found, wanted) < TOLERANCE
    with pytest.raises(WeightsError, match=r"unknown adapter\.weight"):
        load_encoder(str(put(tmp_path / "w", {**state, "adapter.weight": np.ones((2, 2))})))


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("visual.trunk.stages.0.blocks.0.norm.weight", "timm"),
        ("text.transformer.embeddings.word_embeddings.weight", "hf_model_name"),
        ("visual.attn_pool.query", "CoCa"),
        ("visual.attn_pool.probe", "PE-Core"),
        ("visual.blocks.0.attn.q_proj.weight", "EVA-CLIP"),
        ("image_encoder.model.patch_embed.0.weight", "MobileCLIP"),
        ("transformer.resblocks.0.attn.ln_q.weight", "qk_norm"),
        ("positional_embedding_res", "Long-CLIP"),
    ],
)
def test_other_families_are_refused_by_name(name: str, family: str, state: State, tmp_path: Path) -> None:
    """C3 and MODELS.md: what is run in another way is not run at all."""
    with pytest.raises(WeightsError, match=family) as caught:
        read_state_dict(put(tmp_path, {**state, name: np.ones((2, 2))}))
    assert "supported yet" in caught.value.message


@pytest.mark.parametrize("kind", ["siglip2", "clipseg", "clip_vision_model", "altclip"])
def test_other_types_of_hugging_face_s_models(kind: str, state: State, tmp_path: Path) -> None:
    config = {**hugging_face(SMALL), "model_type": kind}
    path = put(tmp_path, in_hugging_face_names(state), "model.safetensors", config__json=config)
    with pytest.raises(WeightsError, match=f"type '{kind}'"):
        load_encoder(str(path))


# --- C4


def test_a_hugging_face_snapshot_of_parts_and_links(state: State, photos: list[Path], tmp_path: Path, cli: Cli) -> None:
    """C4: sharded safetensors with an index, links into the cache's blobs, and the model's folder itself."""
    names = in_hugging_face_names(state)
    order = sorted(names)
    files = {
        "model-00001-of-00002.safetensors": order[: len(order) // 2],
        "model-00002-of-00002.safetensors": order[len(order) // 2 :],
    }
    cache = tmp_path / "models--someone--clip"
    blobs, snapshot = cache / "blobs", cache / "snapshots" / "0123abcd"
    for folder in (blobs, snapshot, cache / "refs"):
        folder.mkdir(parents=True)
    (cache / "refs" / "main").write_text("0123abcd")
    tables: dict[str, Any] = {
        "config.json": hugging_face(SMALL),
        "preprocessor_config.json": processor(SMALL),
        "model.safetensors.index.json": {"weight_map": {key: file for file, keys in files.items() for key in keys}},
    }
    for number, (file, keys) in enumerate(files.items()):
        put(blobs, {key: names[key] for key in keys}, f"blob{number}")
        (snapshot / file).symlink_to(f"../../blobs/blob{number}")
    for number, (file, table) in enumerate(tables.items()):
        (blobs / f"table{number}").write_text(json.dumps(table))
        (snapshot / file).symlink_to(f"../../blobs/table{number}")
    tower = Reference(state, "visual.", SMALL.vision_heads, "quick_gelu")
    wanted = tower.images(pixels_of(photos, 32, *OPENAI))
    for weights in (snapshot, cache, snapshot / "model.safetensors.index.json"):
        assert relative(extracted(cli, weights)["train1_x"], wanted) < TOLERANCE
    Path("f.npz").unlink()
    (blobs / "blob1").unlink()
    assert "model-00002-of-00002.safetensors is missing" in refused(cli, snapshot)


def test_damaged_indices(state: State, tmp_path: Path) -> None:
    """C4: a part elsewhere, a name that its part lacks, a name that the index lacks, and no index at all."""
    put(tmp_path, state, "a.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    whole = dict.fromkeys(state, "a.safetensors")
    for table, message in (
        ({"weight_map": {**whole, "x": "../a.safetensors"}}, "not a file in the same folder"),
        ({"weight_map": {**whole, "x": "a.safetensors"}}, "lacks 'x'"),
        ({"weight_map": {key: whole[key] for key in list(whole)[1:]}}, "does not know"),
        ({"weight_map": {}}, "not a table"),
        ([], "not an index"),
        ({}, "not an index"),
    ):
        index.write_text(json.dumps(table))
        with pytest.raises(WeightsError, match=message):
            load_encoder(str(tmp_path), model_config="openai")
    index.write_text(json.dumps({"weight_map": whole}))
    assert load_encoder(str(tmp_path), model_config="openai").width == 24


@pytest.mark.parametrize(
    "name",
    ["open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors", "pytorch_model.bin", "any.pt"],
)
def test_folders_with_the_usual_names(name: str, state: State, tmp_path: Path) -> None:
    """C4: open_clip's and Hugging Face's names, pickled or not, or one file of any name."""
    if name.endswith(".safetensors"):
        put(tmp_path, state, name)
    else:
        (tmp_path / name).write_bytes(pickle.dumps({"state_dict": state}))
    (tmp_path / OPEN_CLIP).write_text(json.dumps(open_clip_config(SMALL)))
    encoder = load_encoder(str(tmp_path))
    assert encoder.weights == tmp_path / name
    assert encoder.description["text_activation"] == "gelu"


def test_folders_that_cannot_be_read(state: State, tmp_path: Path) -> None:
    """C4: two files of no known name, pickled parts, a link to nothing, nothing."""
    for number, (prepare, message) in enumerate(
        (
            (
                lambda folder: [put(folder, state, f"{name}.safetensors") for name in "ab"],
                "2 weight files: a.safetensors",
            ),
            (lambda folder: (folder / "pytorch_model.bin.index.json").write_text("{}"), "pickled parts"),
            (lambda folder: (folder / "model.safetensors").symlink_to("nowhere"), "link to a missing file"),
            (lambda folder: None, "has no weight file"),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        prepare(folder)
        with pytest.raises(WeightsError, match=message):
            load_encoder(str(folder))


# --- configurations that contradict the weights, or ask for more than is run here


@pytest.mark.parametrize(
    ("tower", "change", "told"),
    [
        ("vision", {"image_size": 64}, "image_resolution = 64, but the weights have 32"),
        ("vision", {"layers": 3}, "vision_layers = 3"),
        ("vision", {"width": 256}, "vision_width = 256"),
        ("vision", {"mlp_ratio": 4.3637}, "vision_mlp"),
        ("vision", {"patch_size": 8}, "vision_patch_size = 8"),
        ("vision", {"head_width": 40}, "does not divide"),
        ("text", {"context_length": 32}, "context_length = 32"),
        ("text", {"vocab_size": 32000}, "vocab_size = 32000"),
        ("text", {"layers": 12}, "transformer_layers = 12"),
        ("text", {"width": 512}, "transformer_width = 512"),
        ("text", {"heads": 3}, "does not divide"),
        ("model", {"embed_dim": 512}, "embed_dim = 512"),
        ("vision", {"no_ln_pre": True}, "visual.ln_pre = False, but the weights have True"),
        ("text", {"proj_bias": True}, "text_projection_bias = True"),
        ("text", {"hf_tokenizer_name": "timm/ViT-B-16-SigLIP"}, "tokenizer is missing"),
        ("pixels", {"fill_color": 300}, "fill 300 is out of range"),
        ("vision", {"norm_kwargs": {"eps": 0}}, "vision_eps is 0.0, expected more than 0"),
    ],
)
def test_a_configuration_of_another_model(
    tower: str, change: dict[str, Any], told: str, state: State, tmp_path: Path
) -> None:
    put(tmp_path, state, open_clip_config__json=open_clip_config(SMALL, **{tower: change}))
    with pytest.raises(WeightsError, match=told):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("vision", {"attentional_pool": True}),
        ("vision", {"timm_model_name": "convnext_base", "timm_pool": "map"}),
        ("vision", {"layers": [3, 4, 6, 3]}),
        ("vision", {"image_size": [32, 64]}),
        ("vision", {"qk_norm": True}),
        ("vision", {"scale_fc": True}),
        ("vision", {"act_kwargs": {"approximate": "tanh", "inplace": True}}),
        ("vision", {"norm_kwargs": {"elementwise_affine": False}}),
        ("vision", {"an_option_of_tomorrow": 1}),
        ("text", {"embed_cls": True}),
        ("text", {"pool_type": "eos"}),
        ("text", {"proj_type": "none"}),
        ("text", {"hf_model_name": "roberta-base"}),
        ("text", {"tokenizer_kwargs": {"clean": "canonicalize"}}),
        ("text", {"scaled_cosine_attn": True}),
        ("model", {"multimodal_cfg": {"layers": 2}}),
        ("pixels", {"mode": "L"}),
        ("pixels", {"fill_color": [1, 2, 3]}),
        ("pixels", {"an_option_of_tomorrow": 1}),
    ],
    ids=str,
)
def test_options_of_open_clip_s_that_are_not_run(
    table: str, change: dict[str, Any], state: State, tmp_path: Path
) -> None:
    put(tmp_path, state, open_clip_config__json=open_clip_config(SMALL, **{table: change}))
    with pytest.raises(WeightsError, match=f"{next(iter(change))} = .* is not supported yet"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("table", "change", "told"),
    [
        ("text", {"eos_token_id": 1}, "eos_token_id = '1' is not supported"),
        ("text", {"hidden_act": "relu"}, "hidden_act is 'relu', expected one of quick_gelu"),
        ("vision", {"num_channels": 4}, "num_channels = '4' is not supported"),
        ("vision", {"num_attention_heads": 7}, "does not divide"),
        ("vision", {"num_attention_heads": "2"}, "expected a positive whole number"),
        ("vision", {"layer_norm_eps": None}, "expected a number"),
        ("image", {"do_resize": False}, "do_resize = 'False' is not supported"),
        ("image", {"do_rescale": False}, "do_rescale = 'False' is not supported"),
        ("image", {"rescale_factor": 1.0}, "rescale_factor = '1.0' is not supported"),
        ("image", {"resample": 4}, "resample = '4' is not supported"),
        ("image", {"do_center_crop": False}, "do_center_crop = 'False' is not supported"),
        ("image", {"do_pad": True}, "do_pad = 'True' is not supported"),
        ("image", {"do_resize": "yes"}, "do_resize is 'yes', expected true or false"),
        ("image", {"crop_size": {"height": 32, "width": 24}}, "crop_size = .* is not supported"),
        ("image", {"image_mean": [0.5, 0.5, "x"]}, "image_mean is .*, expected three numbers"),
        ("image", {"crop_size": 24}, "do not give the model"),
        ("image", {"size": 24}, "do not give the model"),
        ("image", {"size": {"longest_edge": 32}}, "size = .* is not supported"),
        ("image", {"image_processor_type": "ViTImageProcessor"}, "image_processor_type = .* is not supported"),
        ("image", {"image_mean": [0.5, 0.5]}, "image_mean is .*, expected three numbers"),
        ("image", {"image_std": [0, 0, 0]}, "std is .*, expected three numbers"),
    ],
    ids=str,
)
def test_options_of_hugging_face_s_that_are_not_run(
    table: str, change: dict[str, Any], told: str, state: State, tmp_path: Path
) -> None:
    image = processor(SMALL, **(change if table == "image" else {}))
    config = hugging_face(SMALL, **({} if table == "image" else {table: change}))
    files = {"config__json": config, "preprocessor_config__json": image}
    put(tmp_path, in_hugging_face_names(state), "model.safetensors", **files)
    with pytest.raises(WeightsError, match=told):
        load_encoder(str(tmp_path))


DAMAGED: list[dict[str, Any]] = [
    *({"model": SMALL.settings() | change} for change in ({"colour": 1}, {"text_heads": "8"}, {"pixels": 3})),
    *({"model": SMALL.settings() | change} for change in ({"text_activation": "relu"}, {"text_eps": 0.5})),
    *(
        {"model": {"pixels": change}}
        for change in ({"size": 1}, {"resize": "x"}, {"edge": 9999}, {"mean": [1, 2, "x"]})
    ),
    *({"model": 3}, {"origin": 3}),
]


@pytest.mark.parametrize("facts", DAMAGED, ids=str)
def test_metadata_that_cannot_be(facts: dict[str, Any], state: State, tmp_path: Path) -> None:
    """Of a file with a valid checksum."""
    text = {name: json.dumps(value) for name, value in facts.items()}
    write_safetensors(tmp_path / "w.safetensors", state, {"format": "jclip-adapter", "source_sha256": "", **text})
    with pytest.raises(WeightsError, match="metadata"):
        load_encoder(str(tmp_path / "w.safetensors"))


def test_a_folder_as_configuration(state: State, tmp_path: Path) -> None:
    weights = str(put(tmp_path / "w", state))
    folder = tmp_path / "c"
    folder.mkdir()
    with pytest.raises(UsageError, match="holds no open_clip_config"):
        load_encoder(weights, model_config=str(folder))
    (folder / "config.json").write_text("no JSON")  # another program's
    with pytest.raises(UsageError, match="holds no open_clip_config"):
        load_encoder(weights, model_config=str(folder))
    with pytest.raises(WeightsError, match="is not JSON"):
        load_encoder(weights, model_config=str(folder / "config.json"))
    (folder / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="is not the configuration of a CLIP"):
        load_encoder(weights, model_config=str(folder / "config.json"))
    (folder / OPEN_CLIP).write_text(json.dumps(open_clip_config(SMALL, vision={"image_size": [32, 32]})))
    assert load_encoder(weights, model_config=str(folder)).image_size == 32


def test_a_snapshot_without_a_reference(state: State, tmp_path: Path) -> None:
    for folder in ("refs", "snapshots"):
        (tmp_path / folder).mkdir()
    put(tmp_path / "snapshots" / "0", state, open_clip_config__json=open_clip_config(SMALL))
    (tmp_path / "refs" / "main").write_text("gone")
    assert load_encoder(str(tmp_path)).image_size == 32
    (tmp_path / "refs" / "main").unlink()
    (tmp_path / "snapshots" / "1").mkdir()
    with pytest.raises(WeightsError, match="has 2 snapshots"):
        load_encoder(str(tmp_path))


def test_a_missing_preprocessor_configuration(state: State, tmp_path: Path) -> None:
    """Without it mean, deviation and resize would be guessed; transformers 5 puts it into processor_config.json."""
    put(tmp_path, in_hugging_face_names(state), "model.safetensors", config__json=hugging_face(SMALL))
    with pytest.raises(WeightsError, match=r"no preprocessor_config\.json"):
        load_encoder(str(tmp_path))
    inner = processor(SMALL, image_mean=[0.25] * 3)
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": inner}))
    assert load_encoder(str(tmp_path)).description["pixels"]["mean"] == [0.25] * 3


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"model_cfg": 3}', '{"model_cfg": {"vision_cfg": "x"}}'])
def test_configurations_that_are_none(text: str, state: State, tmp_path: Path) -> None:
    path = put(tmp_path, state)
    (tmp_path / OPEN_CLIP).write_text(text)
    with pytest.raises(AdapterError, match=OPEN_CLIP):
        load_encoder(str(path))


# --- D


@pytest.mark.parametrize(
    "change",
    [{"context_length": 16}, {"context_length": 32}, {"context_length": 248}, {"image_resolution": 48}],
    ids=str,
)
def test_other_contexts_and_resolutions(change: dict[str, int], tmp_path: Path) -> None:
    """D: read off the weights, where the file is recognised, and agreed with where there is a configuration."""
    config = dataclasses.replace(SMALL, **change)
    state = drawn(config)
    write_jclip(tmp_path / "w.pkl", state)
    put(tmp_path / "w", state, open_clip_config__json=open_clip_config(config))
    for weights in (tmp_path / "w.pkl", tmp_path / "w"):
        encoder = load_encoder(str(weights), "cpu", 4)
        ids = token_ids(TEXTS, config.context_length)[:, :12]
        activation = encoder.description["text_activation"]
        assert relative(encoder.texts(TEXTS), Reference(state, "", 1, activation).texts(ids)) < TOLERANCE
        assert encoder.image_size == config.image_resolution


@pytest.mark.parametrize("end", [2, 49407])
def test_the_end_of_text_of_old_configurations(end: int, state: State, tmp_path: Path) -> None:
    """D: 2 means the largest id of a text."""
    config = hugging_face(SMALL, text={"eos_token_id": end, "bos_token_id": 0})
    files = {"config__json": config, "preprocessor_config__json": processor(SMALL)}
    put(tmp_path, in_hugging_face_names(state), "model.safetensors", **files)
    found = load_encoder(str(tmp_path), "cpu", 4).texts(TEXTS)
    assert relative(found, Reference(state, "", 1, "quick_gelu").texts(token_ids(TEXTS)[:, :12])) < TOLERANCE


def test_files_of_this_program_keep_working(state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """D: converted by an older version, which wrote no settings; said once, as nobody knows whose they were."""
    write_safetensors(tmp_path / "old.safetensors", state, {"format": "jclip-adapter", "source_sha256": "0" * 64})
    with caplog.at_level("WARNING"):
        encoder = load_encoder(str(tmp_path / "old.safetensors"))
    assert encoder.description == dataclasses.replace(SMALL).settings()
    assert "older version" in caplog.text
    sample = load_encoder("sample")
    assert sample.description["text_activation"] == "quick_gelu"
    assert sample.reference == "sample"  # in features in parts, which other machines may read


def test_openai_s_published_file_needs_no_word(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D: known by its SHA-256, whatever lies beside it."""
    from jclip_adapter.models.weights import KnownWeights, download
    from jclip_adapter.storage import sha256_file

    path = put(tmp_path, state, open_clip_config__json=open_clip_config(SMALL))
    known = {**KNOWN, "ViT-B/32": KnownWeights("ViT-B-32", sha256_file(path))}
    monkeypatch.setattr(download, "KNOWN", known)
    assert load_encoder(str(path)).description == SMALL.settings()
    with pytest.raises(WeightsError, match="disagrees with OpenAI"):
        load_encoder(str(path), model_config=str(tmp_path / OPEN_CLIP))
    assert load_encoder(str(path), model_config="openai").width == 24


def test_the_reference_tells_the_activations_apart() -> None:
    """The comparison itself: erf and tanh differ in the fourth digit."""
    x = np.linspace(-4, 4, 100)
    kinds = [activate(x, kind) for kind in ("quick_gelu", "gelu", "gelu_tanh")]
    assert np.abs(kinds[0] - kinds[1]).max() > 0.01
    assert 1e-4 < np.abs(kinds[1] - kinds[2]).max() < 1e-3
    assert VIT_B_32.vision_activation == "quick_gelu"
