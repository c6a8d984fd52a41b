"""The serve command: a page in the browser on which predictions are seen, corrected and trained again."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import secrets
from pathlib import Path

import numpy as np

from jclip_adapter.cli.app import Invocation
from jclip_adapter.cli.runs import DIGESTS, KINDS, SUPPORT, save_run
from jclip_adapter.cli.settings import METHOD, Settings
from jclip_adapter.core.choices import SAMPLE
from jclip_adapter.core.console import print_note, print_result
from jclip_adapter.core.errors import AdapterError, MissingError, SetupError, UsageError
from jclip_adapter.core.problems import Problems
from jclip_adapter.data.sample import ensure_sample
from jclip_adapter.data.sets import ImageSet, Photo, load_dataset, support_lines
from jclip_adapter.data.sets.kind import is_contest
from jclip_adapter.data.sets.paths import check_links, list_folder, warn_ignored
from jclip_adapter.data.sets.table import TABLE_SUFFIXES
from jclip_adapter.data.sets.tree import scan
from jclip_adapter.methods import create
from jclip_adapter.runtime import interruption
from jclip_adapter.storage import check_folder
from jclip_adapter.web.library import Item, Library, folder_items
from jclip_adapter.web.project import DATA, UPLOADS, Project
from jclip_adapter.web.session import SHOTS, Fitted, Session

from .effects import refuse_idle_on_data
from .setup import Setup, log_data, open_data, set_up
from .shots import digest_lines
from .train import facts_of

logger = logging.getLogger(__name__)
RUN_FOLDER = "run"


def open_photos(settings: Settings) -> ImageSet:
    """Read the data set, or a folder of photos that are not sorted into classes.

    Raises:
        DataError: as for `load_dataset`; or photos are links out of the data folder.
        UsageError: the data are sounds, or features in parts.
    """
    root = ensure_sample() if settings.data == SAMPLE else Path(settings.data)
    if not root.exists():
        raise MissingError(f"there is no {root}.", "Give a folder of photos by --data.")
    if settings.kind != "photo":
        raise UsageError("serve shows photos, and the data are sounds.", "Give --data photos.")
    if settings.parts:
        raise UsageError(f"serve shows photos, and {root} has features in their place.", "Give --data photos.")
    images = _unsorted(root) if root.is_dir() and not settings.layout else None
    if images is None:
        images = open_data(settings)
    else:
        refuse_idle_on_data(settings, images)
        images = dataclasses.replace(images, follow_links=settings.follow_links)
    if not images.follow_links:
        problems = Problems(root)
        check_links([*images.train, *images.test], images.root, problems)
        problems.raise_if_any()
    return images


def _unsorted(root: Path) -> ImageSet | None:
    """A folder whose photos are directly in it, or that is empty; None for other folders."""
    if is_contest(root) or any(path.suffix.lower() in (*TABLE_SUFFIXES, ".json") for path in root.iterdir()):
        return None
    listing = list_folder(root)
    if listing.folders and (not listing.photos or scan(root, Problems(root)).folders):
        return None
    warn_ignored(root, listing.others, "photo")
    photos = tuple(Photo(root, name, None) for name in listing.photos)
    return ImageSet(root.name, root, "unsorted", (), photos, (), source=root, reading="photos without classes")


def open_session(settings: Settings) -> tuple[Session, Project]:
    """Open the data, the project and the networks.

    Raises:
        DataError: as for `open_photos`, or the project is damaged.
        UsageError: the project belongs to other data or is open elsewhere.
        SetupError: the project folder cannot be written.
    """
    images = open_photos(settings)
    setup = set_up(settings, encode_texts=False, images=images)
    log_data(images, f"project: {settings.project_folder}")
    root = images.root
    photos = (*images.train, *images.test)
    bases = {base: (Path(DATA) / base.relative_to(root)).as_posix() for base in {photo.base for photo in photos}}
    names = [f"{bases[photo.base]}/{photo.relative}" for photo in photos]
    labels = {
        name: images.class_names[photo.label]
        for name, photo in zip(names, photos, strict=True)
        if photo.label is not None
    }
    project = Project(settings.project_folder, root, images.class_names, labels)
    try:
        library = Library(setup.tasks.encoder, setup.tasks.cache, project.folder, settings.workers)
        first = len(images.train)
        items = [
            Item(name, photo.path, number >= first)
            for number, (name, photo) in enumerate(zip(names, photos, strict=True))
        ]
        items += [Item(f"{UPLOADS}/{path.name}", path) for path in sorted((project.folder / UPLOADS).glob("*.*"))]
        for folder in project.folders:
            if folder.is_dir():
                items += folder_items(project.add_folder(folder), folder)
            else:
                logger.warning("%s, a folder of the project, is no longer there", folder)
        library.add(items)
        method = settings.method or METHOD
        create(method, seed=settings.seed)
        session = Session(
            project,
            library,
            setup.tasks,
            images,
            method=method,
            shots=settings.shots if "shots" in settings.given else SHOTS,
            seed=settings.seed,
            save=lambda fitted: _save(setup, project, library, fitted),
        )
        session.take_up()
    except BaseException:
        project.close()
        raise
    return session, project


def _save(setup: Setup, project: Project, library: Library, fitted: Fitted) -> str:
    """Write the run folder of a trained method, which every command opens with labels.csv as data.

    Returns:
        Empty; or why it was not written.
    """
    settings = dataclasses.replace(
        setup.settings,
        data=str(project.labels_file),
        follow_links=True,
        method=fitted.method.meta.name,
        run=str(project.folder / RUN_FOLDER),
        shots=int(np.bincount(fitted.labels).max()),
    )
    try:
        check_folder(project.folder / RUN_FOLDER, "a run folder", KINDS)
        images = load_dataset(project.labels_file, follow_links=True)
        if images.class_names != fitted.classes:
            missing = sorted({*fitted.classes} - {*images.class_names})
            return f"No run folder: no photo is labelled as {missing[0]}." if missing else "No run folder: train again."
        items = [library.items[number] for number in fitted.shots]
        shots = [
            Photo(project.folder, item.name, label) for item, label in zip(items, fitted.labels.tolist(), strict=True)
        ]
        known = fitted.method.calibration_
        facts = {
            **facts_of(Setup(settings, images, fitted.tasks)),
            "hyperparameters": fitted.method.hyper.as_dict(),
            "selected_on": "",
            "temperature": known.temperature,
            "calibrated_on": known.source,
        }
        keys = [library.keys[number] for number in fitted.shots]
        lists = {SUPPORT: support_lines(shots, images), DIGESTS: digest_lines(shots, keys)}
        save_run(Path(settings.run), fitted.method, lists, facts, {"unit": "percent", "epochs": fitted.method.history_})
    except AdapterError as error:
        return f"No run folder: {error}"
    return ""


def run(invocation: Invocation) -> None:
    """Open the project and serve the page until Ctrl-C."""
    settings = invocation.settings
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise SetupError(f"serve needs {' and '.join(missing)}.", "Run `pip install 'jclip-adapter[web]'`.")
    from jclip_adapter.web.guard import is_loopback
    from jclip_adapter.web.server import Page, compute, listen, serving

    access = "" if is_loopback(settings.host) else secrets.token_urlsafe(24)
    interruption.set_message("stopped. Every change is kept: the same command takes up from it.")
    with listen(settings.host, settings.port, fixed="port" in settings.given) as at:
        session, project = open_session(settings)
        try:
            with serving(Page(session, settings.host, access, settings.reading), at):
                shown = f"[{settings.host}]" if ":" in settings.host else settings.host
                print_result(f"http://{shown}:{at.getsockname()[1]}/{f'?token={access}' if access else ''}")
                print_result(end="")  # now, also into a pipe
                print_note(f"labels: {project.labels_file}; Ctrl-C ends the page")
                compute(session)
        finally:
            project.close()
