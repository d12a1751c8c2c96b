"""Measurements against peers, run side by side and reported as ratios. `python -m benchmarks` runs them all."""
