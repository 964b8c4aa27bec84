"""Compilation with fewer of LLVM's optimisations, for small programs that are many."""

from __future__ import annotations

import functools

import jax

OPTIONS = {"xla_backend_optimization_level": 0}

quick = functools.partial(jax.jit, compiler_options=OPTIONS)
"""Not for what is tested in single precision: that shall run what users run."""
