"""The one command of this repository; `python runner.py --help` lists what it does."""

import sys

from jclip_adapter.cli import main

if __name__ == "__main__":
    sys.exit(main())
