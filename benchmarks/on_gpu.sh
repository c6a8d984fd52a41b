#!/usr/bin/env bash
# All that only a CUDA device can tell, in one go: bash benchmarks/on_gpu.sh OUT [WHEELS]
#
# OUT takes logs and results. WHEELS is a folder of wheels and source archives, for a machine without a package index
# (pip download -r requirements-dev.txt -d WHEELS); PyTorch is compared with where it is installed or among them.
# Each part has its own time limit, and the next one runs whatever became of it.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "$1" && cd "$1" && pwd)
wheels=${2:-}
python=${PYTHON:-python3}
from=()
[ -n "$wheels" ] && from=(--no-index --find-links "$wheels")

part() { # NAME SECONDS COMMAND…: its output and its seconds go to OUT
  local name=$1 limit=$2 started=$SECONDS
  shift 2
  timeout "$limit" "$@" >"$out/$name.log" 2>&1
  echo "$name: exit status $?, $((SECONDS - started)) s" | tee -a "$out/summary.txt"
}

part environment 300 "$python" -m venv --system-site-packages "$out/venv"
bin=$out/venv/bin
part install 300 "$bin/python" -m pip install "${from[@]}" -r requirements-dev.txt
part install_torch 300 "$bin/python" -m pip install "${from[@]}" torch
nvidia-smi >"$out/nvidia-smi.txt" 2>&1
part doctor 600 "$bin/python" runner.py --doctor
part gpu_tests 900 "$bin/python" -m pytest -m gpu
part demo 600 "$bin/python" runner.py --train --evaluate --predict result.txt --data sample --device cuda
part check 100 "$bin/python" runner.py --check result.txt --data sample
part speed 1500 "$bin/python" -m benchmarks.speed data/sample/photos --device cuda \
  --precisions float32,bfloat16,float16
part tests 1500 "$bin/python" -m pytest --deselect tests/reliability
cp -f results/speed-cuda.* "$out" 2>/dev/null
rm -rf "$out/venv"
cat "$out/summary.txt"
