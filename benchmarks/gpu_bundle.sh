#!/usr/bin/env bash
# What a machine with a CUDA GPU and no network needs for benchmarks/on_gpu.sh: bash benchmarks/gpu_bundle.sh [FOLDER]
#
# Puts into FOLDER (gpu-bundle, which git ignores) site.tar.xz, the packages of requirements.txt for its Python (VERSION,
# 3.12 if not set) without their tests, and expected/, what a CPU computed beforehand. oneDNN, which only the CPU needs,
# is left out. MORE names further requirements, such as those of requirements-backbones.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
bundle=$(mkdir -p "${1:-gpu-bundle}" && cd "${1:-gpu-bundle}" && pwd)
python=${PYTHON:-python3}
version=${VERSION:-3.12}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT

platforms=()
for platform in manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_24_x86_64 manylinux_2_17_x86_64 \
  manylinux2014_x86_64 manylinux_2_12_x86_64 manylinux2010_x86_64 manylinux_2_5_x86_64 manylinux1_x86_64; do
  platforms+=(--platform "$platform")
done
# Jittor comes as source only; its wheel is pure Python and fits any version.
"$python" -m pip wheel --quiet --no-deps -w "$site/wheels" "$(grep '^jittor==' requirements.txt)"
grep -vE '^(#|$|jittor==|onednn-)' requirements.txt >"$site/wanted.txt"
# shellcheck disable=SC2086  # one word per requirement
"$python" -m pip install --quiet --only-binary=:all: --python-version "$version" --implementation cp \
  "${platforms[@]}" --target "$site/site" --no-compile -r "$site/wanted.txt" astunparse 'setuptools<82' \
  pytest==9.0.3 hypothesis ${MORE:-}
"$python" -m pip install --quiet --no-deps --no-index --no-compile --target "$site/site" "$site"/wheels/jittor-*.whl
find "$site/site" -type d \( -name tests -o -name __pycache__ \) -prune -exec rm -rf {} +
rm -rf "$site/site/jittor/test" "$site/site/sklearn/datasets/data" "$site/site/sklearn/datasets/images" \
  "$site/site/matplotlib/mpl-data/sample_data" "$site/site/bin"
tar -C "$site" -cf - site | xz -T0 -6 >"$bundle/site.tar.xz"

mkdir -p "$bundle/expected"
for step in features sample trainings; do
  [ -f "$bundle/expected/$step.npz" ] || "$python" -m benchmarks.gpu_check "$step" --device cpu \
    --expected "$bundle/expected"
done
du -sh "$bundle/site.tar.xz" "$bundle/expected"
