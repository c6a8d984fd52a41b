"""The command line: options, commands, run folders."""
