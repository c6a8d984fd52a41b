"""The contest's two baselines, on this repository's own parts.

    python baseline.py --split A                  zero-shot, as in uyzhang/JCLIP's baseline.py
    python baseline.py --split A --linear-probe   logistic regression on the first 4 photos a class (baseline_ft.py)

Both write result.txt and result.zip. All other flags are runner.py's.
"""

import sys

try:
    from jclip_adapter.cli.entry import run
except KeyboardInterrupt:
    raise SystemExit(130) from None

PROBE = {"--linear-probe": "logistic regression on the first 4 photos per class; without it zero-shot"}
ZERO_SHOT_JOB = ["--method", "zero-shot"]
PROBE_JOB = ["--train", "--method", "linear-probe", "--support", "first"]

if __name__ == "__main__":
    flags = [flag for flag in sys.argv[1:] if flag not in PROBE]
    job = PROBE_JOB if len(flags) < len(sys.argv) - 1 else ZERO_SHOT_JOB
    predict = [] if "--predict" in flags else ["--predict"]
    run(["--prompts", "jclip", *job, *predict, *flags], "baseline.py", PROBE)
