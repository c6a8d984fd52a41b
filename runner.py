"""The one command of this repository; `python runner.py --help` lists what it does."""

try:
    from jclip_adapter.cli.entry import run
except KeyboardInterrupt:
    raise SystemExit(130) from None

if __name__ == "__main__":
    run()
