"""One cell of a sweep: its runs from where they are to the last step, in chunks."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax import processes
from onesided_jax.games import Game
from onesided_jax.players import Device, keys_like
from onesided_jax.runs import (
    CheckpointStore,
    DamagedCheckpointError,
    latest_valid,
    pack,
    read_metrics,
    unpack,
)
from onesided_jax.sweeps.devices import Crew
from onesided_jax.sweeps.engine import (
    METRICS,
    Carry,
    Observer,
    Program,
    named_observers,
    program,
)
from onesided_jax.sweeps.memory import OutOfMemoryError, is_out_of_memory
from onesided_jax.sweeps.result import Checkpoint, Progress, StoredCheckpoints, SweepResult
from onesided_jax.sweeps.strategy import (
    Strategy,
    abstract_carry,
    blocks_of,
    choose_together,
    start,
)
from onesided_jax.sweeps.train import MakeOptimizer, TrainState
from onesided_jax.sweeps.writer import Writer

__all__ = ["run_cell"]


def run_cell(
    game: Game,
    make_optimizer: MakeOptimizer,
    *,
    seeds: np.ndarray,
    hyperparameters: dict[str, np.ndarray],
    steps: int,
    checkpoint_every: int,
    record_every: int,
    store: CheckpointStore | None,
    observers: Mapping[str, Observer | tuple] | None = None,
    on_chunk: Callable[[Progress], None] | None = None,
    on_strategy: Callable[[Strategy], object] = lambda strategy: None,
    on_damage: Callable[[str], None] = lambda message: None,
    independent_samples: bool = True,
    width: int | None = None,
    devices: Sequence[Device] | None = None,
    stop: Callable[[], object] = lambda: False,
    collect: bool = True,
) -> SweepResult | None:
    """Runs or continues one cell to its last step, or to where ``stop`` says so.

    Of several processes each has as many blocks of ``width`` runs as any other, in the order of the
    runs; where they do not divide, the last ones repeat blocks instead of having none. All are
    given the same arguments and return the same.

    Memory that runs out before the first step of any run has been saved halves the width; later
    the width is part of what the bits depend on, and a ``MemoryError`` ends the sweep.

    See :func:`sweep` and :func:`run` for the arguments. Without ``collect`` there is no result:
    metrics are stored, but not kept in memory, where many steps of many runs would fill it.
    """
    named = named_observers(observers)
    compiled = program(
        game.sample, game.field, game.init, make_optimizer, named, independent_samples, record_every
    )
    like = _stored(abstract_carry(compiled, seeds, hyperparameters, len(seeds))[0])
    found = _find(store, like, on_damage)
    if found is not None and collect:
        assert store is not None
        shape = (len(seeds), checkpoint_every // record_every)
        segments = read_metrics(store, found.step, checkpoint_every, shape, on_damage)
        found = found._replace(segments=segments)
    while True:
        try:
            strategy = choose_together(
                compiled,
                seeds,
                hyperparameters,
                steps=steps,
                chunk=checkpoint_every,
                record_every=record_every,
                devices=jax.local_devices() if devices is None else devices,
                width=width,
            )
            width = strategy.width
            on_strategy(strategy)
            return _advance(
                compiled,
                strategy,
                found,
                like,
                seeds=seeds,
                hyperparameters=hyperparameters,
                steps=steps,
                every=checkpoint_every,
                store=store,
                on_chunk=on_chunk,
                on_damage=on_damage,
                stop=stop,
                collect=collect,
            )
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            tried = len(seeds) if width is None else min(width, len(seeds))
            step = getattr(error, "step", 0 if found is None else found.step)
            if step > 0 or tried == 1:
                raise
            width, found = tried // 2, None
            on_damage(f"{tried} runs at a time need more memory than there is: trying {width}")


class _Found(NamedTuple):
    """Where a cell is continued: an undamaged checkpoint, and the metrics up to it."""

    step: int
    carry: Carry
    seconds: float
    segments: Sequence[dict[str, np.ndarray]] = ()


def _find(
    store: CheckpointStore | None,
    like: Mapping[str, Any],
    on_damage: Callable[[str], None],
) -> _Found | None:
    """The newest undamaged checkpoint, if there is one."""
    if store is None:
        return None
    arrays = None

    def look() -> tuple[int | None, list[str]]:
        nonlocal arrays
        latest, damaged = latest_valid(store)
        step, arrays = (None, None) if latest is None else latest
        return step, damaged

    step, damaged = processes.first(look)
    what = "beginning again" if step is None else f"continuing from step {step}"
    for message in damaged:
        on_damage(f"{message}; {what}")
    if step is None:
        return None
    arrays = processes.together(lambda: arrays or store.read(step))
    try:
        carry = _carry(unpack(arrays, like))
    except DamagedCheckpointError as error:
        raise ValueError(
            f"{str(store.path / str(step))!r} is whole, but it was written for another game, "
            f"optimizer or version of onesided-jax (see manifest.json): {error}"
        ) from None
    return _Found(step, carry, store.info(step)["seconds"])


def _advance(
    compiled: Program,
    strategy: Strategy,
    found: _Found | None,
    like: Mapping[str, Any],
    *,
    seeds: np.ndarray,
    hyperparameters: dict[str, np.ndarray],
    steps: int,
    every: int,
    store: CheckpointStore | None,
    on_chunk: Callable[[Progress], None] | None,
    on_damage: Callable[[str], None],
    stop: Callable[[], object],
    collect: bool,
) -> SweepResult | None:
    """Chunk after chunk, each stored while the next one computes."""
    runs, blocks = len(seeds), _share(blocks_of(len(seeds), strategy.width))
    alone = processes.count() == 1
    rows = runs if alone else len(blocks) * strategy.width
    checkpoints: dict[int, Checkpoint] = {}
    done, segments, seconds = (
        (0, [], 0.0) if found is None else (found.step, list(found.segments), found.seconds)
    )

    def everyones(tree):
        return tree if alone else jax.tree.map(lambda a: a[:runs], processes.gather(tree))

    def keep(step, carry, metrics):
        stored = _stored(carry)
        if store is None:
            kept = everyones(tuple(stored[name] for name in Checkpoint._fields))
            checkpoints[step] = Checkpoint(*kept)
        else:
            info = {"seconds": seconds, "runs": runs}
            writer.submit(step, pack({**stored, "metrics": metrics}), info)

    def begin(carries):
        """The next chunk, unless there is none or somebody wants to stop."""
        if done == steps or processes.highest(bool(stop())):
            return None
        return crew.start(carries)

    with (
        Writer(store, on_damage) as writer,
        Crew(compiled, hyperparameters, blocks, every, strategy.devices) as crew,
    ):
        try:
            if found is None:
                carries = [start(compiled, seeds, hyperparameters, block) for block in blocks]
                keep(0, _gather(carries, rows), {})
            else:
                carries = [_take(found.carry, block) for block in blocks]
            carries, began = crew.place(carries), time.perf_counter()
            computing = begin(carries)
            while computing is not None:
                carries, copies = processes.together(functools.partial(crew.finish, computing))
                done += every
                # The devices compute the next chunk while the host fetches and stores this one.
                computing = begin(carries)
                carry, metrics = _gather(copies, rows)
                now = time.perf_counter()
                elapsed, began = now - began, now
                seconds += elapsed
                keep(done, carry, metrics)
                metrics, diverged_at = everyones((metrics, carry.diverged_at))
                if collect:
                    segments.append(metrics)
                if on_chunk is not None:
                    diverged = int((diverged_at >= 0).sum())
                    on_chunk(Progress(done, steps, runs, diverged, elapsed, metrics))
            final = _gather(carries, rows)
        except Exception as error:
            if is_out_of_memory(error):
                raise OutOfMemoryError(done, strategy.width, error) from error
            raise
    if not collect:
        return None
    players, state, diverged_at = everyones(
        (final.train.players, final.train.state, final.diverged_at)
    )
    empty = np.zeros((runs, 0), np.float32)
    return SweepResult(
        players=players,
        state=state,
        metrics={k: np.concatenate([empty, *(s[k] for s in segments)], axis=1) for k in METRICS},
        checkpoints=checkpoints if store is None else StoredCheckpoints(store, like),
        hyperparameters=hyperparameters,
        seeds=seeds,
        diverged_at=diverged_at,
    )


def _share(blocks: list[np.ndarray]) -> list[np.ndarray]:
    """The blocks of this process: as many as every other has, the first ones again at the end."""
    each = math.ceil(len(blocks) / processes.count())
    first = processes.index() * each
    return [blocks[i % len(blocks)] for i in range(first, first + each)]


def _stored(carry: Carry) -> dict[str, Any]:
    """The carry as it lies in a checkpoint."""
    return {
        **carry.train._asdict(),
        "observers": carry.observers,
        "diverged_at": carry.diverged_at,
    }


def _carry(stored: Mapping[str, Any]) -> Carry:
    train = TrainState(*(stored[name] for name in TrainState._fields))
    return Carry(train, stored["observers"], stored["diverged_at"])


def _gather(blocks: list[Any], runs: int) -> Any:
    """Blocks of runs as one host tree, the padding of the last block cut off; always a copy."""

    def join(*leaves):
        if jax.dtypes.issubdtype(leaves[0].dtype, jax.dtypes.prng_key):
            data = np.concatenate([np.asarray(jax.random.key_data(leaf)) for leaf in leaves])
            return keys_like(data[:runs], leaves[0])
        return np.concatenate([np.asarray(leaf) for leaf in leaves])[:runs]

    return jax.tree.map(join, *blocks)


def _take(tree: Any, rows: np.ndarray) -> Any:
    def take(leaf):
        return jnp.asarray(leaf[rows]) if isinstance(leaf, np.ndarray) else leaf[rows]

    return jax.tree.map(take, tree)
