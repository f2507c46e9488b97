#!/usr/bin/env bash
# What docs/PERFORMANCE.md still wants from a GPU, the most telling first, about ten minutes on one H200.
# Each part writes its own file into benchmarks/results/ and may fail or run out of time alone.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}

part() {
  echo "== $*"
  timeout "${LIMIT:-180}" "$python" -m "$@" || echo "== failed ($?): $*"
}

b="--recipe imagenet256_b --precision bf16 --batch-size 128 --micro-batch-size 32"
part benchmarks.train step $b --compile --runs 5 --name b
part benchmarks.train muon $b --name b_muon
part benchmarks.train step $b --compile --draws 14 --runs 3 --name b_14
part benchmarks.train memory $b --name b_memory
part benchmarks.sample --recipe imagenet256_b --precision bf16 --compile --batch-size 64 --runs 3
part benchmarks.train denoiser undo $b --runs 3 --name b_parts
part benchmarks.train step --recipe imagenet256_l --precision bf16 --compile --batch-size 64 \
  --micro-batch-size 16 --runs 3 --name l
part pytest -q tests/training tests/flow tests/models tests/pipelines -m "not slow"
