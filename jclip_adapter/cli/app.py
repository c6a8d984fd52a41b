"""The command line: parses arguments, runs commands, returns the exit status."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jclip_adapter.core.choices import TABLES
from jclip_adapter.core.console import be_quiet, print_error, streams
from jclip_adapter.core.errors import AdapterError, UsageError
from jclip_adapter.core.problems import one_line
from jclip_adapter.runtime import interruption, planning
from jclip_adapter.runtime.jittor_messages import in_one_line

from . import STOPPED
from .options import BENCHMARK, BENCHMARK_FILES, CLASSIFY, EXTRACT, EXTRACT_PARTS, PREDICT, refuse_without_effect
from .parser import COMMANDS, RESULT, parse
from .settings import GENERAL, OPTIONS, Settings, build_settings, names_in, parse_assignments

_EXIT_MISTAKE, _EXIT_UNREAD = 2, 141
_COMBINABLE = ("train", "evaluate", "predict")
_SHORT = ("check", "list", "convert")  # commands that compute nothing


@dataclass(frozen=True)
class Invocation:
    """A parsed command line.

    Attributes:
        operands: File or files of each command; empty or True for none.
        settings: The settings.
        commands: The commands, as `options` names them.
        program: The program's name, for suggested commands.
    """

    operands: Mapping[str, Any]
    settings: Settings
    commands: tuple[str, ...]
    program: str

    def called(self, command: str) -> str:
        """How another command is called, without its operands and options."""
        return f"python {self.program} --{command}" if self.program.endswith(".py") else f"{self.program} {command}"

    def again(self, command: str) -> str:
        """The command line of another command, such as "evaluate" or "predict --images", on the same data and run."""
        settings = self.settings
        result = f"{Path(settings.data).resolve().name}.parquet" if settings.parts else RESULT
        operands = {"predict": shlex.quote(result), "predict --images": settings.kind.upper()}
        words = [self.called(command), operands.get(command, "")]
        if "data" in settings.given:
            words += ["--data", shlex.quote(settings.data)]
        if Settings(data=settings.data).run_folder != settings.run_folder:
            words += ["--run", shlex.quote(str(settings.run_folder))]
        return " ".join(filter(None, words))


def main(
    argv: Sequence[str] | None = None, program: str = "runner.py", switches: Mapping[str, str] | None = None
) -> int:
    """Run a command.

    Args:
        argv: The arguments; the process's own by default.
        program: The program's name.
        switches: As for `parser.build_parser`; the caller has taken them out of `argv`.

    Returns:
        Exit status: 0 done, 2 user error, 130 stopped by Ctrl-C, 141 stdout was closed by its reader.
    """
    try:
        with streams():
            arguments = parse(sys.argv[1:] if argv is None else argv, program, switches)
            if arguments.quiet:
                be_quiet()
            with interruption.command(), in_one_line():
                _run(arguments, program)
    except AdapterError as error:
        return _refuse(str(error), error.details)
    except BrokenPipeError:
        sys.stdout = None  # or Python would print an error when it flushes stdout at exit
        return _EXIT_UNREAD
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _refuse(f"{where}{error.strerror or error}. Check the path, its permissions and the free space.")
    except MemoryError:
        return _refuse("not enough memory. Give a smaller --batch-size, or fewer --workers.")
    except KeyboardInterrupt as stop:
        print_error(f"\n{str(stop) or interruption.MESSAGE}\n")
        return STOPPED
    return 0


def _refuse(message: str, details: Sequence[str] = ()) -> int:
    """Print an error in one line and its details below; returns the exit status."""
    lines = [f"error: {one_line(message)}", *(f"  {one_line(line)}" for line in details[:40])]
    print_error("".join(f"{line}\n" for line in lines))
    return _EXIT_MISTAKE


def _run(arguments: argparse.Namespace, program: str) -> None:
    chosen = _chosen(arguments)
    contexts = _contexts(arguments, chosen)
    settings = _settings(arguments, contexts)
    operands = {name: getattr(arguments, name) for name in chosen}
    invocation = Invocation(operands, settings, tuple(contexts), program)
    with _stop_deadline(chosen[0]):
        for name in ["dry_run"] if arguments.dry_run else chosen:
            _call(name, invocation)


def _call(name: str, invocation: Invocation) -> None:
    """Import a command's module and run it."""
    importlib.import_module(f"{__package__}.commands.{name}").run(invocation)


def _chosen(arguments: argparse.Namespace) -> list[str]:
    """The names of the commands given: one, or several that can be combined."""
    chosen = [name for name in COMMANDS if getattr(arguments, name) not in (None, False)]
    if not chosen:
        raise UsageError(
            "no command given.",
            "Give --train, --predict FILE, --evaluate, --benchmark, --extract FILE, --search QUERY DIR, "
            "--duplicates DIR, --inspect, --serve, --check FILE, --convert IN OUT, --list or --doctor.",
        )
    if len(chosen) > 1 and not set(chosen) <= set(_COMBINABLE):
        raise UsageError(
            f"{' and '.join(f'--{name}' for name in chosen)} cannot be combined.",
            "Give one of them; only --train, --evaluate and --predict can be combined.",
        )
    return chosen


def _stop_deadline(command: str) -> contextlib.AbstractContextManager[None]:
    """Within this block Ctrl-C ends a command that computes within seconds."""
    if command in _SHORT:
        return contextlib.nullcontext()

    return interruption.deadline(planning.cache_folder(), planning.compiler_path())


def _contexts(arguments: argparse.Namespace, chosen: Iterable[str]) -> list[str]:
    """The commands as `options` distinguishes them."""
    written = names_in(arguments.config) if arguments.config else frozenset()
    special = {
        "predict": CLASSIFY if arguments.images or "images" in written else PREDICT,
        "extract": EXTRACT if str(arguments.extract).endswith(".npz") else EXTRACT_PARTS,
        "benchmark": BENCHMARK_FILES if arguments.features or "features" in written else BENCHMARK,
    }
    return [special.get(name, f"--{name}") for name in chosen]


def _settings(arguments: argparse.Namespace, commands: Sequence[str]) -> Settings:
    """The settings; raises UsageError for an option without effect."""
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
    if CLASSIFY in commands and arguments.predict and Path(arguments.predict).suffix.lower() not in TABLES:
        raise UsageError(
            f"with --images the predictions are printed, or written as a table, not to {arguments.predict}.",
            f"Write --predict --images PATH …, or name a file that ends in {', '.join(TABLES)}.",
        )
    if settings.shard and len(commands) > 1:
        raise UsageError("--shard needs --extract or --predict alone.", "Run other commands separately.")
    return settings
