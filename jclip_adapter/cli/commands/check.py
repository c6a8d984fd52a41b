"""Check a result file as the contest would read it."""

from __future__ import annotations

from jclip_adapter.cli.app import Invocation
from jclip_adapter.core.console import tell
from jclip_adapter.data.submission import check_submission

from .setup import open_data


def run(invocation: Invocation) -> None:
    """The command: print that the file is valid; a fault is an error."""
    settings = invocation.settings
    report = check_submission(invocation.operands["check"], open_data(settings), top=settings.top)
    archive = "and its zip are" if report.zip_checked else "is"
    tell(f"{report.path} {archive} valid: {report.lines} photos, {report.top} ids each")
    for domain, count in report.per_domain.items():
        if domain:
            tell(f"predicted as {domain}: {count} photos")
