"""Thousands of certified runs at once."""

from __future__ import annotations

import time

import numpy as np

import onesided_jax as osj

from .common import ADAPTIVE, Scaled, Tables, Task, counted, play
from .controls import DRD


def sweep(scaled: Scaled) -> list[Task]:
    """Splits one grid into halves, so that two processes share the work."""
    side, steps = scaled(8, 64), scaled(500, 100_000)
    halves = np.array_split(np.geomspace(1e-3, 1e-1, side), 2)
    return [
        Task(f"half {i + 1}", sweep_half, {"half": half, "side": side, "steps": steps})
        for i, half in enumerate(halves)
    ]


def sweep_half(half: np.ndarray, side: int, steps: int) -> Tables:
    began = time.perf_counter()
    grid = osj.grid(
        seeds=1,
        primal_learning_rate=half.tolist(),
        dual_learning_rate=np.geomspace(1e-2, 3, side).tolist(),
    )
    _, found = play(
        osj.games.carousel(),
        "amsgrad_eg_drd",
        ADAPTIVE | DRD,
        grid,
        steps=steps,
        every=steps // 10,
    )
    row = {"runs": len(grid), "steps": steps, "seconds": time.perf_counter() - began}
    row |= {"smallest rate": half.min(), "largest rate": half.max()}
    row["worst lhs/rhs of T1"] = found["T1"].worst_ratio.max()
    return {"sweep": [row | counted(found, ("C0", "C1", "T1"))]}
