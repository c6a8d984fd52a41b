"""The command line: arguments in, calls out, results on stdout; everything else on stderr."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from . import __version__
from .choices import NETWORKS, PRECISIONS
from .console import complain, streams, tell
from .errors import AdapterError, UsageError, suggest
from .problems import one_line
from .settings import Settings, build_settings, parse_assignments
from .sharding import Share, parse_part

logger = logging.getLogger(__name__)

_DESCRIPTION = """\
Few-shot image classification with CLIP in Jittor: from four photos a class to a submission.

  python runner.py --train                          learn an adapter from Dataset/ and JCLIP's ViT-B/32
  python runner.py --predict result.txt             classify the test photos, write result.txt and result.zip
  python runner.py --train --data sample            try it without data and weights (a toy)
"""
_EXIT_MISTAKE, _EXIT_STOPPED, _EXIT_UNREAD = 2, 130, 141


class _Parser(argparse.ArgumentParser):
    """An argument parser that tells mistakes in one line, with a suggestion."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        hint = f"`{self.prog} --help` lists all flags."
        if message.startswith("unrecognized arguments:"):
            flag = message.split(":", 1)[1].split(maxsplit=1)[0].split("=", maxsplit=1)[0]
            known = [option for action in self._actions for option in action.option_strings]
            near = suggest(flag, known)
            hint = near if near.startswith("Did") else hint
            message = f"there is no flag '{flag}'" if flag.startswith("-") else f"'{flag}' belongs to no flag"
        raise UsageError(f"{message}.", hint)


