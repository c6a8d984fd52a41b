"""What the page shows of a session: counts, the order of the photos, and each photo's label and prediction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from .library import UNREADABLE
from .session import Session


def state(session: Session) -> dict[str, Any]:
    """What the page shows beside the photos; all but `doing` is kept until something changes."""
    with session.lock:
        if session.shown.get("version") != session.version:
            session.shown = _state(session)
        return {**session.shown, "doing": session.doing}


def _state(session: Session) -> dict[str, Any]:
    """The state but for what is computed."""
    project, photos = session.project, session.library
    counts = Counter(label for name, label in project.labels.items() if name in photos.numbers)
    tests = sum(item.test for item in photos.items)
    return {
        "version": session.version,
        "classes": [{"name": name, "count": counts[name]} for name in project.classes],
        "photos": len(photos.items),
        "labelled": counts.total() - counts[""],
        "none": counts[""],
        "unlabelled": len(photos.items) - tests - counts.total(),
        "differs": sum(_differs(session, number) for number in range(len(photos.items))),
        "waiting": photos.waiting,
        "unreadable": int((photos.state == UNREADABLE).sum()),
        "test": tests,
        "error": session.error,
        "method": session.method,
        "methods": session.methods(),
        "report": session.report,
        "undo": project.last,
        "trained": session.fitted is not None,
        "result": session.can_submit,
    }


def order(session: Session, show: str, sort: str) -> list[int]:
    """Numbers of the photos to show.

    Args:
        session: The session.
        show: "all", "unlabelled", "none", "test", "unreadable", "differs" (label and prediction), or "class:NAME".
        sort: "uncertain", least certain first; "class", by label or prediction; or "name".
    """
    with session.lock:
        session.table.grow(len(session.library.items))
        wanted = [number for number in range(len(session.library.items)) if _shown(session, number, show)]
        if sort == "name":
            return wanted
        sure = np.nan_to_num(session.table.certainty.astype(np.float64), nan=1.0)
        if sort == "class":
            place = {name: index for index, name in enumerate(session.project.classes)}

            def by_class(number: int) -> tuple[int, float]:
                label = session.label_of(number)
                name = session.table.name(number) if label is None else label
                return place.get(name, len(place)), -sure[number]

            return sorted(wanted, key=by_class)
        return sorted(wanted, key=lambda number: sure[number])


def _shown(session: Session, number: int, show: str) -> bool:
    """Whether a photo belongs to a view."""
    test, label = session.library.items[number].test, session.label_of(number)
    if show.startswith("class:"):
        return label == show.removeprefix("class:")
    if show == "differs":
        return _differs(session, number)
    if show == "unreadable":
        return bool(session.library.state[number] == UNREADABLE)
    return {"all": True, "unlabelled": not test and label is None, "none": label == "", "test": test}.get(show, False)


def _differs(session: Session, number: int) -> bool:
    """Whether a photo has a label and another class is predicted."""
    label = session.label_of(number)
    return bool(label) and session.table.name(number) not in ("", label)


def details(session: Session, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """What the page shows of some photos."""
    with session.lock:
        items = session.library.items
        return [
            {
                "id": number,
                "name": items[number].name,
                "test": items[number].test,
                "label": session.label_of(number),
                "best": [[name, round(share, 4)] for name, share in session.table.top(number)],
                "why": session.library.why.get(number, ""),
            }
            for number in numbers
            if number < len(items)
        ]
