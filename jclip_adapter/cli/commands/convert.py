"""Convert weights of any kind to safetensors."""

from __future__ import annotations

from jclip_adapter.cli.app import Invocation
from jclip_adapter.core.console import tell
from jclip_adapter.models.weights import convert


def run(invocation: Invocation) -> None:
    """The command."""
    source, target = invocation.operands["convert"]
    convert(source, target, invocation.settings.model_config)
    tell(f"written: {target}")
