"""Strict JAX settings for every test, and a compilation cache that outlives the run."""

from __future__ import annotations

import gc
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

_CACHE = Path(__file__).parents[1] / ".cache" / "jax"
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)

# Tracing makes and drops many small objects: the usual thresholds cost a tenth of the time.
gc.freeze()
gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="module", autouse=True)
def _programs_of_one_file():
    """Compiled programs stay for one file: those of all would take several gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def quick_sweeps():
    """Sweeps whose programs are compiled like those of :func:`compiling.quick`."""
    from compiling import OPTIONS

    from onesided_jax.sweeps import layout

    def compile_quickly(lowered, platform):
        return lowered.compile(compiler_options=OPTIONS)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "_compile", compile_quickly)
        yield
