"""The results of a sweep, and its progress."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from onesided_jax.games import Game
from onesided_jax.players import ArrayTree, PrimalDual
from onesided_jax.runs import CheckpointStore, unpack

__all__ = ["Checkpoint", "Progress", "StoredCheckpoints", "SweepResult"]


class Checkpoint(NamedTuple):
    """The state of all runs at one step; host arrays with a leading run axis.

    Attributes:
      players: both players.
      state: the game's state, or ``()``.
      observers: name to accumulated state.
    """

    players: PrimalDual
    state: ArrayTree
    observers: dict[str, ArrayTree]


class SweepResult(NamedTuple):
    """The result of a sweep; every array has a leading run axis ``R``.

    Attributes:
      players: both players after the last step.
      state: the game's state after the last step, or ``()``.
      metrics: ``loss_primal``, ``loss_dual``, ``gradient_norm_primal``, ``gradient_norm_dual``
        (of the minibatch) and those in ``record``, each ``float[R, records]``; NaN after a run
        has diverged.
      checkpoints: step to :class:`Checkpoint`, ascending, from step 0.
      hyperparameters: name to ``float[R]``.
      seeds: ``int[R]``.
      diverged_at: ``int32[R]``, the step at which a run turned non-finite, or -1. A diverged run
        stays at its last finite state.
      game: the game.
      ema: the moving average of the primal player after the last step, or ``None`` without
        ``ema=``; for other steps see ``checkpoints[step].observers["ema"]``.
    """

    players: PrimalDual
    state: ArrayTree
    metrics: dict[str, np.ndarray]
    checkpoints: Mapping[int, Checkpoint]
    hyperparameters: dict[str, np.ndarray]
    seeds: np.ndarray
    diverged_at: np.ndarray
    game: Game
    ema: ArrayTree | None = None


class Progress(NamedTuple):
    """The argument of ``on_chunk``, after every chunk.

    Attributes:
      step: steps done by every run.
      steps: total steps.
      runs: number of runs.
      diverged: number of diverged runs.
      seconds: wall time of the chunk.
      metrics: metrics of the chunk as in :class:`SweepResult`, each ``float[R, records]``.
    """

    step: int
    steps: int
    runs: int
    diverged: int
    seconds: float
    metrics: dict[str, np.ndarray]


class StoredCheckpoints(Mapping[int, Checkpoint]):
    """Checkpoints on disk; each access reads and verifies one."""

    def __init__(self, store: CheckpointStore, like: Mapping[str, Any]):
        self._store, self._like = store, like

    def __getitem__(self, step: int) -> Checkpoint:
        if step not in self._store.steps():
            raise KeyError(step)
        like = {name: self._like[name] for name in Checkpoint._fields}
        return Checkpoint(**unpack(self._store.read(step), like))

    def __iter__(self) -> Iterator[int]:
        return iter(self._store.steps())

    def __len__(self) -> int:
        return len(self._store.steps())
