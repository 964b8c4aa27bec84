"""Jobs of an experiment: they resume, end in time, keep the ledger, and write tables."""

from __future__ import annotations

import argparse
import contextlib
import csv
import datetime
import io
import itertools
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from _design import HERE, RESULTS, SCALES

import onesided_jax as osj
from onesided_jax.runs import Run, open_run
from onesided_jax.runs._words import write_bytes_atomically

UNFINISHED = 3  # exit code: the same command goes on
TIME_IS_OVER = "time is over"

Row = dict[str, Any]
Rows = Mapping[str, Sequence[Mapping[str, str]]]  # of tables, by arm


class UnfinishedError(Exception):
    """What is left cannot be done now; everything is saved."""


class Job:
    """One call of an experiment: where it writes, and how long it may take."""

    def __init__(self, name: str, doc: str, arguments: Sequence[str] | None = None):
        parser = argparse.ArgumentParser(prog=f"python experiments/{name}.py", description=doc)
        parser.add_argument("--scale", choices=tuple(SCALES), default="paper")
        parser.add_argument("--minutes", type=float, default=60.0, help="of this job, at most")
        parser.add_argument("--runs", type=Path, help="where checkpoints are, and go")
        parser.add_argument("--out", type=Path, help="folder of the results")
        parser.add_argument(
            "--cifar10",
            default="cifar10",
            help="its data set: official files, or npz:PATH with a part of them",
        )
        parser.add_argument(
            "--draw", action="store_true", help="only verdicts and figures, from what was measured"
        )
        options = parser.parse_args(arguments)
        self.name, self.scale_name, self.draw = name, options.scale, options.draw
        self.scale, self.cifar10 = SCALES[options.scale], options.cifar10
        self.runs = options.runs or HERE.parent / "runs" / "experiments" / options.scale
        self.out: Path = options.out or self.folder_of(name)
        self._began = time.monotonic()
        self._end = self._began + 60 * options.minutes

    def folder_of(self, name: str) -> Path:
        """Where an experiment of this scale has its results."""
        folder = RESULTS if self.scale_name == "paper" else self.runs / "results"
        return folder / name

    def time_is_over(self) -> bool:
        return time.monotonic() > self._end

    def check(self) -> None:
        """Ends the job between two pieces of work if its time is over."""
        if self.time_is_over():
            raise UnfinishedError(TIME_IS_OVER)

    def say(self, text: str) -> None:
        print(f"[{(time.monotonic() - self._began) / 60:5.1f} min] {text}", flush=True)

    def train(self, wanted: osj.Recipe) -> Run:
        """Trains a recipe, or what is left of it.

        Raises:
          UnfinishedError: if the job's time ends before.
        """
        path, said = self.runs / wanted.name, dict[str, float]()

        def done() -> bool:
            return path.exists() and open_run(path).finished()

        def on_chunk(label: str, progress: Any) -> None:
            if progress.step == progress.steps or time.monotonic() - said.get(label, 0) > 60:
                said[label] = time.monotonic()
                self.say(f"{wanted.name}/{label}: step {progress.step} of {progress.steps}")

        if not done():
            osj.run(wanted, path, on_chunk=on_chunk, stop=self.time_is_over)
        if not done():
            raise UnfinishedError(TIME_IS_OVER)
        return open_run(path)

    def go(self, work: Callable[[Job], None], conclude: Callable[[Job], None]) -> int:
        """Does the work, concludes from all that is measured, notes the job in the ledger.

        Returns:
          The exit code.
        """
        with contextlib.suppress(RuntimeError):  # JAX has been computing: called from a program
            osj.configure_cpu()
        self.out.mkdir(parents=True, exist_ok=True)
        code, what = 0, "complete"
        if not self.draw:
            try:
                work(self)
            except UnfinishedError as error:
                code, what = UNFINISHED, "to be continued"
                self.say(f"{error}; the same command goes on from here")
            self._note(what)
        conclude(self)
        return code

    def _note(self, what: str) -> None:
        ledger = (RESULTS if self.scale_name == "paper" else self.out) / "ledger.csv"
        row = {
            "ended": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
            "command": shlex.join(["python", f"experiments/{self.name}.py", *sys.argv[1:]])
            if Path(sys.argv[0]).stem == self.name
            else f"experiments/{self.name}.py",
            "seconds": round(time.monotonic() - self._began),
            "cores": os.cpu_count(),
            "outcome": what,
            **{name: version(name) for name in ("onesided-jax", "jax", "optax", "flax")},
        }
        new = not ledger.exists()
        with ledger.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)

    def tables(self, of_data: Mapping[str, Mapping[str, Sequence[Row]]]) -> None:
        """Writes tables by name, those of all data sets below each other; none that is empty."""
        for name in dict.fromkeys(itertools.chain.from_iterable(of_data.values())):
            parts = ((data, tables.get(name, ())) for data, tables in of_data.items())
            if rows := [{"data": data, **row} for data, part in parts for row in part]:
                self.table(name, rows)

    def table(self, name: str, rows: Iterable[Row]) -> None:
        """Writes a table; numbers with five digits."""
        write_table(self.out / f"{name}.csv", list(rows))


def write_table(path: Path, rows: Sequence[Row], digits: int = 5) -> None:
    """A table that is there is complete; columns in order of appearance."""
    text = io.StringIO(newline="")
    columns = dict.fromkeys(itertools.chain.from_iterable(rows))
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _short(v, digits) for k, v in row.items()} for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, text.getvalue().encode())


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _short(value: Any, digits: int) -> Any:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return f"{float(value):.{digits}g}" if isinstance(value, float | np.floating) else value


def grouped(
    rows: Iterable[Mapping[str, str]], *columns: str
) -> dict[tuple[str, ...], list[Mapping[str, str]]]:
    """Rows by the values of some columns, in order of appearance."""
    found: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in rows:
        found.setdefault(tuple(row[column] for column in columns), []).append(row)
    return found
