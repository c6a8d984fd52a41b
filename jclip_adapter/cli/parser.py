"""Argument parsers: one with all commands as flags, for the contest, and one per subcommand."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from jclip_adapter.core.errors import UsageError, suggest
from jclip_adapter.core.problems import one_line
from jclip_adapter.core.version import __version__

from .options import (
    BENCHMARK,
    BENCHMARK_FILES,
    CHECK,
    CLASSIFY,
    CONVERT,
    DOCTOR,
    DUPLICATES,
    EVALUATE,
    EXTRACT,
    EXTRACT_PARTS,
    INSPECT,
    LIST,
    PREDICT,
    SEARCH,
    SERVE,
    TRAIN,
    Option,
)
from .settings import DETAILS, GENERAL, OPTIONS

RESULT = "result.txt"
_DESCRIPTION = "Few-shot image classification with CLIP in Jittor: from a few photos per class to a classifier.\n"
_EXAMPLES = """
  {program} --train                          fit an adapter to Dataset/ with JCLIP's ViT-B/32
  {program} --predict result.txt             classify the test photos; write result.txt and result.zip
  {program} --train --data sample            try it without data and weights (a toy)
"""


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        name: The subcommand; the flag has two hyphens before it.
        help: Description.
        contexts: Its names in `Option.commands`; several where options depend on each other.
        metavar: Its operands.
        optional: Whether the operand is optional.
    """

    name: str
    help: str
    contexts: tuple[str, ...]
    metavar: str | tuple[str, ...] = ()
    optional: bool = False

    def add_flag(self, group: argparse._ArgumentGroup) -> None:
        """Declare it as a flag."""
        if not self.metavar:
            group.add_argument(f"--{self.name}", action="store_true", help=self.help)
        elif self.optional:
            group.add_argument(f"--{self.name}", nargs="?", const="", metavar=self.metavar, help=self.help)
        else:
            count = len(self.metavar) if isinstance(self.metavar, tuple) else None
            group.add_argument(f"--{self.name}", nargs=count, metavar=self.metavar, help=self.help)

    def add_operands(self, parser: argparse.ArgumentParser) -> None:
        """Declare its operands, for the subcommand."""
        if not self.metavar:
            parser.set_defaults(**{self.name: True})
        elif self.optional:
            parser.add_argument(self.name, nargs="?", default="", metavar=self.metavar)
        else:
            count = len(self.metavar) if isinstance(self.metavar, tuple) else None
            words = " ".join(self.metavar) if isinstance(self.metavar, tuple) else self.metavar
            parser.add_argument(self.name, nargs=count, metavar=words)  # argparse takes no tuple for an operand


COMMANDS = {
    command.name: command
    for command in (
        Command("train", "fit a method to the shots; leaves a run folder", (TRAIN,)),
        Command("evaluate", "accuracy on labelled photos, in total and per domain", (EVALUATE,)),
        Command(
            "predict",
            f"classify the test photos into FILE ({RESULT}) and a zip, or a .csv, .jsonl or .parquet; or --images",
            (PREDICT, CLASSIFY),
            "FILE",
            optional=True,
        ),
        Command("benchmark", "compare methods on feature files or photos", (BENCHMARK, BENCHMARK_FILES)),
        Command(
            "extract",
            "features: of the shots and the labelled photos into FILE.npz (--shots 1,4), or of any --photos into DIR",
            (EXTRACT, EXTRACT_PARTS),
            "FILE.npz|DIR",
        ),
        Command(
            "search",
            "photos in DIR, made by extract, that are nearest to a text or a photo",
            (SEARCH,),
            ("QUERY", "DIR"),
        ),
        Command("duplicates", "photos in DIR, made by extract, that are nearly the same", (DUPLICATES,), "DIR"),
        Command("inspect", "training photos that fit their class badly, duplicates, unreadable ones", (INSPECT,)),
        Command("serve", "a page in the browser: see predictions, correct labels, train again", (SERVE,)),
        Command("check", "check a result file by the contest's rules", (CHECK,), "FILE"),
        Command("convert", "convert weights to safetensors: one file, or a folder", (CONVERT,), ("IN", "OUT")),
        Command(
            "list",
            "methods, prompt sets, weights; details of METHOD; 'models': published CLIPs",
            (LIST,),
            "METHOD",
            optional=True,
        ),
        Command("doctor", "check this machine's setup, with hints", (DOCTOR,)),
    )
}


class _Read(argparse.Action):
    """Parses an option by `Option.read`; argparse's own `type` would hide its error message."""

    def __init__(self, *, item: Option, **more: Any) -> None:
        super().__init__(**more)
        self._item = item

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: Any, option_string: object = None
    ) -> None:
        setattr(namespace, self.dest, self._item.read(values))


