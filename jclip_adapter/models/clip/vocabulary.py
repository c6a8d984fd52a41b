"""Tokenizers that come as files: WordPiece, SentencePiece, and the tokenizers package's own."""

from __future__ import annotations

import dataclasses
import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jclip_adapter.core.errors import SetupError, WeightsError
from jclip_adapter.storage import sha256_file

WORDPIECE, SENTENCEPIECE, TOKENIZER = "vocab.txt", "spiece.model", "tokenizer.json"
UNKNOWN = "[UNK]"
_MAX_WORD = 100  # characters of a word that WordPiece splits; a longer one is unknown
_MAX_BYTES = 200_000_000  # Gemma's tokenizer.json has 34 MB
_DAMAGE = (ValueError, KeyError, IndexError, struct.error)
_PIECE, _NORMALIZER, _CHARSMAP = 1, 3, 2  # fields of SentencePiece's ModelProto and NormalizerSpec


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer's file, in place of CLIP's byte-pair encoding.

    Attributes:
        name: Its name: "vocab.txt" (BERT's WordPiece), "spiece.model" (SentencePiece's unigrams), or "tokenizer.json"
            (of the tokenizers package); empty for CLIP's own tokenizer.
        sha256: Its digest.
        start: Token before every text; empty for none.
        end: Token after every text.
        pad: Token that fills the context.
        folder: Where it lies; not one of the model's settings.
    """

    name: str = ""
    sha256: str = ""
    start: str = ""
    end: str = ""
    pad: str = ""
    folder: str = field(default="", compare=False)

    def as_dict(self) -> dict[str, Any]:
        """The attributes without the folder, for JSON."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key != "folder"}

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.folder) / self.name


CLIP = Vocabulary()


def found_in(folder: Path, name: str, end: str, pad: str, start: str = "") -> Vocabulary:
    """The vocabulary in a folder.

    Args:
        folder: The model's folder.
        name: As in `Vocabulary`, like the others.
        end: As in `Vocabulary`.
        pad: As in `Vocabulary`.
        start: As in `Vocabulary`.

    Raises:
        WeightsError: the file is missing.
    """
    path = folder / name
    if not path.is_file():
        raise WeightsError(f"the model's tokenizer is missing: {path}.", f"Put its {name} beside the weights.")
    return Vocabulary(name, sha256_file(path), start, end, pad, str(folder))


def piece_ids(text: str, vocabulary: Vocabulary) -> list[int]:
    """Token ids of a cleaned text, without start and end.

    Raises:
        SetupError: the tokenizers package is missing.
        WeightsError: the file is missing, damaged, or has changed.
    """
    return list(_tokenizer(vocabulary).encode(text, add_special_tokens=False).ids)


def special_ids(vocabulary: Vocabulary) -> tuple[list[int], int, int]:
    """Ids before every text, of its end, and of the padding.

    Raises:
        SetupError: the tokenizers package is missing.
        WeightsError: the file is missing, damaged, has changed, or lacks one of these tokens.
    """
    tokenizer = _tokenizer(vocabulary)
    wanted = [*([vocabulary.start] if vocabulary.start else []), vocabulary.end, vocabulary.pad]
    ids = [tokenizer.token_to_id(token) for token in wanted]
    if None in ids:
        raise WeightsError(f"{vocabulary.path} has no token {wanted[ids.index(None)]!r}.", "Download it again.")
    return ids[:-2], ids[-2], ids[-1]


def check_rows(vocabulary: Vocabulary, rows: int) -> None:
    """Check that a tokenizer's ids are rows of a model's embedding.

    Args:
        vocabulary: The tokenizer.
        rows: Of the embedding.

    Raises:
        SetupError: the tokenizers package is missing.
        WeightsError: it has more pieces than rows, or WordPiece's file another number of lines; or as `piece_ids`.
    """
    pieces = _tokenizer(vocabulary).get_vocab_size()
    if pieces > rows or (vocabulary.name == WORDPIECE and pieces != rows):
        raise WeightsError(
            f"{vocabulary.path} has {pieces} pieces, and the model's embedding {rows} rows.", again(vocabulary.path)
        )


def again(path: Path) -> str:
    """How to get a file again; of the hub's cache the file itself has to go first."""
    content = path.resolve()
    return f"Remove {content} to download it again." if content.parent.name == "blobs" else "Download it again."


@functools.cache
def _tokenizer(vocabulary: Vocabulary) -> Any:
    path = vocabulary.path
    try:
        import tokenizers
    except ImportError as error:
        raise SetupError(
            f"this model's tokenizer ({vocabulary.name}) needs the package tokenizers.",
            "Run `pip install tokenizers`.",
        ) from error
    if not path.is_file() or path.stat().st_size > _MAX_BYTES or sha256_file(path) != vocabulary.sha256:
        raise WeightsError(f"the model's tokenizer {path} is missing or has changed.", "Put the original file there.")
    makers = {WORDPIECE: _wordpiece, SENTENCEPIECE: _sentencepiece}
    try:
        make = makers.get(vocabulary.name, lambda file: tokenizers.Tokenizer.from_file(str(file)))
        made = make(path)
    except Exception as error:  # the package raises no class of its own for a damaged file
        if type(error) is not Exception and not isinstance(error, _DAMAGE):
            raise
        raise WeightsError(f"cannot read the tokenizer {path} ({error}).", again(path)) from error
    made.no_truncation()
    made.no_padding()
    return made


def _wordpiece(path: Path) -> Any:
    """BERT's tokenizer of lower-cased texts: each CJK character is a word, and words are split greedily."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    # Not splitlines: two pieces of the published file are U+2028 and ##U+2028.
    pieces = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    vocabulary = {piece.removesuffix("\r"): row for row, piece in enumerate(pieces)}
    if UNKNOWN not in vocabulary:
        raise ValueError(f"it has no {UNKNOWN}")
    model = models.WordPiece(vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=_MAX_WORD)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True, handle_chinese_chars=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _sentencepiece(path: Path) -> Any:
    """SentencePiece's unigram tokenizer, with its own normalisation and a blank before every text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    pieces: list[tuple[str, float]] = []
    charsmap = b""
    unknown = 0
    for number, value in _fields(path.read_bytes()):
        if number == _PIECE:
            piece = dict(_fields(value))
            if piece.get(3) == 2:  # the type of the unknown token
                unknown = len(pieces)
            pieces.append((piece[1].decode("utf-8"), struct.unpack("<f", piece.get(2, bytes(4)))[0]))
        elif number == _NORMALIZER:
            charsmap = dict(_fields(value)).get(_CHARSMAP, b"")
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unknown))
    if charsmap:
        tokenizer.normalizer = normalizers.Precompiled(charsmap)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    return tokenizer


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protocol buffer: number, and a whole number or bytes.

    >>> list(_fields(bytes([8, 150, 1, 18, 2, 104, 105])))
    [(1, 150), (2, b'hi')]
    """
    at = 0

    def whole() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        number, kind = divmod(whole(), 8)
        if kind == 0:
            yield number, whole()
            continue
        size = {1: 8, 5: 4}.get(kind)
        size = whole() if size is None else size
        if at + size > len(data):
            raise ValueError("it is truncated")
        yield number, data[at : at + size]
        at += size
