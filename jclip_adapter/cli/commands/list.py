"""The list command: methods, prompt sets and known weights; one method in detail; or published CLIPs."""

from __future__ import annotations

import dataclasses
import textwrap

from jclip_adapter.cli.app import Invocation
from jclip_adapter.core.console import print_result
from jclip_adapter.data.texts.prompts import available_prompts
from jclip_adapter.methods import NOT_INCLUDED, available, get
from jclip_adapter.methods.base import Method
from jclip_adapter.models import backbones
from jclip_adapter.models.weights import KNOWN
from jclip_adapter.models.weights.published import published_models

_WIDTH = 80
MODELS = "models"


def run(invocation: Invocation) -> None:
    """Print every method, the details of the one given, or published CLIPs.

    Raises:
        UsageError: an unknown method.
    """
    name = invocation.operands["list"]
    if name == MODELS:
        print_result(models_listing())
    else:
        print_result(describe_method(get(name)) if name else listing())


def listing() -> str:
    """Every method with its idea, names of prompt sets, weights and networks, and what is left out; 80 columns."""
    width = max(map(len, available())) + 2
    lines = [_entry(name.ljust(width), get(name).meta.summary) for name in available()]
    for title, names in (
        ("prompt sets: ", available_prompts()),
        ("weights by name: ", list(KNOWN)),
        ("ImageNet networks: ", list(backbones.KNOWN)),
    ):
        lines += ["", _entry(title, ", ".join(names))]
    lines.append(_entry("more CLIPs by name: ", f"`list {MODELS}` (or --list {MODELS})"))
    lines += ["", *(_entry("not included: ", reason) for reason in NOT_INCLUDED.values())]
    return "\n".join([*lines, "", "`list METHOD` (or --list METHOD) shows paper, needs and hyper-parameters."])


def describe_method(method: type[Method]) -> str:
    """A method's idea, paper, needs, and hyper-parameters with default, range and meaning; at most 80 columns."""
    meta = method.meta
    links = [f"arXiv:{meta.arxiv}" if meta.arxiv else "", f"github.com/{meta.code}" if meta.code else ""]
    needs = [*meta.needs, *(["all queries at once (transductive)"] if meta.transductive else [])]
    lines = [
        _entry(f"{meta.name}: ", meta.summary),
        _entry("paper: ", ", ".join(filter(None, [meta.paper, str(meta.year), *links]))),
        _entry("trains: ", meta.trains),
        _entry("needs: ", ", ".join(needs) or "only texts"),
        _entry("uses, if given: ", ", ".join(meta.uses) or "nothing else"),
        "hyper-parameters (--set NAME=VALUE):",
    ]
    for item in dataclasses.fields(type(method(seed=0).hyper)):
        lines.append(
            _entry(f"  {item.name}={item.default} ", f"{_range(item)} {item.metadata.get('help', '')}".strip())
        )
    return "\n".join(lines)


def models_listing() -> str:
    """Published CLIPs with parameters, photo size, ImageNet top-1, licence and what each is good for; 80 columns."""
    models = published_models()
    width = max(len(model.licence) for model in models)
    lines = ["CLIPs by name: parameters, photo size, ImageNet top-1 without training, licence"]
    for model in models:
        size = f"{model.parameters_millions:>6} M  {model.image_size} px"
        figure = f"{model.imagenet} %" if model.imagenet else "–"
        lines += [model.weights, f"{size}  {figure:>6}  {model.licence.ljust(width)}  {model.good_for}"]
    return "\n".join([*lines, "", "Any other of the Hugging Face hub: hf:ORG/NAME. Sources: docs/models.md."])


def _range(item: dataclasses.Field[object]) -> str:
    low, high, choices = (item.metadata[key] for key in ("low", "high", "choices"))
    if choices:
        return f"({'|'.join(map(str, choices))})"
    return "" if low is None and high is None else f"({'' if low is None else low}…{'' if high is None else high})"


def _entry(title: str, text: str) -> str:
    """A title and its text, wrapped with a hanging indent."""
    return textwrap.fill(f"{title}{text}", _WIDTH, subsequent_indent=" " * min(len(title), 24), break_on_hyphens=False)
