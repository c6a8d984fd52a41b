"""The command line: arguments in, calls out, results on stdout; everything else on stderr."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from jclip_adapter import __version__
from jclip_adapter.core.console import be_quiet, complain, streams, tell
from jclip_adapter.core.errors import AdapterError, UsageError, suggest
from jclip_adapter.core.problems import one_line
from jclip_adapter.features.sharding import Share
from jclip_adapter.runtime import interruption
from jclip_adapter.runtime.jittor_messages import in_one_line

from .entry import STOPPED
from .options import BENCHMARK, BENCHMARK_FILES, CLASSIFY, EVALUATE, PREDICT, TRAIN, Option, refuse_without_effect
from .settings import GENERAL, OPTIONS, Settings, build_settings, names_in, parse_assignments

_DESCRIPTION = """\
Few-shot image classification with CLIP in Jittor: from four photos a class to a submission.

  python runner.py --train                          learn an adapter from Dataset/ and JCLIP's ViT-B/32
  python runner.py --predict result.txt             classify the test photos, write result.txt and result.zip
  python runner.py --train --data sample            try it without data and weights (a toy)
"""
_EXIT_MISTAKE, _EXIT_UNREAD = 2, 141
_RESULT = "result.txt"


@dataclass(frozen=True)
class _Command:
    """A command: its flag, what follows it, and what it does, for `--help`."""

    name: str
    help: str
    metavar: str | tuple[str, ...] = ()
    optional: bool = False

    def add_to(self, group: argparse._ArgumentGroup) -> None:
        """Declare its flag."""
        if not self.metavar:
            group.add_argument(f"--{self.name}", action="store_true", help=self.help)
        elif self.optional:
            group.add_argument(f"--{self.name}", nargs="?", const="", metavar=self.metavar, help=self.help)
        else:
            count = len(self.metavar) if isinstance(self.metavar, tuple) else None
            group.add_argument(f"--{self.name}", nargs=count, metavar=self.metavar, help=self.help)


_COMMANDS = (
    _Command("train", "learn from the shots; leaves a run folder"),
    _Command("evaluate", "accuracy on labelled photos, in total and per domain"),
    _Command(
        "predict",
        f"classify the test photos into FILE ({_RESULT}) and its zip; with --images: those photos",
        "FILE",
        optional=True,
    ),
    _Command("benchmark", "methods side by side, on feature files or photos"),
    _Command("extract", "features of the shots and the labelled photos (--shots 1,4)", "FILE.npz"),
    _Command("check", "check a result file as the contest would read it", "FILE"),
    _Command("convert", "convert weights of any kind to safetensors", ("IN", "OUT")),
    _Command("list", "the methods, prompt sets and known weights"),
    _Command("doctor", "what was found on this machine, and what to do about it"),
)
_TOGETHER = ("train", "evaluate", "predict")


class _Parser(argparse.ArgumentParser):
    """An argument parser that tells mistakes in one line, with a suggestion."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        hint = f"`{self.prog} --help` lists all options."
        if message.startswith("unrecognized arguments:"):
            flag = message.split(":", 1)[1].strip().partition(" ")[0].partition("=")[0]
            known = [option for action in self._actions for option in action.option_strings]
            near = suggest(flag, known)
            hint = near if near.startswith("Did") else hint
            message = f"unknown option '{flag}'" if flag.startswith("-") else f"unexpected argument '{flag}'"
        raise UsageError(f"{one_line(message)}.", hint)


