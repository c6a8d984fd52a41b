"""Extracts on an engine in a process of its own, which a test can kill: ENGINE SOURCE FOLDER LOG SIZE SECONDS."""

import functools
import signal
import sys
from pathlib import Path

from jclip_adapter.core.console import streams
from jclip_adapter.features.parts.engine import extract_parts
from tests.features.encoders import Logged

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell ignores for what runs in its background
    engine, source, folder, log, size, seconds = sys.argv[1:]
    load = functools.partial(Logged, Path(log), float(seconds))
    with streams():
        extract_parts(engine, load, Path(folder), source, size=int(size), dtype="float32")
