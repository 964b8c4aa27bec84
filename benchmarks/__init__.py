"""Comparisons with other libraries; see ``python -m benchmarks --help``."""

import contextlib

import onesided_jax as osj

# As the command line does. Fails, and is not needed, if JAX has computed already.
with contextlib.suppress(RuntimeError):
    osj.configure_cpu()
