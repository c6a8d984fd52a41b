"""The architecture of a CLIP from its weights and its configuration.

Weights do not contain activation, head counts, epsilons, text cleaning and preprocessing, and wrong ones give plausible
but wrong features. They come from, in order of precedence: the metadata of a file converted by this program; OpenAI's
published SHA-256; `--model-config`; the configuration beside the weights; the format of OpenAI's and JCLIP's files.
Other weights are refused, and so is a disagreement between the last two.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import UsageError, WeightsError
from jclip_adapter.models.clip.config import OPTIONAL, ClipConfig, checked_settings, infer_config
from jclip_adapter.models.clip.tokenizer import VOCABULARY
from jclip_adapter.models.families import chinese_clip
from jclip_adapter.models.weights.audio_names import has_audio

from . import OPENAI, Description
from .hugging_face import is_hugging_face, read_hugging_face
from .json_fields import read_table
from .open_clip import is_open_clip, named_open_clip, read_open_clip
from .openai import has_openai_mlps, has_openai_sizes, is_toy, sizes_in_words

if TYPE_CHECKING:
    from jclip_adapter.models.weights.origin import Loaded

_log = logging.getLogger(__name__)
_OPEN_CLIP, _HUGGING_FACE = "open_clip_config.json", "config.json"
_HOW = "--model-config FILE|openai|open_clip:ViT-B-32"
_RECOGNISED = ("torchscript", "jittor", "own")


def configure(loaded: Loaded, wanted: str = "") -> ClipConfig:
    """The architecture of loaded weights.

    Args:
        loaded: The weights.
        wanted: The user's `--model-config`: "openai", a name such as "open_clip:ViT-B-32", or the path of a
            configuration of open_clip or Hugging Face, or of its folder; empty for none.

    Returns:
        The architecture.

    Raises:
        WeightsError: the weights are not a CLIP's, contain NaN or infinity, disagree with the configuration, or their
            configuration is unknown.
        UsageError: `wanted` is neither a file nor a known name.
    """
    try:
        inferred = infer_config(loaded.state)
        certain = _certain(loaded)
        asked = described_by(wanted) if wanted else None
        description = certain or asked or _found(loaded, inferred)
        config = _joined(loaded, inferred, description)
        _check_vocabulary(config)
        if certain and asked and _joined(loaded, inferred, asked).settings() != config.settings():
            raise WeightsError(f"--model-config {wanted} disagrees with {certain.source}.", "Leave --model-config out.")
    except WeightsError as error:
        raise WeightsError(f"{loaded.path}: {error.message}", error.hint, error.details) from error
    _check_numbers(loaded.state, loaded.path)
    _log.info("%s is read with activation, heads and preprocessing of %s", loaded.path, description.source)
    return config


def described_by(wanted: str) -> Description:
    """The configuration given by `--model-config`.

    Raises:
        WeightsError: the file is not a supported configuration.
        UsageError: it is neither a file nor a known name.
    """
    if wanted == "openai":
        return OPENAI
    if wanted.startswith("open_clip:"):
        return named_open_clip(wanted)
    path = Path(wanted).expanduser()
    if path.is_dir():
        found = _in_folder(path, prefer_hugging_face=False)
        if found is None:
            raise UsageError(f"--model-config {wanted} holds no {_OPEN_CLIP} and no {_HUGGING_FACE}.", f"Give {_HOW}.")
        return found
    if not path.is_file():
        raise UsageError(f"--model-config {wanted} is neither a file nor a known name.", f"Give {_HOW}.")
    return _from_file(path)


def _from_file(path: Path) -> Description:
    table = read_table(path)
    if is_open_clip(table):
        return read_open_clip(table, str(path))
    if is_hugging_face(table):
        return read_hugging_face(path)
    raise WeightsError(
        f"{path} is not the configuration of a CLIP.", f"Give an {_OPEN_CLIP}, or a {_HUGGING_FACE} of Hugging Face."
    )


def _certain(loaded: Loaded) -> Description | None:
    """The configuration in a converted file's metadata, or OpenAI's for OpenAI's files and AudioCLIP; else None."""
    if loaded.origin.model is not None:
        try:
            return Description("the file's metadata", checked_settings(loaded.origin.model))
        except (TypeError, ValueError) as error:
            raise WeightsError(f"its metadata are damaged ({error}).", "Convert the weights again.") from error
    if has_audio(loaded.state):  # AudioCLIP extends OpenAI's RN50
        return OPENAI
    from jclip_adapter.models.weights import download

    published = {known.sha256 for known in download.KNOWN.values()}
    return OPENAI if published & {loaded.sha256, loaded.origin.source_sha256} else None


def _found(loaded: Loaded, inferred: ClipConfig) -> Description:
    """The configuration beside the weights, or the one implied by their format; both must agree."""
    if loaded.origin.form not in _RECOGNISED:
        return _beside(loaded) or _by_form(loaded, inferred)
    try:
        beside = _beside(loaded)
        joined = inferred if beside is None else _joined(loaded, inferred, beside)
    except WeightsError as error:  # the configuration of another model in the same folder
        _log.warning("%s: ignores the configuration beside it: %s", loaded.path, error.message)
        return _by_form(loaded, inferred)
    if beside is not None and joined.settings() != inferred.settings():
        raise WeightsError(
            f"the file has OpenAI's or JCLIP's format, but {beside.source} has other settings than OpenAI's.",
            f"Choose one: --model-config openai, or --model-config {beside.source}.",
        )
    return beside or _by_form(loaded, inferred)


