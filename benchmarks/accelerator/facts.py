"""The device: versions, memory, and the speed of a matrix product and of memory."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from benchmarks.accelerator.sweeps import precision_of
from benchmarks.accelerator.work import Context, Job, Row
from benchmarks.harness import cpu_name, jax_gemm, progress, repeat, seconds, version

PACKAGES = (
    "jax",
    "jaxlib",
    "jax-cuda12-plugin",
    "jax-cuda13-plugin",
    "libtpu",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "torch",
)
PRODUCTS = (("float32", "float32"), ("highest", "float32"), ("bfloat16", "bfloat16"))


def jobs(context: Context) -> list[Job]:
    del context
    return [Job("device", 120.0)]


def work(name: str, context: Context, done: list[Row]) -> Iterator[Row]:
    del name, done
    device = jax.devices()[0]
    memory = (device.memory_stats() or {}).get("bytes_limit")
    yield {
        "what": "device",
        "kind": device.device_kind,
        "devices": jax.device_count(),
        "driver": _driver(),
        "memory_bytes": memory,
        "host": f"{cpu_name()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES if version(package)},
    }
    size, wall = (256, 0.05) if context.tiny else (8192, 1.0)
    for precision, dtype in PRODUCTS:
        with jax.default_matmul_precision(precision_of(precision, context.platform)):
            speed = max(repeat(jax_gemm(size, dtype), wall)) / 1000
        progress(f"matrix product, {precision}: {speed:.4g} TFLOP/s")
        yield {"what": "product", "precision": precision, "size": size, "tflops": speed}
    numbers = 2**18 if context.tiny else min(2**30, (memory or 2**34) // 32)
    yield {"what": "bandwidth", "bytes": 4 * numbers, "gigabytes_per_second": copied(numbers, wall)}


def copied(numbers: int, wall: float) -> float:
    """Gigabytes per second that ``x + 1`` reads and writes together."""
    x = jax.random.normal(jax.random.key(0), (numbers,), jnp.float32)
    add = jax.jit(lambda x: x + 1)
    speed = 8e-9 * numbers / min(repeat(lambda: seconds(lambda: add(x)), wall))
    progress(f"memory: {speed:.4g} GB/s")
    return speed


def _driver() -> str | None:
    """Version of the NVIDIA driver, or ``None`` if ``nvidia-smi`` does not report it."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True)
    return done.stdout.splitlines()[0].strip() if done.stdout.strip() else None
