"""The cross-evaluated MVI matrix of a DCGAN: cost per entry, and its growth with the checkpoints.

An entry is ``<x_s - x*, grad_x f(x_s, y_t)>`` over one minibatch, a directional derivative of every
sample. It is compared with the obvious code, one entry after the other: the jitted field at
``(x_s, y_t)`` on the same minibatch, then an inner product.

Analysis and report of 10,000 runs are compared with those of 1,000 (`benchmarks.many_runs`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import onesided_jax as osj
from benchmarks import many_runs, ours
from benchmarks.harness import Row, Scale, SuiteResult, interleave, progress, ratio_row, spread
from onesided_jax.analysis.measure import make_probe

GROWTH = 1.1  # most time per entry of the large matrix over the small one: linear cost


def run(scale: Scale, folder: Path) -> SuiteResult:
    del folder
    width, batch, few, many, separate = scale.pick((8, 16, 2, 4, 2), (32, 64, 10, 30, 30))
    game = ours.dcgan_game(width, batch)
    keys = jax.random.split(jax.random.key(1), many)
    players, states = jax.device_get(jax.vmap(game.init)(keys))
    state = jax.tree.map(lambda leaf: leaf[0], states)
    target = jax.tree.map(lambda leaf: leaf[0], players.primal)
    probe = make_probe(game, samples=batch)

    def matrix(count: int) -> Any:
        primals, duals = jax.tree.map(lambda leaf: leaf[:count], players)
        return probe.cross(primals, duals, state, target)

    def per_entry(count: int) -> Callable[[], float]:
        def measure() -> float:
            start = time.perf_counter()
            matrix(count)  # returns NumPy arrays
            return (time.perf_counter() - start) / count**2

        return measure

    @jax.jit
    def entry(primal: Any, dual: Any, batch_of_key: Any) -> jax.Array:
        F, _ = game.field(osj.PrimalDual(primal, dual), state, batch_of_key)
        products = jax.tree.map(lambda g, x, c: jnp.vdot(g, x - c), F.primal, primal, target)
        return jnp.asarray(sum(jax.tree.leaves(products)))

    minibatch = game.sample(jax.random.key(2))

    def one_by_one() -> float:
        start = time.perf_counter()
        for i in range(separate):
            primal = jax.tree.map(lambda leaf: leaf[i % many], players.primal)  # noqa: B023
            dual = jax.tree.map(lambda leaf: leaf[-1 - i % many], players.dual)  # noqa: B023
            jax.block_until_ready(entry(primal, dual, minibatch))
        return (time.perf_counter() - start) / separate

    compiled = {}
    for count in (few, many):
        start = time.perf_counter()
        found = matrix(count)
        compiled[str(count)] = round(time.perf_counter() - start, 2)
        if not np.isfinite(found).all():
            raise AssertionError("the matrix is not finite")
    one_by_one()
    progress(f"first calls, compilation included: {compiled} s")
    with _Compilations() as compilations:
        measured = interleave(
            {f"{few}": per_entry(few), f"{many}": per_entry(many), "field": one_by_one},
            scale.rounds,
            "analysis",
        )
    if compilations.count:
        raise AssertionError(f"compiled {compilations.count} times while measuring")
    what = f"{many} x {many} MVI matrix of a DCGAN, time per entry"
    rows: list[Row] = [
        ratio_row(
            what, f"{few} x {few} matrix", measured[str(many)], measured[str(few)],
            goal=GROWTH, better="lower", note="nothing is compiled while measuring (checked)",
        ),
        ratio_row(
            what, "evaluations of the field, one by one", measured[str(many)], measured["field"],
            better="lower", note=f"{separate} of them, jitted, the same minibatch of {batch}",
        ),
    ]  # fmt: skip
    milliseconds = {name: spread([1e3 * v for v in values]) for name, values in measured.items()}
    details = {
        "sizes": {"width": width, "batch": batch, "rows": [few, many]},
        "milliseconds_per_entry": milliseconds,
        "seconds_of_first_call": compiled,
    }
    more, about = many_runs.rows(scale)
    return SuiteResult([*rows, *more], {**details, "many_runs": about})


class _Compilations:
    """Counts JAX's compilations in a block."""

    def __init__(self) -> None:
        self.count = 0

    def _listen(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        self.count += event == "/jax/core/compile/backend_compile_duration"

    def __enter__(self) -> _Compilations:
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, *error: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._listen)
