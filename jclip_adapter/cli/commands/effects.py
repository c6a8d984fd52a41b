"""Refuses options that the command has but the chosen methods, network or data do not use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from jclip_adapter.cli.settings import OPTIONS, Settings
from jclip_adapter.core.errors import UsageError
from jclip_adapter.data.sets import ImageSet
from jclip_adapter.methods import Method, available, create
from jclip_adapter.models import backbones


def uses_shots(method: Method) -> bool:
    """Whether a method learns from the support set, if there is one."""
    return "support" in (*method.meta.needs, *method.meta.uses)


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
        (uses_shots, ("shots", "support", "select") if shots else (), "training photos"),
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
    for name in ("strict", "views", "select", "support", "audio", "photos"):
        if name in settings.given:
            flag = OPTIONS[name].flag
            raise UsageError(f"{flag} has no effect with --shots 0.", f"Leave {flag} out, or use at least 1 shot.")


def refuse_idle_on_network(settings: Settings) -> None:
    """Refuse options that the network, or a list of shots, does not use.

    Raises:
        UsageError: such an option was given.
    """
    if settings.weights_or_default in backbones.KNOWN:
        for name in settings.given & {"prompts", "class_names"}:
            flag = OPTIONS[name].flag
            raise UsageError(
                f"{flag} has no effect on {settings.weights_or_default}, which has no text encoder.",
                f"Leave {flag} out.",
            )
    if settings.support not in ("random", "first"):
        for name in settings.given & {"shots", "strict"}:
            flag = OPTIONS[name].flag
            raise UsageError(
                f"{flag} has no effect on --support {settings.support}, which lists the photos.",
                f"Leave {flag} out.",
            )


_ON_PHOTOS = ("views", "auxiliary", "encoder", "noise")  # photos that are classified
_READING = ("exif", "transparent", "white_level", "workers", "batch_size", "precision")  # any photos


def refuse_idle_on_data(settings: Settings, images: ImageSet) -> None:
    """Refuse options that the data set does not use.

    Raises:
        UsageError: such an option was given.
    """
    if "split" in settings.given and images.layout != "contest":
        raise UsageError(
            f"--split has no effect on {images.source}, which is not in the contest's layout.", "Leave --split out."
        )
    if images.kind == "sound":
        idle = (*_ON_PHOTOS, *(() if settings.photos else _READING))
        for name in idle:
            if name in settings.given:
                flag = OPTIONS[name].flag
                raise UsageError(f"{flag} has no effect on sounds, which {images.source} holds.", f"Leave {flag} out.")
    if "top" in settings.given and settings.top > len(images.classes):
        raise UsageError(
            f"--top {settings.top}: {images.source} has {len(images.classes)} classes.",
            f"Give {len(images.classes)} or less.",
        )
