"""Side by side with peers; see ``python -m benchmarks --help``."""

import contextlib

import onesided_jax as osj

# As the command line does. Too late, and not needed, where JAX has been computing already.
with contextlib.suppress(RuntimeError):
    osj.configure_cpu()
