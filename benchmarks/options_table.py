"""The tables of commands and options of docs/flags.md and docs/flags.zh.md, from the program's own table of options."""

from __future__ import annotations

from benchmarks import ROOT
from jclip_adapter.cli.options import Option
from jclip_adapter.cli.parser import COMMANDS, Command
from jclip_adapter.cli.settings import GENERAL, OPTIONS
from jclip_adapter.core.choices import ALL_SHOTS
from jclip_adapter.core.strict_yaml import read_yaml_mapping
from jclip_adapter.evaluation.report import markdown_table

CHINESE = ROOT / "docs" / "flags.zh.yaml"
_COMMANDS_HEADER = {"en": ["subcommand", "as a flag", "does"], "zh": ["子命令", "写作参数", "作用"]}
_OPTIONS_HEADER = {
    "en": ["option", "meaning", "default", "range", "commands"],
    "zh": ["选项", "含义", "默认值", "范围", "命令"],
}
_ALL = {"en": "all", "zh": "全部"}


def commands_table(language: str) -> str:
    """One row per command.

    Args:
        language: "en" or "zh".
    """
    chinese = read_yaml_mapping(CHINESE)["commands"]
    rows = []
    for command in COMMANDS.values():
        operand = _operand(command)
        does = command.help if language == "en" else chinese[command.name]
        rows.append([f"`{command.name}{operand}`", f"`--{command.name}{operand}`", does])
    return markdown_table(_COMMANDS_HEADER[language], rows)


def options_table(language: str) -> str:
    """One row per option: meaning, default, range, and the commands that it has an effect with.

    Args:
        language: "en" or "zh".
    """
    chinese = read_yaml_mapping(CHINESE)
    rows = []
    for item in (*OPTIONS.values(), *GENERAL):
        default = _default(item)
        meaning = item.help
        if language == "zh":
            meaning = chinese["options"][item.name]
            default = chinese["defaults"].get(item.name, default)
        rows.append([f"`{_form(item)}`", meaning, default, _range(item), _owners(item, _ALL[language])])
    return markdown_table(_OPTIONS_HEADER[language], [[cell.replace("|", "\\|") for cell in row] for row in rows])


def _operand(command: Command) -> str:
    if not command.metavar:
        return ""
    text = command.metavar if isinstance(command.metavar, str) else " ".join(command.metavar)
    return f" [{text}]" if command.optional else f" {text}"


def _form(item: Option) -> str:
    """How the option is typed, such as `--device auto|cpu|cuda`."""
    if item.kind == "switch":
        return item.flag
    more = " …" if item.kind == "texts" else ""
    return f"{item.flag} {item.metavar or '|'.join(item.choices)}{more}"


def _default(item: Option) -> str:
    if item.shown:
        return item.shown
    empty = item.default in ("", (), {}) or item.default is None or item.default is False
    return "" if empty else f"`{item.default}`"


def _range(item: Option) -> str:
    high = None if item.high is None or item.high >= ALL_SHOTS else item.high  # larger ones limit nobody
    if item.low is None:
        return ""
    return f"≥ {item.low:g}" if high is None else f"{item.low:g}…{high:g}"


def _owners(item: Option, every: str) -> str:
    """Names of the commands that an option has an effect with; the word `every` where no command is left out."""
    owners = [command.name for command in COMMANDS.values() if not set(command.contexts).isdisjoint(item.commands)]
    return every if len(owners) == len(COMMANDS) else ", ".join(owners)
