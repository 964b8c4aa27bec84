"""Passes chunks to loggers during training."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from onesided_jax import processes
from onesided_jax.errors import nearest
from onesided_jax.runs import Run
from onesided_jax.sweeps.driver import Chunk
from onesided_jax.sweeps.engine import Plan
from onesided_jax.sweeps.loggers import Jsonl, Logger, Records, TensorBoard, WandB

__all__ = ["as_loggers", "logging_to"]

_KINDS: dict[str, tuple[Callable[[str], Logger], str]] = {
    "tensorboard": (TensorBoard, "DIR"),
    "wandb": (WandB, "PROJECT"),
    "jsonl": (Jsonl, "FILE"),
}


class _Function(NamedTuple):
    """A function as a logger."""

    log: Callable[[Records], object]

    def close(self) -> None:
        """Nothing to close."""


def as_loggers(loggers: Any) -> list[Logger]:
    """Makes loggers from one or many objects, functions or strings such as ``"jsonl:log.jsonl"``.

    Raises:
      ValueError: for a string of another form.
      TypeError: for an object that is not a logger.
      ImportError: for a logger whose extra is not installed.

    Example:
      >>> as_loggers("jsonl:log.jsonl")[0].path.name
      'log.jsonl'
      >>> as_loggers("tensorbord:logs")
      Traceback (most recent call last):
      ...
      ValueError: loggers='tensorbord:logs': expected tensorboard:DIR, ... (did you mean ...
    """
    many = isinstance(loggers, Sequence) and not isinstance(loggers, str | _Function)
    return [_as_logger(one) for one in (loggers if many else [loggers])]


def _as_logger(given: Any) -> Any:
    if isinstance(given, str):
        kind, _, target = given.partition(":")
        if kind not in _KINDS or not target:
            forms = ", ".join(f"{name}:{what}" for name, (_, what) in _KINDS.items())
            raise ValueError(f"loggers={given!r}: expected {forms}{nearest(kind, _KINDS)}")
        return _KINDS[kind][0](target)
    methods = [callable(getattr(given, name, None)) for name in ("log", "close")]
    if all(methods) and not isinstance(given, type):
        return given
    if isinstance(given, type) or not callable(given):
        raise TypeError(
            f"loggers holds {given!r}: expected a function of records, an object with "
            "log(records) and close(), or a string such as 'jsonl:log.jsonl'"
        )
    return _Function(given)


@contextlib.contextmanager
def logging_to(
    loggers: Sequence[Logger], run: Run | None, tell: Callable[[str], object]
) -> Iterator[Callable[[str, Plan, Chunk], None]]:
    """Yields a function that logs a chunk, and closes the loggers at the end.

    With several processes, only the first one logs. ``run`` is ``None`` for a sweep in memory.
    ``tell`` is called once with one sentence for each logger that fails.
    """
    sweep = uuid.uuid4().hex if run is None else f"{run.path} {run.manifest['created']}"
    active, failed = (list(loggers) if processes.is_first() else []), set()

    def attempt(logger: Logger, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:
            if id(logger) not in failed:
                failed.add(id(logger))
                name = "a function" if isinstance(logger, _Function) else type(logger).__name__
                tell(f"the logger {name} failed, training continues: {error!r}")

    def log(cell: str, plan: Plan, chunk: Chunk) -> None:
        if not active or chunk.step == 0:
            return
        every = plan.training.record_every
        records = Records(
            sweep=sweep,
            cell=cell,
            seeds=plan.runs.seeds,
            hyperparameters=dict(plan.runs.hyperparameters),
            steps=np.arange(chunk.step - plan.checkpoint_every + every, chunk.step + 1, every),
            metrics=chunk.metrics,
            diverged_at=chunk.diverged_at,
        )
        for logger in active:
            attempt(logger, lambda logger=logger: logger.log(records))

    try:
        yield log
    finally:
        for logger in active:
            attempt(logger, logger.close)
