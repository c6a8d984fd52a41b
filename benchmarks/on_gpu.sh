#!/usr/bin/env bash
# All that only a CUDA GPU can tell, in at most 9 minutes: bash benchmarks/on_gpu.sh OUT [BUNDLE]
#
# The most important step comes first. Each has a time limit of its own, ends by the end of all (TOTAL seconds, 540 if
# not set) at the latest, and writes what it found into OUT at once: gpu-STEP.json and STEP.log; steps.json lists exit
# status and seconds of each. BUNDLE (gpu-bundle) is what gpu_bundle.sh made: packages, if the machine has no package
# index, and the CPU's results. TORCH names an interpreter that has PyTorch (python3 if not set). ONLY="kernel features"
# does these steps alone, and WORK names a folder for packages and Jittor's cache that a later call goes on with.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "$1" && cd "$1" && pwd)
bundle=${2:-gpu-bundle}
python=${PYTHON:-python3}
total=${TOTAL:-540}
work=${WORK:-$(mktemp -d)}
mkdir -p "$work"
export TORCH=${TORCH:-$(command -v python3)} JITTOR_HOME=${JITTOR_HOME:-$work/jittor} PYTHONUNBUFFERED=1
[ -n "${WORK:-}" ] || : >"$out/steps.txt"

step() { # NAME SECONDS COMMAND…
  local name=$1 limit=$2 began=$SECONDS left=$((total - SECONDS - 5)) status=124
  shift 2
  if [ -n "${ONLY:-}" ] && [[ " $ONLY unpack machine " != *" $name "* ]]; then return; fi
  if [ "$left" -gt 5 ]; then
    timeout --kill-after=5 "$((limit < left ? limit : left))" "$@" >"$out/$name.log" 2>&1
    status=$?
  fi
  echo "$name $status $((SECONDS - began)) $limit" >>"$out/steps.txt"
  awk 'BEGIN { print "[" } { printf "%s{\"step\": \"%s\", \"status\": %d, \"seconds\": %d, \"limit\": %d}\n", \
    (NR > 1 ? "," : ""), $1, $2, $3, $4 } END { print "]" }' "$out/steps.txt" >"$out/steps.json"
  echo "$name: exit status $status, $((SECONDS - began)) s of $limit"
}

check() { # STEP SECONDS: a step of gpu_check.py
  step "$1" "$2" "$python" -m benchmarks.gpu_check "$1" --device cuda --expected "$bundle/expected" \
    --out "$out/gpu-$1.json"
}

# 1. environment, start, one kernel, versions
for part in "$bundle"/site-*.tar.xz; do
  [ -f "$part" ] && step unpack 60 tar -xJf "$part" -C "$work"
done
[ -d "$work/site" ] && export PYTHONPATH=$work/site${PYTHONPATH:+:$PYTHONPATH}
step machine 10 bash -c 'nvidia-smi; nvcc --version; g++ --version; '"$python"' --version; nproc; free -g; ldconfig -p |
  grep -E "libcuda|libcublas|libcudart|libcurand"; ls -d /usr/local/cuda*'
check kernel 150
step doctor 30 "$python" runner.py --doctor --device cuda
# 2. features beside the CPU's, and those of genuine tiny models
check features 120
step golden 60 "$python" -m pytest -q -p no:cacheprovider tests/models/test_models_golden.py tests/models/clip/test_model.py
# 3. the main job
check sample 60
# 4. methods that train through CLIP, and others with a gradient
check trainings 110
# 5. the tests for a GPU
step gpu_tests 60 "$python" -m pytest -q -p no:cacheprovider -m gpu tests/runtime/test_gpu.py
# 6. speed beside PyTorch's
check speed 120

[ -n "${WORK:-}" ] || rm -rf "$work"
cat "$out/steps.json"
