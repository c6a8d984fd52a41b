"""The check command: whether a result file is valid for the contest."""

from __future__ import annotations

from jclip_adapter.cli.app import Invocation
from jclip_adapter.core.console import print_result
from jclip_adapter.core.problems import counted
from jclip_adapter.data.submission import check_submission

from .setup import open_data


def run(invocation: Invocation) -> None:
    """Print what the file holds; an invalid one is an error."""
    settings = invocation.settings
    report = check_submission(invocation.operands["check"], open_data(settings), top=settings.top)
    archive = "and its zip are" if report.zip_checked else "is"
    print_result(f"{report.path} {archive} valid: {counted(report.lines, 'photo')}, {counted(report.top, 'id')} each")
    for domain, count in report.per_domain.items():
        print_result(f"predicted as {domain}: {counted(count, 'photo')}")