class _Help(argparse.Action):
    """Prints the help without the options that few need, so that it fits a screen."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**{**more, "nargs": 0, "default": argparse.SUPPRESS})

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        parser._action_groups = [group for group in parser._action_groups if group.title != DETAILS]
        parser.print_help()
        parser.exit()


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError with a suggestion."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        known = [option for action in self._actions for option in action.option_strings]
        hint = f"`{self.prog} {'--help-all' if '--help-all' in known else '--help'}` lists all options."
        if message.startswith("unrecognized arguments:"):
            flag = message.split(":", 1)[1].strip().partition(" ")[0].partition("=")[0]
            owners = _owners(flag)
            if owners:
                raise UsageError(f"{flag} has no effect with {self.prog}.", f"It belongs to {', '.join(owners)}.")
            near = suggest(flag, known)
            hint = near if near.startswith("Did") else hint
            message = f"unknown option '{flag}'" if flag.startswith("-") else f"unexpected argument '{flag}'"
        raise UsageError(f"{one_line(message)}.", hint)


def _owners(flag: str) -> list[str]:
    """The subcommands that have an option."""
    used = {name for item in (*OPTIONS.values(), *GENERAL) if item.flag == flag for name in item.commands}
    return [command.name for command in COMMANDS.values() if not used.isdisjoint(command.contexts)]


def parse(argv: Sequence[str], program: str, switches: Mapping[str, str] | None = None) -> argparse.Namespace:
    """Parse the arguments in either form.

    Args:
        argv: The arguments: a subcommand with its options, or flags.
        program: Its name in `--help` and messages.
        switches: As for `build_parser`.

    Returns:
        The operand of each command, None or False where it was not given; the value of each option, None where not
        given.

    Raises:
        UsageError: an unknown argument or an invalid value.
    """
    if not argv or argv[0].startswith("-") or switches:
        return build_parser(program, switches).parse_args(argv)
    if argv[0] not in COMMANDS:
        raise UsageError(f"unknown command '{argv[0]}'.", suggest(argv[0], COMMANDS))
    found = subcommand_parser(COMMANDS[argv[0]], program).parse_args(argv[1:])
    names = (*COMMANDS, *OPTIONS, *(item.name for item in GENERAL))
    return argparse.Namespace(**{**dict.fromkeys(names), **vars(found)})


def build_parser(program: str = "runner.py", switches: Mapping[str, str] | None = None) -> argparse.ArgumentParser:
    """The parser of all commands and options as flags.

    Args:
        program: Its name in `--help` and messages.
        switches: Additional switches by name, with their help.
    """
    called = program if not program.endswith(".py") else f"python {program}"
    parser = _new(program, f"{_DESCRIPTION}{_EXAMPLES.format(program=called)}")
    commands = parser.add_argument_group("commands (--train, --evaluate and --predict may be combined)")
    for command in COMMANDS.values():
        command.add_flag(commands)
    for flag, text in (switches or {}).items():
        commands.add_argument(flag, action="store_true", help=text)
    commands.add_argument("--version", action="version", version=f"jclip-adapter {__version__}")
    commands.add_argument("-h", "--help", action="help", help=f"this text; {called} COMMAND --help is shorter")
    _add_options(parser, (*OPTIONS.values(), *GENERAL))
    return parser


def subcommand_parser(command: Command, program: str = "jclip-adapter") -> argparse.ArgumentParser:
    """The parser of one command with its own options; `program` is the name in `--help` and messages."""
    operands = command.metavar if isinstance(command.metavar, tuple) else (command.metavar,)
    words = [f"[{word}]" if command.optional else word for word in operands if word]
    parser = _new(
        f"{program} {command.name}",
        f"{command.help[0].upper()}{command.help[1:]}.",
        " ".join([program, command.name, *words, "[options]"]),
    )
    command.add_operands(parser)
    parser.add_argument("-h", "--help", action=_Help, help="this text; --help-all shows the rarer options too")
    parser.add_argument("--help-all", action="help", help=argparse.SUPPRESS)
    every = (*OPTIONS.values(), *GENERAL)
    _add_options(parser, [item for item in every if not set(command.contexts).isdisjoint(item.commands)])
    return parser


def _new(program: str, description: str, usage: str | None = None) -> _Parser:
    return _Parser(
        prog=program,
        usage=usage,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )


def _add_options(parser: argparse.ArgumentParser, options: Sequence[Option]) -> None:
    for title in dict.fromkeys(item.group for item in options):
        group = parser.add_argument_group(title)
        for item in options:
            if item.group == title:
                _add_option(group, item)


def _add_option(group: argparse._ArgumentGroup, item: Option) -> None:
    text = item.help.replace("%", "%%")
    if item.kind == "switch":
        group.add_argument(item.flag, action="store_const", const=True, help=text)
        return
    shown = item.shown or str(item.default if item.default not in ({}, (), None) else "")
    if item.kind == "texts":
        more: dict[str, Any] = {"nargs": "+"}
    elif item.kind == "assignments":
        more = {"action": "append"}
    else:
        more = {"action": _Read, "item": item}
    metavar = item.metavar or f"{{{','.join(item.choices)}}}"
    group.add_argument(item.flag, metavar=metavar, help=f"{text} ({shown})" if shown else text, **more)
