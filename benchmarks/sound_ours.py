"""Sounds through this program's audio tower: a process that sound_speed.py drives.

    python -m benchmarks.sound_ours MODE WEIGHTS

MODE is that of the encoder, WEIGHTS an AudioCLIP.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

from benchmarks.torch_audio import noise
from benchmarks.turns import answers_to, peak_mb
from jclip_adapter.models.audioclip.encoder import load_audioclip


def main() -> None:
    """Answer questions."""
    out = answers_to()
    audio = load_audioclip(sys.argv[2], "cpu", mode=sys.argv[1]).audio
    step = audio.batch_size
    for line in sys.stdin:
        question = json.loads(line)
        waves = noise(question["count"])
        started = time.perf_counter()
        rows = [audio.sounds(waves[first : first + step]) for first in range(0, len(waves), step)]
        answer: dict[str, Any] = {"seconds": time.perf_counter() - started, "count": len(waves), "peak_mb": peak_mb()}
        if question["task"] == "check":
            answer["features"] = np.concatenate(rows).tolist()
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
