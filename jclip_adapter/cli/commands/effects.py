"""Refuses options that the command has but the chosen methods, network or data do not use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set

from jclip_adapter.cli.settings import OPTIONS, Settings
from jclip_adapter.core.errors import UsageError
from jclip_adapter.data.photos.reading import Reading
from jclip_adapter.data.sets import ImageSet
from jclip_adapter.methods import Method, available, create
from jclip_adapter.models import backbones


def uses_views(method: Method) -> bool:
    """Whether a method uses augmented views."""
    return "views" in method.meta.uses


def refuse_idle_on_methods(settings: Settings, methods: Sequence[Method], *, shots: bool = True) -> None:
    """Refuse options that no method uses.

    Args:
        settings: The settings.
        methods: The methods that run, with their hyper-parameters.
        shots: Whether options about shots are checked; a benchmark has them for all of its methods.

    Raises:
        UsageError: such an option was given.
    """
    uses: list[tuple[Callable[[Method], bool], Iterable[str], str]] = [
        (uses_views, ("views",), "augmented views"),
        (lambda method: method.uses_auxiliary, ("auxiliary",), "a second network"),
        (lambda method: method.uses_extra, ("audio", "photos"), "a second modality"),
        (lambda method: method.uses_shots, ("shots", "support", "select") if shots else (), "training photos"),
    ]
    for use, names, what in uses:
        for name in names:
            no_shots = name == "shots" and not settings.shots  # true of any method without shots
            if name in settings.given and not no_shots and not any(map(use, methods)):
                users = ", ".join(other for other in available() if use(create(other)))
                used = " and ".join(method.meta.name for method in methods[:3])
                flag = OPTIONS[name].flag
                raise UsageError(
                    f"{flag} has no effect on {used}, which does not use {what}.",
                    f"Leave {flag} out, or choose another --method ({users:.300}).",
                )


def refuse_without_shots(settings: Settings, method: Method) -> None:
    """Refuse `--shots 0` with a method that needs shots, and options about shots beside it.

    Raises:
        UsageError: so it was given.
    """
    if settings.shots:
        return
    if "support" in method.meta.needs:
        raise UsageError(f"--shots 0: {method.meta.name} needs support photos.", "Use at least 1 shot.")
    refuse_idle(settings, {"strict", "views", "select", "support", "audio", "photos"}, "with --shots 0")


def refuse_beside_names(settings: Settings, method: Method) -> None:
    """Refuse options about data and training beside `--classes`.

    Raises:
        UsageError: such an option was given, or a method that learns from photos.
    """
    if not settings.classes:
        return
    if method.uses_shots:
        raise UsageError(f"--classes: {method.meta.name} needs training photos.", "Leave --method out, or give --data.")
    refuse_idle(
        settings,
        set(OPTIONS) - _BESIDE_NAMES - ({"data"} if settings.parts else set()),
        "with --classes, as nothing is trained",
    )


_BESIDE_NAMES = frozenset(
    [
        *("classes", "images", "weights", "model_config", "prompts", "class_names", "method", "set", "top", "cache"),
        *("device", "precision", "batch_size", "workers", *Reading._fields),
    ]
)


def refuse_idle(settings: Settings, names: Set[str], why: str) -> None:
    """Refuse options that have no effect.

    Raises:
        UsageError: one of `names` was given.
    """
    for flag in sorted(OPTIONS[name].flag for name in settings.given & names):
        raise UsageError(f"{flag} has no effect {why}.", f"Leave {flag} out.")


def refuse_idle_on_network(settings: Settings) -> None:
    """Refuse options that the network, or a list of shots, does not use.

    Raises:
        UsageError: such an option was given.
    """
    if settings.weights_or_default in backbones.KNOWN:
        why = f"on {settings.weights_or_default}, which has no text encoder"
        refuse_idle(settings, {"prompts", "class_names"}, why)
    if settings.support not in ("random", "first"):
        refuse_idle(settings, {"shots", "strict"}, f"on --support {settings.support}, which lists the photos")


_ON_PHOTOS = frozenset({"views", "auxiliary", "encoder", "noise"})  # photos that are classified
_READING = frozenset({*Reading._fields, "workers", "batch_size", "precision"})  # any photos


def refuse_idle_on_data(settings: Settings, images: ImageSet) -> None:
    """Refuse options that the data set does not use.

    Raises:
        UsageError: such an option was given.
    """
    if images.layout != "contest":
        refuse_idle(settings, {"split"}, f"on {images.source}, which is not in the contest's layout")
    if images.kind == "sound":
        idle = _ON_PHOTOS if settings.photos else _ON_PHOTOS | _READING
        refuse_idle(settings, idle, f"on sounds, which {images.source} holds")
    if "top" in settings.given and settings.top > len(images.classes):
        raise UsageError(
            f"--top {settings.top}: {images.source} has {len(images.classes)} classes.",
            f"Give {len(images.classes)} or less.",
        )
