"""Measurements of training and sampling: `python -m benchmarks.train`, `benchmarks.sample`."""
