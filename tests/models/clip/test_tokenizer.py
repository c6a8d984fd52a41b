import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jclip_adapter.core.errors import UsageError
from jclip_adapter.models import clip
from jclip_adapter.models.clip.tokenizer import CONTEXT_LENGTH, END, START, token_ids
from tests.golden_files import Golden


@pytest.mark.golden
def test_every_token_is_openais():
    golden = Golden("openai_tokenizer")
    strings = golden.facts["strings"]
    ids = token_ids(strings, truncate=True)
    wrong = [
        text for text, ours, theirs in zip(strings, ids, golden["token_ids"], strict=True) if (ours != theirs).any()
    ]
    assert len(strings) > 0
    assert wrong == []


@pytest.mark.golden
def test_just_those_texts_are_too_long_that_openai_refuses():
    golden = Golden("openai_tokenizer")
    refused = []
    for place, text in enumerate(golden.facts["strings"]):
        try:
            token_ids(text)
        except UsageError:
            refused.append(place)
    assert refused == golden.facts["strict_raises_RuntimeError_at"]


@given(st.text(max_size=400))
def test_any_text_fits_when_cut(text):
    ids = token_ids(text, truncate=True)[0]
    assert ids[0] == START
    assert END in ids
    assert ids.shape == (CONTEXT_LENGTH,)
    assert 0 <= ids.min() <= ids.max() <= END


def test_context_length_can_be_shorter():
    assert token_ids("a photo of a cat", context_length=5, truncate=True)[0, -1] == END
    with pytest.raises(UsageError, match="7 tokens, more than CLIP's 5"):
        token_ids("a photo of a cat", context_length=5)


def test_tokenize_gives_a_variable_as_jclip_does():
    var = clip.tokenize(["a dog", "a cat"])
    assert tuple(var.shape) == (2, 77)
    np.testing.assert_array_equal(var.numpy(), token_ids(["a dog", "a cat"]))
