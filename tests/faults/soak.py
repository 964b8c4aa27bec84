"""Hours in minutes: a sweep with many checkpoints, and what its process holds on to meanwhile."""

from __future__ import annotations

import csv
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import onesided_jax as osj

from .workload import recipe

__all__ = ["FIELDS", "sweep", "trend"]

FIELDS = ("seconds", "megabytes", "open files", "threads", "checkpoints", "other files")
_STEPS = 2**31 - 2**31 % 1000  # more than there is time for


def sweep(
    out: str, samples: str, seconds: float, checkpoints: int, every: int, pause: float
) -> int:
    """A victim: sweeps for so many seconds and checkpoints, and samples itself.

    Args:
      out: the run directory.
      samples: a CSV file of :data:`FIELDS`.
      seconds: when to stop at the earliest, at the next checkpoint.
      checkpoints: how many there are to be by then; a busy machine takes longer.
      every: steps between checkpoints.
      pause: seconds between samples.
    """
    osj.configure_cpu()
    endless = recipe(
        steps=_STEPS - _STEPS % every,
        every=every,
        optimizers=[
            {
                "name": "adam",
                "axes": {"primal_learning_rate": [1e-4], "dual_learning_rate": [1e-4, 2e-4]},
            }
        ],
    )
    began, ended = time.monotonic(), threading.Event()
    path = Path(out)

    def watch() -> None:
        with Path(samples).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(FIELDS)
            while not ended.wait(pause):
                writer.writerow([round(time.monotonic() - began, 1), *_sample(path)])
                file.flush()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        osj.run(
            endless,
            path,
            stop=lambda: (
                time.monotonic() - began > seconds
                and len(list(path.glob("cells/*/checkpoints/[0-9]*"))) >= checkpoints
            ),
        )
    finally:
        ended.set()
        watcher.join()
    return 0


def _sample(out: Path) -> list[Any]:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    names = [p.name for p in out.glob("cells/*/checkpoints/*")]
    committed = sum(name.isdigit() for name in names)
    return [
        round(int(status["VmRSS"].split()[0]) / 1024, 1),
        len(list(Path("/proc/self/fd").iterdir())),
        int(status["Threads"]),
        committed,
        len(names) - committed,
    ]


def trend(samples: Path, out: Path) -> dict[str, Any]:
    """What grew: the last third of the samples against the third before it.

    Samples count from the second checkpoint on, or a slow start would be taken for growth. Their
    first third is left out: caches fill, and the allocator takes what it then keeps.
    """
    with samples.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["checkpoints"]) >= 2]
    columns = {name: np.array([float(row[name]) for row in rows]) for name in FIELDS}
    third = len(rows) // 3
    middle, last = slice(third, 2 * third), slice(2 * third, None)
    steps = sorted(int(p.name) for p in out.glob("cells/adam/checkpoints/[0-9]*"))
    sizes = [_bytes(out / "cells" / "adam" / "checkpoints" / str(step)) for step in steps[1:]]
    hours = (columns["seconds"][last].mean() - columns["seconds"][middle].mean()) / 3600
    growth = columns["megabytes"][last].mean() - columns["megabytes"][middle].mean()
    of_sizes = [float(np.mean(part)) for part in np.array_split(sizes, 3)]
    found = {
        "minutes": round(columns["seconds"][-1] / 60, 2),
        "checkpoints": len(steps),
        "seconds between checkpoints": round(columns["seconds"][-1] / max(len(steps) - 1, 1), 2),
        "megabytes": round(columns["megabytes"][last].mean(), 1),
        "megabytes grown": round(growth, 1),
        "megabytes per hour": round(growth / hours, 1),
        "open files": [int(columns["open files"][part].max()) for part in (middle, last)],
        "threads": [int(columns["threads"][part].max()) for part in (middle, last)],
        "bytes of a checkpoint": [round(of_sizes[1]), round(of_sizes[2])],
        "unfinished files at most": int(columns["other files"].max()),
    }
    return {k: v if isinstance(v, list | int) else float(v) for k, v in found.items()}


def _bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
