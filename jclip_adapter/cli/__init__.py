"""The command line: options, commands, run folders."""

STOPPED = 130
"""The exit status after Ctrl-C."""