def _beside(loaded: Loaded) -> Description | None:
    """The configuration in the weights' folder; None if there is none."""
    return _in_folder(loaded.path.parent, prefer_hugging_face=loaded.origin.layout == "hugging_face")


def _in_folder(folder: Path, *, prefer_hugging_face: bool) -> Description | None:
    names = (_HUGGING_FACE, _OPEN_CLIP) if prefer_hugging_face else (_OPEN_CLIP, _HUGGING_FACE)
    for name in names:
        path = folder / name
        if path.is_file() and (name == _OPEN_CLIP or is_hugging_face(_table_or_nothing(path))):
            return _from_file(path)
    return None


def _table_or_nothing(path: Path) -> Mapping[str, Any]:
    """A file's JSON object; empty for a `config.json` of another program."""
    try:
        return read_table(path)
    except WeightsError:
        return {}


def _by_form(loaded: Loaded, inferred: ClipConfig) -> Description:
    """OpenAI's settings for files in the format of OpenAI, JCLIP, or an older version of this program.

    Any CLIP can be saved in such a format, so this is a guess: it is logged, and sizes other than those of OpenAI's
    models are refused, except for toy models.
    """
    form = loaded.origin.form
    if "ln_embedding" in inferred.parts and form == "torch":
        return chinese_clip.original(inferred, loaded.path.parent)
    if form in _RECOGNISED:
        if not has_openai_mlps(inferred) or not (has_openai_sizes(inferred) or is_toy(inferred)):
            raise WeightsError(
                f"the settings of this CLIP are unknown, and its sizes match no model of OpenAI's "
                f"({sizes_in_words(inferred)}).",
                f"Give {_HOW}.",
            )
        if form == "own" and loaded.origin.source_sha256:
            _log.warning(
                "%s was converted by an older version, which did not store the model's settings: OpenAI's are used. "
                "Convert the weights again if they are not OpenAI's or JCLIP's",
                loaded.path,
            )
        elif form != "own":
            _log.warning(
                "%s: assumes OpenAI's activation, heads and preprocessing, as %s, but OpenAI did not publish it; if it "
                "was made from another CLIP, give --model-config; --model-config openai confirms it",
                loaded.path,
                "it has JCLIP's format" if form == "jittor" else "it is TorchScript",
            )
        return OPENAI
    raise WeightsError(
        "these weights come without a configuration: activation, head counts and preprocessing are not in the weights.",
        f"Put the model's {_OPEN_CLIP}, or {_HUGGING_FACE} and preprocessor_config.json, beside them, or give {_HOW}.",
    )


def _located(config: ClipConfig, folder: Path) -> ClipConfig:
    """With the tokenizer's file in the weights' folder, if the settings came without a folder."""
    vocabulary = config.text_vocabulary
    if not vocabulary.name or vocabulary.folder:
        return config
    return dataclasses.replace(config, text_vocabulary=dataclasses.replace(vocabulary, folder=str(folder)))


def _joined(loaded: Loaded, inferred: ClipConfig, description: Description) -> ClipConfig:
    """The inferred sizes with a description's settings."""
    settings = dict(description.settings)
    for name, value in description.sizes.items():
        if name.startswith("visual.") and not inferred.is_vit:
            continue
        found = name in inferred.parts if name in OPTIONAL else getattr(inferred, name)
        if name == "image_resolution" and inferred.is_vit and value // inferred.vision_patch_size == inferred.grid:
            settings[name] = value  # pixels beyond the last whole patch are not read
        elif found != value:
            raise WeightsError(
                f"{description.source} has {name} = {value}, but the weights have {found}.",
                "Give the configuration of these weights, or a CLIP checkpoint as it was published.",
            )
    try:
        if description.by_sizes is not None:
            settings |= description.by_sizes(inferred)
        return _located(dataclasses.replace(inferred, **settings), loaded.path.parent)
    except ValueError as error:
        raise WeightsError(f"{description.source}: {error}.", "Give the configuration of these weights.") from error


def _check_vocabulary(config: ClipConfig) -> None:
    """Refuse CLIP's tokenizer for another one's vocabulary, whose rows do not match CLIP's token ids."""
    if not config.text_vocabulary.name and config.vocab_size != VOCABULARY:
        raise WeightsError(
            f"its vocabulary has {config.vocab_size:,} tokens, expected {VOCABULARY:,}: "
            "it was trained with another tokenizer, which its configuration does not name.",
            "Give a CLIP with OpenAI's tokenizer, or the model's whole folder.",
        )


def _check_numbers(state: Mapping[str, npt.NDArray[Any]], path: Path) -> None:
    """Refuse NaN and infinity; a float64 sum is finite exactly if all float32 addends are."""
    for name, value in state.items():
        if not np.isfinite(value.sum(dtype=np.float64)):
            bad = int((~np.isfinite(value)).sum())
            raise WeightsError(
                f"{path}: {name} contains NaN or infinity ({bad:,} of {value.size:,} numbers).",
                "The file is damaged, or its training diverged: download it again, or use an earlier checkpoint.",
            )
