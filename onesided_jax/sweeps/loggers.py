"""Live logs: every run of a sweep is logged as its own run, after every chunk.

A logger is any object with ``log(records)`` and ``close()``, or a function of records::

    def note(records):
        for name, loss in zip(records.names, records.metrics["loss_primal"][:, -1]):
            file.write(f"{records.steps[-1]} {name} {loss}")


    osj.sweep(game, osj.adam, runs, steps=1000, checkpoint_every=100, loggers=[note])
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import struct
import time
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from onesided_jax.extras import need

__all__ = ["Jsonl", "Logger", "Records", "TensorBoard", "WandB"]


class Records(NamedTuple):
    """The records of a cell after a chunk; host arrays, ``R`` runs.

    Attributes:
      sweep: identifies the sweep; a resume keeps it.
      cell: the cell's label; ``"sweep"`` for `sweep`.
      seeds: ``uint32[R]``.
      hyperparameters: name to ``float64[R]``.
      steps: ``int[records]``, the steps of the records of this chunk.
      metrics: name to ``float[R, records]``; NaN after a run has diverged.
      diverged_at: ``int32[R]``, the step at which a run turned non-finite, or -1.
    """

    sweep: str
    cell: str
    seeds: np.ndarray
    hyperparameters: dict[str, np.ndarray]
    steps: np.ndarray
    metrics: dict[str, np.ndarray]
    diverged_at: np.ndarray

    @property
    def names(self) -> list[str]:
        """A name for each run, such as ``"adam/run3-seed1"``."""
        return [f"{self.cell}/run{run}-seed{seed}" for run, seed in enumerate(self.seeds)]

    def settings(self, run: int) -> dict[str, float]:
        """The hyperparameters of one run."""
        return {name: float(values[run]) for name, values in self.hyperparameters.items()}

    def last(self, run: int) -> dict[str, float]:
        """The last record of one run, without non-finite metrics."""
        found = {name: float(values[run, -1]) for name, values in self.metrics.items()}
        return {name: value for name, value in found.items() if np.isfinite(value)}


class Logger(Protocol):
    """Receives the records of every chunk, in order.

    If a logger fails, it is reported once and training continues.
    """

    def log(self, records: Records) -> None:
        """Logs one chunk of one cell."""

    def close(self) -> None:
        """Ends the log; called once after training."""


class Jsonl:
    """Appends one JSON line per run and chunk, with the last record of the chunk.

    A line has ``sweep``, ``run``, ``cell``, ``seed``, ``hyperparameters``, ``step``, ``metrics``
    (finite ones) and ``diverged_at``. A resumed sweep skips steps that the file already holds.

    Args:
      path: the file; its folder is created.

    Example:
      >>> import tempfile
      >>> import onesided_jax as osj
      >>> runs = osj.grid(seeds=2, primal_learning_rate=0.02, dual_learning_rate=0.2)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     log = osj.sweeps.Jsonl(f"{folder}/log.jsonl")
      ...     result = osj.sweep(osj.games.carousel(), osj.adam, runs, steps=4, loggers=[log])
      ...     len(log.path.read_text().splitlines())
      2
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._logged: dict[tuple[str, str], int] | None = None

    def log(self, records: Records) -> None:
        """Appends the lines of a chunk."""
        if self._logged is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._logged = _steps_in(self.path)
        step, lines = int(records.steps[-1]), []
        for run, name in enumerate(records.names):
            if self._logged.get((records.sweep, name), -1) >= step:
                continue
            line = {
                "sweep": records.sweep,
                "run": name,
                "cell": records.cell,
                "seed": int(records.seeds[run]),
                "hyperparameters": records.settings(run),
                "step": step,
                "metrics": records.last(run),
                "diverged_at": int(records.diverged_at[run]),
            }
            lines.append(json.dumps(line, allow_nan=False) + "\n")
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(lines))
        self._logged |= {(records.sweep, name): step for name in records.names}

    def close(self) -> None:
        """Drops the cached steps; the file itself is closed after every chunk."""
        self._logged = None