def build_parser(program: str = "runner.py", switches: Mapping[str, str] | None = None) -> argparse.ArgumentParser:
    """The parser of all commands and options.

    Args:
        program: Its name in `--help` and messages.
        switches: Further switches of this program, with their help.
    """
    parser = _Parser(
        prog=program,
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    commands = parser.add_argument_group("commands (--train, --evaluate and --predict may stand together)")
    for command in _COMMANDS:
        command.add_to(commands)
    for flag, text in (switches or {}).items():
        commands.add_argument(flag, action="store_true", help=text)
    commands.add_argument("--version", action="version", version=f"jclip-adapter {__version__}")
    commands.add_argument("-h", "--help", action="help", help="show this text")
    every = (*OPTIONS.values(), *GENERAL)
    for title in dict.fromkeys(item.group for item in every):
        group = parser.add_argument_group(title)
        for item in every:
            if item.group == title:
                _add_option(group, item)
    return parser


def _add_option(group: argparse._ArgumentGroup, item: Option) -> None:
    text = item.help.replace("%", "%%")
    if item.kind == "switch":
        group.add_argument(item.flag, action="store_const", const=True, help=text)
        return
    shown = item.shown or str(item.default if item.default not in ({}, (), None) else "")
    more: dict[str, Any] = {"nargs": "+"} if item.kind == "texts" else {}
    if item.kind == "assignments":
        more["action"] = "append"
    else:
        more["type"] = item.read if item.kind != "texts" else str
    metavar = item.metavar or f"{{{','.join(item.choices)}}}"
    group.add_argument(item.flag, metavar=metavar, help=f"{text} ({shown})" if shown else text, **more)


def main(
    argv: Sequence[str] | None = None, program: str = "runner.py", switches: Mapping[str, str] | None = None
) -> int:
    """Run a command.

    Args:
        argv: The arguments; the process's own by default.
        program: The program's name.
        switches: As for `build_parser`; the caller has taken them out of `argv`.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's, 130 stopped by Ctrl-C, 141 nobody read the results on.
    """
    try:
        with streams():
            arguments = build_parser(program, switches).parse_args(argv)
            if arguments.quiet:
                be_quiet()
            with interruption.command(), in_one_line():
                _run(arguments)
    except AdapterError as error:
        return _refuse(str(error), error.details)
    except BrokenPipeError:
        # Whoever read the results has enough; without this Python would complain when it flushes stdout at its end.
        sys.stdout = None
        return _EXIT_UNREAD
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _refuse(f"{where}{error.strerror or error}. Check the path, its permissions and the free space.")
    except MemoryError:
        return _refuse("the memory does not suffice. Give a smaller --batch-size, or fewer --workers.")
    except KeyboardInterrupt as stop:
        complain(f"\n{str(stop) or interruption.MESSAGE}\n")
        return STOPPED
    return 0


def _refuse(message: str, details: Sequence[str] = ()) -> int:
    """Tell a mistake in one line, many faults one by one below it; returns the exit status."""
    lines = [f"error: {one_line(message)}", *(f"  {one_line(line)}" for line in details[:40])]
    complain("".join(f"{line}\n" for line in lines))
    return _EXIT_MISTAKE


def _run(arguments: argparse.Namespace) -> None:
    alone: dict[str, Callable[[argparse.Namespace, Settings], None]] = {
        "benchmark": _benchmark,
        "extract": _extract,
        "check": _check,
        "convert": _convert,
        "list": _list,
        "doctor": _doctor,
    }
    chosen = _chosen(arguments)
    commands = _contexts(arguments, chosen)
    settings = _settings(arguments, commands)
    with _ends_soon(chosen[0]):
        if arguments.dry_run:
            _dry_run(arguments, settings)
            return
        if chosen[0] in alone:
            alone[chosen[0]](arguments, settings)
            return
        for command, do in ((TRAIN, _train), (EVALUATE, _evaluate), (CLASSIFY, _classify), (PREDICT, _predict)):
            if command in commands:
                do(arguments, settings)


def _chosen(arguments: argparse.Namespace) -> list[str]:
    """The commands' names, one of them or several that go together."""
    chosen = [each.name for each in _COMMANDS if getattr(arguments, each.name) not in (None, False)]
    if not chosen:
        raise UsageError(
            "there is nothing to do.",
            "Give --train, --predict FILE, --evaluate, --benchmark, --extract FILE, --check FILE, --convert IN OUT, "
            "--list or --doctor.",
        )
    if len(chosen) > 1 and not set(chosen) <= set(_TOGETHER):
        raise UsageError(
            f"{' and '.join(f'--{name}' for name in chosen)} do not go together.",
            "Give one of them; only --train, --evaluate and --predict may stand together.",
        )
    return chosen


def _ends_soon(command: str) -> contextlib.AbstractContextManager[None]:
    """Within this block Ctrl-C ends a command that computes within seconds, whatever it is doing."""
    if command in ("check", "list", "convert"):
        return contextlib.nullcontext()
    from jclip_adapter import runtime

    return interruption.deadline(runtime.cache_folder(), runtime.compiler_path())


def _contexts(arguments: argparse.Namespace, chosen: Iterable[str]) -> list[str]:
    """The commands as `options` distinguishes them."""
    written = names_in(arguments.config) if arguments.config else frozenset()
    special = {
        "predict": CLASSIFY if arguments.images or "images" in written else PREDICT,
        "benchmark": BENCHMARK_FILES if arguments.features or "features" in written else BENCHMARK,
    }
    return [special.get(name, f"--{name}") for name in chosen]


def _settings(arguments: argparse.Namespace, commands: Sequence[str]) -> Settings:
    """The settings; an option without effect is refused."""
    for item in GENERAL:
        if getattr(arguments, item.name) is not None:
            refuse_without_effect(item, commands)
    typed = {name: getattr(arguments, name) for name in OPTIONS if getattr(arguments, name) is not None}
    if "set" in typed:
        typed["set"] = parse_assignments(typed["set"])
    for name, item in OPTIONS.items():
        if name in typed and item.kind == "texts":
            typed[name] = item.check(typed[name])
    settings = build_settings(typed, arguments.config or "", commands)
    if CLASSIFY in commands and arguments.predict:
        raise UsageError("with --images the predictions are printed, not written.", "Write --predict --images PATH ….")
    if settings.shard and len(commands) > 1:
        raise UsageError("--shard goes with --extract or --predict alone.", "Give other commands one of their own.")
    return settings


def _dry_run(_: argparse.Namespace, settings: Settings) -> None:
    from .commands.dry_run import describe

    tell(describe(settings, settings.shot_counts or (settings.shots,)), end="")


def _train(arguments: argparse.Namespace, settings: Settings) -> None:
    from jclip_adapter.data.submission import check_target

    from .commands.train import train

    if arguments.predict is not None and not settings.images:
        check_target(Path(arguments.predict or _RESULT))  # before the training, not after it
    predicts = arguments.predict is not None and not settings.images
    done = train(settings, settings.select or "none", resume=settings.resume, predicts=predicts)
    support = done.metrics.get("support", {})
    tell(f"run: {done.folder}")
    if support:
        tell(
            f"top-1 on the shots themselves: {support['baseline']} {support['zero_shot_top1']:.1f} %, "
            f"{done.method.meta.name} {support['trained_top1']:.1f} %"
        )


def _evaluate(_: argparse.Namespace, settings: Settings) -> None:
    from jclip_adapter.evaluation.report import markdown_table, score_table

    from .commands.evaluate import evaluate

    done = evaluate(settings, settings.labels, settings.holdout)
    tell(f"{done.method} on {done.source}{' (transductive)' if done.transductive else ''}")
    tell(score_table(done.scores, done.baseline, done.method, done.baseline_name))
    for name, group in done.groups.items():
        shares = ", ".join(f"{key} {group[key]:.1f} %" for key in ("base", "new", "harmonic"))
        tell(f"classes with shots (base) and without (new), {name.replace('_', '-')}: {shares}")
    if done.rejects:
        tell(f"{done.rejects} photos could not be read and count as wrong")
    for text in done.overlap:
        tell(text)
    for name, (mine, theirs) in done.without.items():
        tell(
            f"top-1 without {name} ({mine.n} photos): {done.baseline_name} {100 * theirs.top1:.1f} %, "
            f"{done.method} {100 * mine.top1:.1f} %"
        )
    if done.pairs:
        rows = [[pair.true, pair.predicted, pair.count, f"{100 * pair.share:.0f} %"] for pair in done.pairs]
        tell(markdown_table(["class", "taken for", "photos", "share"], rows))
    tell(f"written: {', '.join(map(str, done.files))}")


def _predict(arguments: argparse.Namespace, settings: Settings) -> None:
    from jclip_adapter.data.submission import rejects_path

    from .commands.predict import predict

    target = arguments.predict or _RESULT
    done = predict(settings, Path(target), settings.top, settings.on_bad_image, settings.shard)
    if isinstance(done, Share):
        tell(done.told(target))
        return
    tell(f"written: {done.result} ({len(done.names)} photos, {done.ids.shape[1]} ids each) and {done.archive}")
    if done.rejects:
        tell(f"{len(done.rejects)} photos could not be read: {rejects_path(done.result)} lists them")
    for domain, count in done.domains.items():
        tell(f"{domain or 'all'}: {count} photos")


def _classify(_: argparse.Namespace, settings: Settings) -> None:
    from .commands.predict import classify

    for guess in classify(settings, settings.images, settings.top):
        if guess.problem:
            tell(f"{guess.path}: {guess.problem}")
            continue
        shares = ", ".join(f"{n} {100 * p:.1f} %" for n, p in zip(guess.names, guess.probabilities, strict=True))
        tell(f"{guess.path}: {shares}")


def _benchmark(_: argparse.Namespace, settings: Settings) -> None:
    from .commands.benchmark import benchmark

    done = benchmark(
        settings,
        features=settings.features,
        methods=settings.method if "method" in settings.given else "all",
        shots=settings.shot_counts,
        seeds=settings.seeds or (1,),
        selection=settings.select or "support",
        out=Path(settings.out),
        resample=settings.resample,
        unseen=settings.unseen,
    )
    tell(f"{done.tables}\n")
    tell(f"written: {', '.join(map(str, done.files))}")


def _extract(arguments: argparse.Namespace, settings: Settings) -> None:
    from .commands.extract import extract

    done = extract(settings, Path(arguments.extract), settings.shot_counts, settings.shard)
    tell(done.told(arguments.extract) if isinstance(done, Share) else f"written: {done}")


def _check(arguments: argparse.Namespace, settings: Settings) -> None:
    from jclip_adapter.data.submission import check_submission

    from .commands.setup import open_data

    report = check_submission(arguments.check, open_data(settings), top=settings.top)
    archive = "and its zip are" if report.zip_checked else "is"
    tell(f"{report.path} {archive} valid: {report.lines} photos, {report.top} ids each")
    for domain, count in report.per_domain.items():
        tell(f"{domain or 'all'}: {count} photos")


def _convert(arguments: argparse.Namespace, settings: Settings) -> None:
    from jclip_adapter.models.weights import convert

    source, target = arguments.convert
    convert(source, target, settings.model_config)
    tell(f"written: {target}")


def _list(*_: object) -> None:
    from .listing import listing

    tell(listing())


def _doctor(_: argparse.Namespace, settings: Settings) -> None:
    from .doctor import examine

    findings = examine(settings.device)
    for finding in findings:
        cure = f" → {finding.cure}" if finding.cure else ""
        tell(f"[{finding.state:^7}] {finding.subject}: {finding.found}{cure}")
    problems = [finding.subject for finding in findings if finding.state == "problem"]
    if problems:
        raise AdapterError(f"{len(problems)} problems: {', '.join(problems)}.", "The cures stand above.")
