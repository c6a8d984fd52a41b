"""Names and shapes of weights in other projects' files, in relation to OpenAI's names, in both directions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import WeightsError

Floats = npt.NDArray[np.float32]


class Entry(NamedTuple):
    """One weight by OpenAI's name.

    Attributes:
        ours: OpenAI's name, or this program's for a part that OpenAI's CLIPs do not have.
        theirs: The other project's names; several are stacked along the first axis.
        shares: Relative length of each of these.
        transposed: Whether theirs is transposed.
        axes: Axes of length 1 that theirs has in front.
    """

    ours: str
    theirs: tuple[str, ...]
    shares: tuple[int, ...] = (1,)
    transposed: bool = False
    axes: int = 0


def affine(pairs: Mapping[str, str], theirs: str = "", ours: str = "") -> list[Entry]:
    """Weight and bias of linear maps and norms.

    Args:
        pairs: Their name → OpenAI's.
        theirs: Prefix of their names.
        ours: Prefix of OpenAI's names.
    """
    kinds = ("weight", "bias")
    return [Entry(f"{ours}{new}.{kind}", (f"{theirs}{old}.{kind}",)) for old, new in pairs.items() for kind in kinds]


def packed(names: Sequence[str], ours: str, shares: tuple[int, ...] = (1, 1, 1)) -> list[Entry]:
    """Queries, keys and values of an attention `ours`, which have `shares` in their weights and biases `names`."""
    return [
        Entry(f"{ours}.in_proj_{kind}", tuple(f"{name}.{kind}" for name in names), shares)
        for kind in ("weight", "bias")
    ]


def renamed(entries: Iterable[Entry], weights: Mapping[str, Floats]) -> dict[str, Floats]:
    """Weights by OpenAI's names.

    Args:
        entries: The layout; weights that are not in the file are left out.
        weights: By the other project's names; those that are not in the layout keep theirs.

    Raises:
        WeightsError: a part of a stacked weight is missing or misshapen, or a matrix is none.
    """
    found: dict[str, Floats] = {}
    used: set[str] = set()
    for entry in entries:
        parts = [weights[name] for name in entry.theirs if name in weights]
        if parts:
            found[entry.ours] = _read(entry, parts)
            used.update(entry.theirs)
    return found | {name: value for name, value in weights.items() if name not in used}


def restored(entries: Iterable[Entry], state: Mapping[str, Floats]) -> dict[str, Floats]:
    """Weights by the other project's names.

    Args:
        entries: The layout.
        state: By OpenAI's names.

    Raises:
        ValueError: the layout has no name for one of them.
    """
    found: dict[str, Floats] = {}
    left = dict(state)
    for entry in entries:
        if entry.ours not in left:
            continue
        value = left.pop(entry.ours)
        if entry.transposed:
            value = value.T
        value = value.reshape((1,) * entry.axes + value.shape)
        unit = len(value) // sum(entry.shares) if len(entry.theirs) > 1 else 0
        places = np.cumsum(entry.shares)[:-1] * unit
        pieces = np.split(value, places) if len(entry.theirs) > 1 else [value]
        found |= {name: np.asarray(piece, order="C") for name, piece in zip(entry.theirs, pieces, strict=True)}
    if left:
        raise ValueError(f"the layout has no name for {min(left)}")
    return found


def _read(entry: Entry, parts: Sequence[Floats]) -> Floats:
    if len(parts) < len(entry.theirs):
        raise WeightsError(f"expected {', '.join(entry.theirs)} of one shape.")
    if len(parts) > 1:
        units = {
            (value.shape[0] / share, *value.shape[1:]) if value.ndim else ()
            for value, share in zip(parts, entry.shares, strict=True)
        }
        if len(units) > 1 or () in units:
            raise WeightsError(f"expected {', '.join(entry.theirs)} of one shape.")
        return np.concatenate(parts)
    value = parts[0]
    if entry.transposed:
        if value.ndim != 2:
            raise WeightsError(f"{entry.theirs[0]} has shape {value.shape}, expected a matrix.")
        return np.ascontiguousarray(value.T)
    if entry.axes:
        if value.ndim <= entry.axes or any(side != 1 for side in value.shape[: entry.axes]):
            raise WeightsError(f"{entry.theirs[0]} has shape {value.shape}, expected {entry.axes} axes of length 1.")
        return value.reshape(value.shape[entry.axes :])
    return value