def build_parser() -> argparse.ArgumentParser:
    """All flags of runner.py."""
    parser = _Parser(
        prog="runner.py",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    _add_commands(parser.add_argument_group("commands (--train, --evaluate and --predict may stand together)"))
    _add_choices(parser.add_argument_group("what to work on"))
    _add_benchmark(parser.add_argument_group("with --benchmark (--method all,encoder,NAME; --shots 1,2,4; --seed 1,2)"))
    _add_details(parser.add_argument_group("details"))
    return parser


def _add_commands(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--train", action="store_true", help="learn from the shots; leaves a run folder")
    group.add_argument("--evaluate", action="store_true", help="accuracy on labelled photos, in total and per domain")
    group.add_argument(
        "--predict",
        nargs="?",
        const="result.txt",
        metavar="FILE",
        help="classify the test photos into FILE (result.txt) and its zip; with --images: those photos",
    )
    group.add_argument("--benchmark", action="store_true", help="methods side by side, on feature files or photos")
    group.add_argument(
        "--extract", metavar="FILE.npz", help="features of the shots and the labelled photos (--shots 1,4)"
    )
    group.add_argument("--check", metavar="FILE", help="check a result file as the contest would read it")
    group.add_argument("--convert", nargs=2, metavar=("IN", "OUT"), help="convert weights of any kind to safetensors")
    group.add_argument("--list", action="store_true", help="the methods, prompt sets and known weights")
    group.add_argument("--doctor", action="store_true", help="what was found on this machine, and what to do about it")
    group.add_argument("--version", action="version", version=f"jclip-adapter {__version__}")
    group.add_argument("-h", "--help", action="help", help="show this text")


def _add_choices(group: argparse._ArgumentGroup) -> None:
    default = Settings()
    group.add_argument("--data", metavar="DIR", help="contest folder, folder per class, CSV, or 'sample' (Dataset)")
    group.add_argument(
        "--weights",
        metavar="PATH",
        help="weight file, model name, or 'sample' (ViT-B/32); efficientnet-lite0 and -lite2 are no CLIPs and know no "
        "texts: the shots' means stand in for them",
    )
    group.add_argument(
        "--encoder", metavar="RUN", help="run folder whose tuned CLIP (or prompts) stands in for the weights' own"
    )
    group.add_argument(
        "--auxiliary",
        metavar="NAME",
        help=f"a second network beside CLIP: {', '.join(NETWORKS)} (none)",
    )
    group.add_argument("--method", metavar="NAME", help=f"adaptation method ({default.method})")
    group.add_argument("--set", action="append", metavar="KEY=VALUE", help="a hyper-parameter of the method")
    group.add_argument(
        "--select",
        choices=("support", "validation", "none"),
        help="choose the other hyper-parameters on left-out shots, or a validation set (none; --benchmark: support)",
    )
    group.add_argument("--shots", type=_numbers, metavar="K", help=f"training photos per class ({default.shots})")
    group.add_argument(
        "--seed", type=_numbers, metavar="N", help=f"chooses the shots and all else random ({default.seed})"
    )
    group.add_argument(
        "--views", type=int, metavar="N", help="augmented copies per training photo, for methods that use them (0)"
    )
    group.add_argument("--split", choices=("A", "B"), help="test set and class list of the contest (A)")
    group.add_argument("--support", metavar="LIST.txt", help="list of the chosen photos; or 'first', 'random' (random)")
    group.add_argument("--prompts", metavar="NAME", help=f"prompt set: a name or a YAML file ({default.prompts})")
    group.add_argument("--images", nargs="+", metavar="PATH", help="with --predict: photos or folders of photos")
    group.add_argument("--labels", metavar="FILE", help="with --evaluate: the test photos' labels")
    group.add_argument(
        "--holdout", type=int, metavar="N", help="with --evaluate: N photos per class that were not chosen (0: all)"
    )


def _add_benchmark(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--features", nargs="+", metavar="FILE.npz", help="feature files instead of photos")
    group.add_argument("--resample", action="store_true", help="each seed draws its shots from the file's most shots")
    group.add_argument(
        "--unseen", type=float, metavar="SHARE", help="leave this share of the classes without shots; base and new"
    )
    group.add_argument("--out", metavar="FILE.csv", help="one row per cell; tables and picture beside it (results.csv)")


def _numbers(text: str) -> list[int]:
    """Take "1,2,4" apart."""
    return [int(part) for part in text.split(",")]


def _add_details(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--config", metavar="FILE", help="YAML file with any of these settings; flags come first")
    group.add_argument("--resume", action="store_true", help="with --train: go on with a stopped training through CLIP")
    group.add_argument(
        "--shard",
        type=parse_part,
        metavar="i/n",
        help="with --extract or --predict: one of n processes that share the encoding and --cache; the last one writes",
    )
    group.add_argument("--run", metavar="DIR", help="run folder (results/runs/…, named after the settings)")
    group.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where Jittor computes (auto)")
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of CLIP's matrix products (float32); bfloat16: CUDA, and CPUs with AVX-512 BF16 or AMX; float16: CUDA",
    )
    group.add_argument("--batch-size", type=int, metavar="N", help="photos per forward pass (by device)")
    group.add_argument("--workers", type=int, metavar="N", help="decoding processes; 0: threads (by photos and cores)")
    group.add_argument(
        "--cache", metavar="DIR", help="where features and converted weights are kept (results/features)"
    )
    group.add_argument("--top", type=int, default=5, metavar="K", help="ids per line of the result (5)")
    group.add_argument(
        "--on-bad-image",
        choices=("stop", "fallback"),
        default="fallback",
        help="a test photo that cannot be read: stop, or write the most expected classes for it (fallback)",
    )
    group.add_argument("--quiet", action="store_true", help="no messages, only results and errors")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's, 130 stopped by Ctrl-C, 141 nobody read the results on.
    """
    try:
        with streams():
            arguments = build_parser().parse_args(argv)
            if arguments.quiet:
                logging.getLogger().setLevel(logging.ERROR)
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
    except KeyboardInterrupt:
        complain("\nstopped; the same command goes on where this one was, a training with --resume.\n")
        return _EXIT_STOPPED
    return 0


def _refuse(message: str, details: Sequence[str] = ()) -> int:
    """Tell a mistake in one line, many faults one by one below it; returns the exit status."""
    lines = [f"error: {one_line(message)}", *(f"  {one_line(line)}" for line in details[:40])]
    complain("".join(f"{line}\n" for line in lines))
    return _EXIT_MISTAKE


def _run(arguments: argparse.Namespace) -> None:
    lone: dict[str, Callable[[argparse.Namespace], None]] = {
        "benchmark": _benchmark,
        "extract": _extract,
        "check": _check,
        "convert": _convert,
        "list": _list,
        "doctor": _doctor,
    }
    chosen = [name for name in ("train", "evaluate", "predict", *lone) if getattr(arguments, name)]
    if not chosen:
        raise UsageError(
            "there is nothing to do.",
            "Give --train, --predict FILE, --evaluate, --benchmark, --extract FILE, --check FILE, --convert IN OUT, "
            "--list or --doctor.",
        )
    if len(chosen) > 1 and not lone.keys().isdisjoint(chosen):
        raise UsageError(
            f"{' and '.join(f'--{name}' for name in chosen)} do not go together.",
            "Give one of them; only --train, --evaluate and --predict may stand together.",
        )
    _refuse_strays(arguments)
    if chosen[0] in lone:
        lone[chosen[0]](arguments)
        return
    if arguments.train:
        _train(arguments)
    if arguments.evaluate:
        _evaluate(arguments)
    if arguments.images:
        _classify(arguments)
    elif arguments.predict:
        _predict(arguments)


def _refuse_strays(arguments: argparse.Namespace) -> None:
    """Flags that would silently do nothing."""
    for flag, value, command in (
        ("--images", arguments.images, "predict"),
        ("--labels", arguments.labels, "evaluate"),
        ("--holdout", arguments.holdout, "evaluate"),
        ("--features", arguments.features, "benchmark"),
        ("--out", arguments.out, "benchmark"),
        ("--resample", arguments.resample or None, "benchmark"),
        ("--unseen", arguments.unseen, "benchmark"),
        ("--resume", arguments.resume or None, "train"),
    ):
        if value is not None and not getattr(arguments, command):
            raise UsageError(f"{flag} goes with --{command}.", f"Add --{command}, or leave {flag} out.")
    if arguments.select is not None and not (arguments.benchmark or arguments.train):
        raise UsageError("--select goes with --train or --benchmark.", "Add one of them, or leave --select out.")
    if arguments.labels and arguments.holdout is not None:
        raise UsageError("--labels and --holdout exclude each other.", "Choose the photos to evaluate on by one.")
    if arguments.holdout is not None and arguments.holdout < 0:
        raise UsageError(f"--holdout {arguments.holdout} is negative.", "Give photos per class, or 0 for all.")
    beside = arguments.train or arguments.evaluate or arguments.images
    if arguments.shard and (beside or not (arguments.extract or arguments.predict)):
        raise UsageError("--shard goes with --extract or --predict alone.", "Give other commands one of their own.")
    if arguments.images and arguments.predict != "result.txt":
        raise UsageError("with --images the guesses are printed, not written.", "Write --predict --images PATH ….")
    if arguments.top < 1:
        raise UsageError(f"--top {arguments.top} leaves nothing.", "Give 1 or more; the contest takes 5.")


def _settings(arguments: argparse.Namespace) -> tuple[Settings, set[str]]:
    """The settings, and the names of those that the user gave."""
    names = Settings.__dataclass_fields__
    typed = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    for name in ("shots", "seed"):
        if name in typed and not arguments.benchmark:
            if len(typed[name]) > 1:
                raise UsageError(f"--{name} {typed[name]} is a list.", "Only --benchmark takes several.")
            typed[name] = typed[name][0]
    if "set" in typed:
        typed["set"] = parse_assignments(typed["set"])
    return build_settings(typed, arguments.config or "")


def _train(arguments: argparse.Namespace) -> None:
    from .pipeline import check_target, train

    if arguments.predict and not arguments.images:
        check_target(Path(arguments.predict))  # before the training, not after it
    done = train(_settings(arguments)[0], arguments.select or "none", resume=arguments.resume)
    support = done.metrics.get("support", {})
    tell(f"run: {done.folder}")
    if support:
        tell(
            f"top-1 on the shots themselves: {support['baseline']} {support['zero_shot_top1']:.1f} %, "
            f"{done.method.meta.name} {support['trained_top1']:.1f} %"
        )


def _evaluate(arguments: argparse.Namespace) -> None:
    from .pipeline import evaluate
    from .report import markdown_table, score_table

    settings, given = _settings(arguments)
    done = evaluate(settings, given, arguments.labels or "", arguments.holdout)
    tell(f"{done.method} on {done.source}{' (transductive)' if done.transductive else ''}")
    tell(score_table(done.scores, done.baseline, done.method, done.baseline_name))
    for name, group in done.groups.items():
        shares = ", ".join(f"{key} {group[key]:.1f} %" for key in ("base", "new", "harmonic"))
        tell(f"classes with shots (base) and without (new), {name.replace('_', '-')}: {shares}")
    if done.rejects:
        tell(f"{done.rejects} photos could not be read and count as wrong")
    if done.pairs:
        rows = [[pair.true, pair.predicted, pair.count, f"{100 * pair.share:.0f} %"] for pair in done.pairs]
        tell(markdown_table(["class", "taken for", "photos", "share"], rows))
    tell(f"written: {', '.join(map(str, done.files))}")


def _predict(arguments: argparse.Namespace) -> None:
    from .pipeline import predict

    settings, given = _settings(arguments)
    done = predict(settings, given, Path(arguments.predict), arguments.top, arguments.on_bad_image, arguments.shard)
    if isinstance(done, Share):
        tell(done.told(arguments.predict))
        return
    tell(f"written: {done.result} ({len(done.names)} photos, {done.ids.shape[1]} ids each) and {done.archive}")
    if done.rejects:
        tell(f"{len(done.rejects)} photos could not be read: {done.result.with_suffix('.rejects.txt')} lists them")
    for domain, count in done.domains.items():
        tell(f"{domain or 'all'}: {count} photos")


def _classify(arguments: argparse.Namespace) -> None:
    from .pipeline import classify

    settings, given = _settings(arguments)
    for guess in classify(settings, given, arguments.images, arguments.top):
        if guess.problem:
            tell(f"{guess.path}: {guess.problem}")
            continue
        shares = ", ".join(f"{n} {100 * p:.1f} %" for n, p in zip(guess.names, guess.probabilities, strict=True))
        tell(f"{guess.path}: {shares}")


def _benchmark(arguments: argparse.Namespace) -> None:
    from .pipeline import benchmark

    shots, seeds, methods = arguments.shots or [], arguments.seed or [1], arguments.method or "all"
    arguments.shots = arguments.seed = arguments.method = None
    done = benchmark(
        _settings(arguments)[0],
        features=arguments.features or [],
        methods=methods,
        shots=shots,
        seeds=seeds,
        selection=arguments.select or "support",
        out=Path(arguments.out or "results.csv"),
        resample=arguments.resample,
        unseen=arguments.unseen or 0.0,
    )
    tell(done.files[1].read_text(encoding="utf-8"))
    tell(f"written: {', '.join(map(str, done.files))}")


def _extract(arguments: argparse.Namespace) -> None:
    from .pipeline import extract

    shots, arguments.shots = arguments.shots or [], None
    done = extract(_settings(arguments)[0], Path(arguments.extract), shots, arguments.shard)
    tell(done.told(arguments.extract) if isinstance(done, Share) else f"written: {done}")


def _check(arguments: argparse.Namespace) -> None:
    from .pipeline import open_data
    from .submission import check_submission

    report = check_submission(arguments.check, open_data(_settings(arguments)[0]), top=arguments.top)
    archive = "and its zip are" if report.zip_checked else "is"
    tell(f"{report.path} {archive} valid: {report.lines} photos, {report.top} ids each")
    for domain, count in report.per_domain.items():
        tell(f"{domain or 'all'}: {count} photos")


def _convert(arguments: argparse.Namespace) -> None:
    from .clip.weights import convert

    source, target = arguments.convert
    convert(source, target)
    tell(f"written: {target}")


def _list(_: argparse.Namespace) -> None:
    from .listing import listing

    tell(listing())


def _doctor(arguments: argparse.Namespace) -> None:
    from .doctor import examine

    findings = examine(arguments.device or "auto")
    for finding in findings:
        cure = f" → {finding.cure}" if finding.cure else ""
        tell(f"[{finding.state:^7}] {finding.subject}: {finding.found}{cure}")
    problems = [finding.subject for finding in findings if finding.state == "problem"]
    if problems:
        raise AdapterError(f"{len(problems)} problems: {', '.join(problems)}.", "The cures stand above.")
