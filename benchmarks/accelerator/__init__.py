"""Measures this package on an accelerator; see ``python -m benchmarks.accelerator --help``."""
