"""The convert command: weights of any format to safetensors."""

from __future__ import annotations

from jclip_adapter.cli.app import Invocation
from jclip_adapter.core.console import print_result
from jclip_adapter.models.weights import convert


def run(invocation: Invocation) -> None:
    """Convert the weights and print the path."""
    source, target = invocation.operands["convert"]
    convert(source, target, invocation.settings.model_config)
    print_result(f"written: {target}")
