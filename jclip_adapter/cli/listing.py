"""What --list tells: the methods, prompt sets and known weights."""

from __future__ import annotations

from jclip_adapter.data.texts.prompts import available_prompts
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.methods import available, get
from jclip_adapter.models import backbones
from jclip_adapter.models.weights import KNOWN


def listing() -> str:
    """A table of the methods, and the names of prompt sets and weights."""
    rows = []
    for m in (get(name).meta for name in available()):
        paper = f"{m.paper.split(',')[0]} {m.year}{f', arXiv:{m.arxiv}' if m.arxiv else ''}"
        needs = ", ".join([*m.needs, *(["all queries at once (transductive)"] if m.transductive else [])])
        rows.append([m.name, m.summary, paper, m.trains, needs or "nothing"])
    table = markdown_table(["method", "idea", "paper", "trains", "needs"], rows)
    prompts, weights = ", ".join(available_prompts()), ", ".join(KNOWN)
    networks = ", ".join(backbones.KNOWN)
    return f"{table}\n\nprompt sets: {prompts}\nweights by name: {weights}\nImageNet networks: {networks}"
