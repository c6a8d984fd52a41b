"""The one command of this repository; `python runner.py --help` lists what it does."""

from jclip_adapter.cli import run

if __name__ == "__main__":
    run()
