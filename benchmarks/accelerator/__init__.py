"""What an accelerator does with this package; see ``python -m benchmarks.accelerator --help``."""
