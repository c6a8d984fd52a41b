"""The contest's two baselines, on this repository's own parts.

    python baseline.py --split A                  zero-shot, as in uyzhang/JCLIP's baseline.py
    python baseline.py --split A --linear-probe   logistic regression on the first 4 photos a class (baseline_ft.py)

Both write result.txt and result.zip. All other flags are runner.py's.
"""

import sys

from jclip_adapter.cli import main

JCLIP = ["--prompts", "jclip", "--support", "first"]

if __name__ == "__main__":
    flags = [flag for flag in sys.argv[1:] if flag != "--linear-probe"]
    job = ["--train", "--method", "linear-probe"] if "--linear-probe" in sys.argv else ["--method", "zero-shot"]
    sys.exit(main([*JCLIP, *job, *([] if "--predict" in flags else ["--predict"]), *flags]))
