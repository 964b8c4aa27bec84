"""Rows, statistics and timing shared by all suites.

A ratio compares chunks that ran one after the other in the same round. Other load and drift of the
machine therefore hit both sides alike. A row is the median of the rounds.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

MISSING_TORCH = "this suite needs PyTorch and cooper-optim: pip install -e '.[bench]'"
GEMM_SIZE = 1024
ROOT = Path(__file__).parents[1]
SHOWN_SIDES = 8  # in a progress line
SETTLE_SECONDS = 0.05  # OpenMP threads spin after their work; do not let them slow the next side

ScaleName = Literal["small", "full"]


class Scale(NamedTuple):
    """How much to do.

    Attributes:
      name: ``"full"`` measures, ``"small"`` only shows that everything works; goals are judged
        for ``"full"``.
      rounds: interleaved repeats.
    """

    name: ScaleName
    rounds: int

    @property
    def small(self) -> bool:
        return self.name == "small"

    def pick(self, small: Any, full: Any) -> Any:
        return small if self.small else full


class Row(NamedTuple):
    """One measured ratio.

    Attributes:
      what: the side of this package.
      against: the side that it is compared with.
      ratio: median over the rounds.
      quartiles: of the ratio over the rounds.
      goal: the ratio to reach, or ``None``.
      better: whether a ``"higher"`` or a ``"lower"`` ratio is better.
      note: one sentence on how it was measured.
    """

    what: str
    against: str
    ratio: float
    quartiles: tuple[float, float]
    goal: float | None = None
    better: Literal["higher", "lower"] = "higher"
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; ``None`` without a goal."""
        if self.goal is None:
            return None
        return self.ratio >= self.goal if self.better == "higher" else self.ratio <= self.goal


class SuiteResult(NamedTuple):
    """The result of a suite: rows, and further details to keep as JSON."""

    rows: list[Row]
    details: dict[str, Any]


def quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    if not len(values):
        raise ValueError("quantiles of no values")
    low, median, high = np.quantile(np.asarray(values, float), [0.25, 0.5, 0.75])
    return float(low), float(median), float(high)


def ratio_row(
    what: str,
    against: str,
    numerators: Sequence[float],
    denominators: Sequence[float],
    goal: float | None = None,
    better: Literal["higher", "lower"] = "higher",
    note: str = "",
) -> Row:
    """The row of ``numerator / denominator``, one ratio per round."""
    ratios = [a / b for a, b in zip(numerators, denominators, strict=True)]
    low, median, high = quantiles(ratios)
    return Row(what, against, median, (low, high), goal, better, note)


def interleave(
    sides: Mapping[str, Callable[[], float]], rounds: int, label: str = ""
) -> dict[str, list[float]]:
    """Calls every side once per round, in alternating order, and returns the measured values.

    Each side times itself, so that it can leave out other work.
    """
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        order = list(sides) if number % 2 == 0 else list(sides)[::-1]
        for name in order:
            time.sleep(SETTLE_SECONDS)
            measured[name].append(sides[name]())
        shown = ", ".join(f"{name} {measured[name][-1]:.4g}" for name in sides)
        told = f": {shown}" if len(sides) <= SHOWN_SIDES else ""
        progress(f"{label} round {number + 1} of {rounds}{told}")
    return measured


def repeat(side: Callable[[], float], wall: float, least: int = 3) -> list[float]:
    """Calls a side until the wall time is used; returns all values except the first."""
    side()
    start, measured = time.perf_counter(), []
    while len(measured) < least or time.perf_counter() < start + wall:
        measured.append(side())
    return measured


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of a call, until its JAX arrays are ready."""
    start = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - start


def spread(values: Sequence[float], digits: int = 6) -> dict[str, float]:
    """Median and quartiles, rounded for a result file."""
    low, median, high = (float(f"{v:.{digits}g}") for v in quantiles(values))
    return {"median": median, "lower_quartile": low, "upper_quartile": high}


def in_fresh_process(module: str, *arguments: Any) -> Any:
    """Runs one of our modules in a new process; parses the last line of output as JSON."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def progress(message: str) -> None:
    print(f"  {message.strip()}", flush=True)


def jax_gemm(size: int = GEMM_SIZE, dtype: str = "float32") -> Callable[[], float]:
    """A function that multiplies two matrices in JAX and returns GFLOP/s."""
    a, b = jax.random.normal(jax.random.key(0), (2, size, size), jnp.float32).astype(dtype)
    product = jax.jit(jnp.matmul).lower(a, b).compile()
    jax.block_until_ready(product(a, b))
    return lambda: 2e-9 * size**3 / seconds(lambda: product(a, b))


def gemm_peak(repeats: int = 20) -> dict[str, float | None]:
    """The fastest of ``repeats`` matrix products, GFLOP/s, in JAX and (if installed) PyTorch."""
    measure = jax_gemm()
    peak: dict[str, float | None] = {"jax": max(measure() for _ in range(repeats)), "torch": None}
    try:
        from benchmarks.peers_torch import torch_gemm
    except ImportError:
        return peak
    measure = torch_gemm(GEMM_SIZE)
    peak["torch"] = max(measure() for _ in range(repeats))
    return peak


def machine() -> dict[str, Any]:
    """Hardware and versions that the figures depend on."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "backend": jax.default_backend(),
        **{name: version(name) for name in ("jax", "jaxlib", "flax", "torch", "cooper-optim")},
        "numpy": np.__version__,
        "gemm_gflops": {
            name: None if value is None else round(value, 1) for name, value in gemm_peak().items()
        },
    }


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def to_json(
    suite: str, scale: Scale, result: SuiteResult, machine: Mapping[str, Any], wall: float
) -> dict[str, Any]:
    """A suite's result in its stored form."""
    return {
        "suite": suite,
        "scale": scale.name,
        "rounds": scale.rounds,
        "wall_seconds": round(wall, 1),
        "rows": [
            row._asdict()
            | {
                "ratio": float(f"{row.ratio:.4g}"),
                "quartiles": [float(f"{q:.4g}") for q in row.quartiles],
                "met": None if scale.small else row.met,
            }
            for row in result.rows
        ],
        "details": result.details,
        "machine": dict(machine),
    }


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    """Converts NumPy's numbers and arrays to Python's."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
