"""Texts that CLIP cannot read."""

from pathlib import Path

import pytest
from PIL import Image

from jclip_adapter.errors import UsageError
from tests.conftest import Cli


def test_a_class_name_beyond_77_tokens(workplace: Path, cli: Cli) -> None:
    """C11: the hint names a file and an option that exist, and following it helps."""
    long = "a_b_" * 50
    for name in (long, "cat"):
        for number in range(2):
            place = workplace / "pets" / name / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), (60 * number, 90, len(name) % 250)).save(place)
    train = ("--train", "--data", "pets", "--weights", "tiny.pkl", "--method", "tip-adapter", "--shots", "1")
    refused = cli(*train)
    assert refused.status == 2
    assert "but CLIP reads 77" in refused.err
    assert "class_names.yaml" in refused.err
    (workplace / "pets" / "class_names.yaml").write_text(f"{long}: ay bee\n")
    assert cli(*train).status == 0
    (workplace / "pets" / "class_names.yaml").rename(workplace / "words.yaml")
    assert cli(*train, "--class-names", "words.yaml").status == 0


def test_a_template_beyond_77_tokens(workplace: Path, cli: Cli) -> None:
    """C11, relative: the prompt set is named."""
    (workplace / "p.yaml").write_text(f"templates: {{default: ['{'word ' * 90}{{}}']}}\n")
    refused = cli("--train", "--weights", "tiny.pkl", "--prompts", "p.yaml")
    assert refused.status == 2
    assert "--prompts" in refused.err


def test_a_text_beyond_77_tokens_in_the_library() -> None:
    """C11, relative: the argument that cuts it exists."""
    from jclip_adapter.clip.tokenizer import token_ids

    with pytest.raises(UsageError, match="truncate=True"):
        token_ids("word " * 90)
    assert token_ids("word " * 90, truncate=True).shape == (1, 77)
