"""Compilation in a fifth of the time, for small programs that are many."""

from __future__ import annotations

import functools

import jax

OPTIONS = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}

quick = functools.partial(jax.jit, compiler_options=OPTIONS)
"""Not for what is tested in single precision: that shall run what users run."""
