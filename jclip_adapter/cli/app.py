"""The command line: arguments in, calls out, exit status back. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jclip_adapter.core.console import be_quiet, complain, streams
from jclip_adapter.core.errors import AdapterError, UsageError
from jclip_adapter.core.problems import one_line
from jclip_adapter.runtime import interruption, planning
from jclip_adapter.runtime.jittor_messages import in_one_line

from . import STOPPED
from .options import BENCHMARK, BENCHMARK_FILES, CLASSIFY, PREDICT, refuse_without_effect
from .parser import COMMANDS, RESULT, parse
from .settings import GENERAL, OPTIONS, Settings, build_settings, names_in, parse_assignments

_EXIT_MISTAKE, _EXIT_UNREAD = 2, 141
_TOGETHER = ("train", "evaluate", "predict")
_AT_ONCE = ("check", "list", "convert")  # commands that compute nothing


@dataclass(frozen=True)
class Invocation:
    """What was asked for.

    Attributes:
        operands: What stands behind each command: a file or files; empty or True for none.
        settings: The settings.
        commands: The commands, as `options` names them.
        program: The program's name, for the commands that it suggests.
    """

    operands: Mapping[str, Any]
    settings: Settings
    commands: tuple[str, ...]
    program: str

    def again(self, command: str) -> str:
        """What to type for another command on the same data and run.

        Args:
            command: Such as "evaluate", or "predict --images" for photos elsewhere.
        """
        called = f"python {self.program} --{command}" if self.program.endswith(".py") else f"{self.program} {command}"
        operands = {"predict": RESULT, "predict --images": "PHOTO"}
        settings = self.settings
        words = [called, operands.get(command, "")]
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
        Exit status: 0 done, 2 the user's mistake, 130 stopped by Ctrl-C, 141 stdout was closed by its reader.
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
        # Whoever read the results has enough; without this Python would complain when it flushes stdout at its end.
        sys.stdout = None
        return _EXIT_UNREAD
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _refuse(f"{where}{error.strerror or error}. Check the path, its permissions and the free space.")
    except MemoryError:
        return _refuse("not enough memory. Give a smaller --batch-size, or fewer --workers.")
    except KeyboardInterrupt as stop:
        complain(f"\n{str(stop) or interruption.MESSAGE}\n")
        return STOPPED
    return 0


def _refuse(message: str, details: Sequence[str] = ()) -> int:
    """Print a mistake in one line, and many faults one by one below it; returns the exit status."""
    lines = [f"error: {one_line(message)}", *(f"  {one_line(line)}" for line in details[:40])]
    complain("".join(f"{line}\n" for line in lines))
    return _EXIT_MISTAKE


def _run(arguments: argparse.Namespace, program: str) -> None:
    chosen = _chosen(arguments)
    contexts = _contexts(arguments, chosen)
    settings = _settings(arguments, contexts)
    operands = {name: getattr(arguments, name) for name in chosen}
    invocation = Invocation(operands, settings, tuple(contexts), program)
    with _ends_soon(chosen[0]):
        for name in ["dry_run"] if arguments.dry_run else chosen:
            _call(name, invocation)


def _call(name: str, invocation: Invocation) -> None:
    """Let a command's module run it; other commands' modules are not imported."""
    importlib.import_module(f"{__package__}.commands.{name}").run(invocation)


def _chosen(arguments: argparse.Namespace) -> list[str]:
    """The commands' names, one of them or several that go together."""
    chosen = [name for name in COMMANDS if getattr(arguments, name) not in (None, False)]
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
    if command in _AT_ONCE:
        return contextlib.nullcontext()

    return interruption.deadline(planning.cache_folder(), planning.compiler_path())


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