def _steps_in(path: Path) -> dict[tuple[str, str], int]:
    """Reads the last step of every run in a log, and removes an incomplete last line."""
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(path, len(whole))
    lines = map(json.loads, whole.splitlines())
    return {(line["sweep"], line["run"]): line["step"] for line in lines}


class TensorBoard:
    """Writes TensorBoard event files, one folder per run, with its hyperparameters.

    Each chunk adds one point per metric, from its last record. No file stays open between chunks.
    A resumed sweep begins new files, which make TensorBoard drop older points from that step on.

    Args:
      folder: a folder for this sweep only; ``tensorboard --logdir FOLDER`` shows it.

    Raises:
      ImportError: without tensorboardX (the extra ``tensorboard``).
    """

    def __init__(self, folder: str | os.PathLike[str]):
        need("tensorboard", "a TensorBoard log", "tensorboardX")
        self.folder = Path(folder)
        self._files: dict[str, Path] = {}

    def log(self, records: Records) -> None:
        """Appends a point to every run's file."""
        summary = _messages("summary").Summary
        step = int(records.steps[-1])
        for run, name in enumerate(records.names):
            values = records.last(run)
            events = [] if name in self._files else self._begin(records, run, name)
            points = [summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
            events.append({"step": step, "summary": summary(value=points)})
            with self._files[name].open("ab") as file:
                file.write(b"".join(_event(**event) for event in events))

    def _begin(self, records: Records, run: int, name: str) -> list[dict[str, Any]]:
        """The first events of a file: version, first step, hyperparameters."""
        from tensorboardX.summary import hparams

        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        self._files[name] = folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        settings = {"optimizer": records.cell, "seed": int(records.seeds[run])}
        experiment, start, _ = hparams({**settings, **records.settings(run)}, records.metrics)
        session = _messages("event").SessionLog
        return [
            {"file_version": "brain.Event:2"},
            {"step": int(records.steps[-1]), "session_log": session(status=session.START)},
            {"summary": experiment},
            {"summary": start},
        ]

    def close(self) -> None:
        """Ends the files; the next sweep begins new ones."""
        self._files.clear()


def _messages(kind: str) -> Any:
    """One of TensorBoard's protocol buffer modules."""
    return importlib.import_module(f"tensorboardX.proto.{kind}_pb2")


def _event(**fields: Any) -> bytes:
    """One event, framed as a TFRecord."""
    from tensorboardX.record_writer import masked_crc32c

    data = _messages("event").Event(wall_time=time.time(), **fields).SerializeToString()
    length = struct.pack("<Q", len(data))
    sums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return length + sums[0] + data + sums[1]


class WandB:
    """Logs each run as a run of Weights & Biases, grouped by cell, with its hyperparameters.

    ``WANDB_MODE=offline`` keeps the logs on this machine until ``wandb sync``. A resumed sweep
    continues the same W&B runs; W&B ignores steps that it already has.

    Args:
      project: the W&B project.
      **options: passed to ``wandb.init``, such as ``entity``, ``tags`` or ``dir``.

    Raises:
      ImportError: without wandb (the extra ``wandb``).
    """

    def __init__(self, project: str, **options: Any):
        need("wandb", "a W&B log", "wandb")
        self._options = {"project": project, **options}
        self._runs: dict[str, Any] = {}

    def log(self, records: Records) -> None:
        """Logs the last record of every run."""
        for run, name in enumerate(records.names):
            if name not in self._runs:
                self._runs[name] = self._begin(records, run, name)
            self._runs[name].log(records.last(run), step=int(records.steps[-1]))

    def _begin(self, records: Records, run: int, name: str) -> Any:
        import wandb

        config = {"optimizer": records.cell, "seed": int(records.seeds[run])}
        given: Any = {
            "name": name,
            "group": records.cell,
            "id": hashlib.sha256(f"{records.sweep} {name}".encode()).hexdigest()[:16],
            "resume": "allow",
            "reinit": "create_new",
            # Do not log the terminal and machine statistics: all runs of a sweep share them.
            "settings": wandb.Settings(console="off", x_disable_stats=True),
            "config": {**config, **records.settings(run)},
            **self._options,
        }
        return wandb.init(**given)

    def close(self) -> None:
        """Ends all runs."""
        while self._runs:
            self._runs.popitem()[1].finish()
