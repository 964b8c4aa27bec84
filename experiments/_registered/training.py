"""Training in pieces that may be cut off and begun again, and the ledger of all of them."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

import onesided_jax as osj
from _registered.design import ARMS, Scale
from onesided_jax.theory import minty_stream

TWINS = {"A": 1, "B": 2}


class OutOfTimeError(Exception):
    """The job's minutes are used up; the same command goes on."""


@contextlib.contextmanager
def entry(ledger: Path, what: str) -> Iterator[dict[str, Any]]:
    """A line of JSON for what is done inside: command, seconds, cores, device."""
    began, facts = time.monotonic(), {}
    try:
        yield facts
    finally:
        device = jax.devices()[0]
        line = {
            "what": what,
            **facts,
            "seconds": round(time.monotonic() - began, 1),
            "command": " ".join(["python", "experiments/registered.py", *sys.argv[1:]]),
            "cores": len(os.sched_getaffinity(0)),
            "device": f"{len(jax.devices())} x {device.device_kind}",
            **{package: version(package) for package in ("jax", "jaxlib")},
        }
        with ledger.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def train(
    game: osj.Game,
    arm: str,
    seeds: tuple[int, int],
    folder: Path,
    scale: Scale,
    *,
    until: float = np.inf,
    ledger: Path,
) -> osj.SweepResult:
    """Trains an arm into its folder, or goes on from what is there.

    Raises:
      OutOfTimeError: at the first checkpoint after ``time.monotonic()`` has reached ``until``.
    """
    chosen = ARMS[arm]
    observers = {"minty": minty_stream(*chosen.method)} if chosen.method else None
    rates = dict.fromkeys(("primal_learning_rate", "dual_learning_rate"), chosen.rate)

    with entry(ledger, folder.name) as facts:

        def on_chunk(progress: Any) -> None:
            facts.setdefault("from_step", progress.step - scale.every)
            facts["to_step"] = progress.step
            print(f"{folder.name}: step {progress.step}, {progress.seconds:.1f} s", flush=True)
            if time.monotonic() >= until and progress.step < scale.steps:
                raise OutOfTimeError(f"{folder.name}: step {progress.step} of {scale.steps}")

        return osj.sweep(
            game,
            chosen.make(scale),
            osj.grid(seeds=np.arange(*seeds).tolist(), **rates),
            steps=scale.steps,
            checkpoint_every=scale.every,
            record_every=scale.every,
            out=folder,
            observers=observers,
            on_chunk=on_chunk,
        )


def fork(game: osj.Game, folder: Path, twin: str, scale: Scale) -> dict[str, np.ndarray]:
    """Continues finished runs by a quarter under other minibatches: claim 3's twins.

    Returns:
      Checkpoints of both players, flat, ``[R, rows, n]``; kept in ``twin-A.npz``, ``twin-B.npz``.
    """
    path = folder / f"twin-{twin}.npz"
    if path.exists():
        with np.load(path) as stored:
            return dict(stored)
    arm = ARMS["alternating_adam"]
    found = osj.restore(folder, "sweep", game=game, make_optimizer=arm.make(scale))
    keys = jax.vmap(lambda key: jax.random.fold_in(key, TWINS[twin]))(found.state.key)
    state, rows = found.state._replace(key=keys), []
    advance = _advance(found.step, scale.twin_steps // scale.rows, len(keys))
    for row in range(scale.rows):
        state = advance(state, found.hyperparameters, game.data)
        if twin == "B" or row == scale.rows - 1:
            rows.append([np.asarray(jax.vmap(flat)(player)) for player in state.players])
    primal, dual = (np.stack(player, axis=1) for player in zip(*rows, strict=True))
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, primal=primal, dual=dual)
    temporary.replace(path)
    return {"primal": primal, "dual": dual}


def flat(tree: Any) -> jax.Array:
    """A player as one vector."""
    return ravel_pytree(tree)[0]


def _advance(step: Any, steps: int, runs: int) -> Any:
    """``(state, hyperparameters, data) -> state`` after some steps, runs shared by the devices."""

    def some(state: Any, hyperparameters: Any, data: Any) -> Any:
        def one(state: Any, _: None) -> tuple[Any, None]:
            return jax.vmap(lambda s, h: step(s, h, data)[0])(state, hyperparameters), None

        return jax.lax.scan(one, state, length=steps)[0]

    devices = jax.devices()
    if runs % len(devices):
        return jax.jit(some)
    mesh = jax.sharding.Mesh(np.array(devices), ("runs",))
    split, whole = jax.sharding.PartitionSpec("runs"), jax.sharding.PartitionSpec()
    specs: Any = {"in_specs": (split, split, whole), "out_specs": split, "check_vma": False}
    return jax.jit(jax.shard_map(some, mesh=mesh, **specs))
