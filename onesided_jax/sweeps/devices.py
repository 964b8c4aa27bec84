"""Blocks of runs on several devices at once: a thread for each device, the same code on all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax.players import Device, fixed_randomness
from onesided_jax.sweeps.engine import Carry, Program

__all__ = ["Crew"]


class Crew:
    """Advances the blocks of a cell, block ``i`` on device ``i % D``.

    A thread a device, because a CPU "device" computes in the thread that calls it. Every device is
    given the very same compiled program, rather than its share of a partitioned one, which XLA
    compiles slightly differently: so the number of devices changes no bit.
    """

    def __init__(
        self,
        program: Program,
        hyperparameters: Mapping[str, np.ndarray],
        blocks: Sequence[np.ndarray],
        steps: int,
        devices: Sequence[Device],
    ):
        self._program, self._steps, self._devices = program, steps, devices[: len(blocks)]
        self._parameters = [
            {name: self._on(i, jnp.asarray(v[block])) for name, v in hyperparameters.items()}
            for i, block in enumerate(blocks)
        ]
        self._double = jax.config.values["jax_enable_x64"]  # threads do not inherit settings
        self._pool = ThreadPoolExecutor(len(self._devices), thread_name_prefix="device")

    def place(self, carries: Sequence[Carry]) -> list[Carry]:
        """The blocks' carries, each on its device."""
        return [self._on(i, carry) for i, carry in enumerate(carries)]

    def start(self, carries: Sequence[Carry]) -> list[Any]:
        """Begins one chunk; `finish` takes what this returns. The carries are donated."""
        return [self._pool.submit(self._advance, d, carries) for d in range(len(self._devices))]

    def finish(self, started: list[Any]) -> tuple[list[Carry], list[Any]]:
        """Waits for a chunk: new carries, and copies ``(carry, metrics)`` of them for the host.

        The copies are there so that the carries can be donated to the next chunk at once.
        """
        results = [future.result() for future in started]
        count = len(self._parameters)
        ordered = [results[i % len(results)][i // len(results)] for i in range(count)]
        return [carry for carry, _ in ordered], [copies for _, copies in ordered]

    def _advance(self, d: int, carries: Sequence[Carry]) -> list[Any]:
        done = []
        with jax.enable_x64(self._double), fixed_randomness():
            for i in range(d, len(carries), len(self._devices)):
                carry, parameters = carries[i], self._parameters[i]
                advance = self._program.compile(carry, parameters, self._steps, self._devices[d])
                carry, metrics = advance(carry, parameters)
                done.append(jax.block_until_ready((carry, (_copy(carry), metrics))))
        return done

    def _on(self, i: int, tree: Any) -> Any:
        return jax.device_put(tree, self._devices[i % len(self._devices)])

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: Any) -> None:
        self._pool.shutdown(wait=True)


@jax.jit
def _copy(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)
