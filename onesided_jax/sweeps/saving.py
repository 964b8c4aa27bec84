"""Trains a cell in a run directory: finds where to continue, and saves every chunk."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from onesided_jax import processes
from onesided_jax.players import Device
from onesided_jax.runs import (
    CheckpointStore,
    DamagedCheckpointError,
    Run,
    latest_valid,
    pack,
    record,
    unpack,
)
from onesided_jax.sweeps.driver import Chunk, Start, train
from onesided_jax.sweeps.engine import Carry, Plan
from onesided_jax.sweeps.layout import abstract_carry, choose_layout
from onesided_jax.sweeps.step import TrainState

__all__ = ["stored_like", "stored_tree", "train_stored"]


def train_stored(
    plan: Plan,
    run: Run,
    label: str,
    *,
    width: int | None = None,
    devices: Sequence[Device] | None = None,
    on_damage: Callable[[str], None],
    stop: Callable[[], object] = lambda: False,
) -> tuple[int, Generator[Chunk]]:
    """Begins or continues a cell of a run directory that is locked for writing.

    ``width`` is ignored if a chunk has been saved, because rounding depends on it. ``on_damage`` is
    called with one sentence for each damaged checkpoint that is skipped. See `driver.train` for
    ``stop``, and `choose_layout` for ``devices``.

    Returns:
      The step that the cell continues from, and the chunks after it; each is saved when it is
      yielded.
    """
    store = run.store(label)
    start = _find_start(store, stored_like(plan), on_damage)
    step = 0 if start is None else start.step
    if step > 0:
        width = run.manifest["widths"].get(label, width)
    layout = choose_layout(plan, width=width, devices=devices)
    record(
        run,
        widths={**run.manifest["widths"], label: layout.width},
        layouts={**run.manifest.get("layouts", {}), label: {"devices": len(layout.devices)}},
    )
    seconds = 0.0 if start is None else store.info(step)["seconds"]
    chunks = train(plan, layout, start=start, stop=stop)
    return step, _saved(chunks, store, len(plan.runs), seconds)


def stored_tree(carry: Carry) -> dict[str, Any]:
    """The arrays of a checkpoint, from a carry."""
    return {
        **carry.train._asdict(),
        "observers": carry.observers,
        "diverged_at": carry.diverged_at,
    }


def stored_like(plan: Plan) -> dict[str, Any]:
    """Shapes and dtypes of a cell's checkpoints."""
    names = tuple(plan.runs.hyperparameters)
    return stored_tree(abstract_carry(plan.training, names, len(plan.runs))[0])


def _find_start(
    store: CheckpointStore, like: Mapping[str, Any], on_damage: Callable[[str], None]
) -> Start | None:
    """The newest undamaged checkpoint of a cell, or ``None`` if there is none."""
    arrays = None

    def look() -> tuple[int | None, list[str]]:
        nonlocal arrays
        latest, damaged = latest_valid(store)
        step, arrays = (None, None) if latest is None else latest
        return step, damaged

    step, damaged = processes.first(look)
    outcome = "beginning again" if step is None else f"continuing from step {step}"
    for message in damaged:
        on_damage(f"{message}; {outcome}")
    if step is None:
        return None
    arrays = processes.together(lambda: arrays or store.read(step))
    try:
        stored = unpack(arrays, like)
    except DamagedCheckpointError as error:
        raise ValueError(
            f"{str(store.path / str(step))!r} holds another run, with another game, optimizer, "
            f"precision or version of onesided-jax (see manifest.json): {error}"
        ) from None
    train_state = TrainState(*(stored[name] for name in TrainState._fields))
    return Start(step, Carry(train_state, stored["observers"], stored["diverged_at"]))


def _saved(
    chunks: Iterable[Chunk], store: CheckpointStore, runs: int, seconds: float
) -> Generator[Chunk]:
    """Yields chunks, and writes each as a checkpoint while the next one is computed.

    Several processes write a checkpoint together, so they yield a chunk after it is written. A
    failed write raises at the next chunk, or at the end.
    """

    def write(chunk: Chunk, info: dict[str, Any]) -> None:
        arrays = pack({**stored_tree(chunk.carry), "metrics": chunk.metrics}, rows=runs)
        store.write(chunk.step, arrays, info)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint") as pool:
        writing = None
        for chunk in chunks:
            if writing is not None:
                writing.result()
            seconds += chunk.seconds
            writing = pool.submit(write, chunk, {"seconds": seconds, "runs": runs})
            if processes.count() > 1:
                writing.result()
            yield chunk
        if writing is not None:
            writing.result()
