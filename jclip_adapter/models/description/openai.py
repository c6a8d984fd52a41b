"""The sizes of the CLIPs that OpenAI published."""

from __future__ import annotations

from jclip_adapter.models.clip.config import ClipConfig

# Source: openai/CLIP's `build_model` on its nine files. Image tower: layers, width and patch; text tower: width and
# layers. Fine-tuning may change resolution, context and the feature width.
_TOWERS = frozenset(
    {
        (12, 768, 32, 512, 12),  # ViT-B/32
        (12, 768, 16, 512, 12),  # ViT-B/16
        (24, 1024, 14, 768, 12),  # ViT-L/14, ViT-L/14@336px
        ((3, 4, 6, 3), 64, 0, 512, 12),  # RN50
        ((3, 4, 23, 3), 64, 0, 512, 12),  # RN101
        ((4, 6, 10, 6), 80, 0, 640, 12),  # RN50x4
        ((6, 8, 18, 8), 96, 0, 768, 12),  # RN50x16
        ((3, 15, 36, 10), 128, 0, 1024, 12),  # RN50x64
    }
)
_TOY = 512  # channels; no CLIP with a narrower image tower was published by OpenAI, JCLIP or LAION


def has_openai_sizes(config: ClipConfig) -> bool:
    """Whether a model's towers are those of a CLIP that OpenAI published.

    >>> from jclip_adapter.models.clip.config import VIT_B_32
    >>> has_openai_sizes(VIT_B_32)
    True
    """
    layers, width, patch = config.vision_layers, config.vision_width, config.vision_patch_size
    towers = (layers, width, patch, config.transformer_width, config.transformer_layers)
    return towers in _TOWERS and has_openai_mlps(config)


def has_openai_mlps(config: ClipConfig) -> bool:
    """Whether the MLPs are four times as wide as their towers, as all of OpenAI's are."""
    vision = 4 * config.vision_width if config.is_vit else config.vision_mlp
    return (config.vision_mlp, config.text_mlp) == (vision, 4 * config.transformer_width)


def is_toy(config: ClipConfig) -> bool:
    """Whether a model is smaller than all published ones."""
    return (config.vision_width if config.is_vit else 32 * config.vision_width) < _TOY


def sizes_in_words(config: ClipConfig) -> str:
    """A model's sizes, for a message."""
    kind = f"ViT/{config.vision_patch_size}" if config.is_vit else "ResNet"
    image = f"{kind} of width {config.vision_width}, layers {config.vision_layers}, MLP {config.vision_mlp}"
    text = f"text of width {config.transformer_width}, layers {config.transformer_layers}, MLP {config.text_mlp}"
    return f"{image}; {text}"
