"""Measures this package on an accelerator, and saves the results job by job.

python -m benchmarks.accelerator [--minutes 12] [--out DIR] [--only facts,right,fast,science]
                                 [--data-dir DIR] [--tiny] [--summary]

Runs on the devices of ``jax.devices()``. A second call with the same ``--out`` does the remaining
jobs. ``--tiny`` shows in two minutes, also on a CPU, that everything works. ``--summary`` computes
nothing and writes the table of the results in ``--out``.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import onesided_jax as osj
from benchmarks.accelerator import facts, fast, results, right, science, table, work
from benchmarks.harness import ROOT

FOLDER = ROOT / "benchmarks" / "results"
SECTIONS = {"facts": facts, "right": right, "fast": fast, "science": science}
SHARES = {"facts": 1, "right": 3, "fast": 6, "science": 6}  # of the minutes; unused time passes on
LEAST = 5.0  # seconds that must be left to start a job


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    out = options.out or (
        FOLDER / "small" / "accelerator" if options.tiny else FOLDER / "accelerator"
    )
    if not options.summary:
        end = time.monotonic() + 60 * options.minutes
        try:
            device = work.probe()
            if device["platform"] == "cpu" and not options.tiny:
                raise ValueError(
                    "no accelerator: jax.devices() shows only CPUs; --tiny runs on them"
                )
            kept = results.Results(out, device, options.tiny)
        except (RuntimeError, ValueError) as error:
            print(error, file=sys.stderr)
            return 2
        data = None if options.data_dir is None else str(options.data_dir.resolve())
        with tempfile.TemporaryDirectory() as scratch:
            cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", scratch) if options.tiny else None
            context = work.Context(
                options.tiny, device["platform"], data, str(out.resolve()), cache
            )
            measure(options.only, context, kept, end)
        print(table.text(table.lines(kept.content)))
        print(kept.path)
    for sentence in results.too_much(out):
        print(f"cannot send back all results: {sentence}", file=sys.stderr)
    if not options.tiny:
        print(table.write(out))
    return 0


def measure(names: Sequence[str], context: work.Context, kept: results.Results, end: float) -> None:
    """Runs the sections in order, each with a share of the remaining time."""
    for i, name in enumerate(names):
        jobs = SECTIONS[name].jobs(context)
        share = SHARES[name] / sum(SHARES[other] for other in names[i:])
        now = time.monotonic()
        until = now + share * max(0.0, end - now)
        print(f"{name}: {max(0.0, until - now):.0f} s", flush=True)
        for job in jobs:
            left = until - time.monotonic()
            if kept.finished(name, job.name):
                print(f"  {job.name}: already done", flush=True)
            elif left < LEAST:
                print(f"  {job.name}: no time left; call again", flush=True)
            else:
                done = kept.rows(name, job.name)
                outcome = work.run(name, job, context, done, left)
                kept.keep(name, job.name, outcome)
                told = outcome.problem or f"{outcome.seconds:.0f} s"
                print(f"  {job.name}: {told}", flush=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accelerator", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--minutes", type=float, default=12.0, help="total time; default 12")
    parser.add_argument("--out", type=Path, help="folder for the results")
    parser.add_argument("--only", default=",".join(SECTIONS), help="comma-separated sections")
    parser.add_argument("--data-dir", type=Path, help="folder with MNIST's official files")
    parser.add_argument("--tiny", action="store_true", help="only show that everything works")
    parser.add_argument("--summary", action="store_true", help="only write the table of results")
    options = parser.parse_args(arguments)
    options.only = [name.strip() for name in options.only.split(",")]
    for name in options.only:
        if name not in SECTIONS:
            near = difflib.get_close_matches(name, SECTIONS, n=1, cutoff=0.0)[0]
            parser.error(
                f"--only {name!r}: expected some of {', '.join(SECTIONS)} (did you mean {near!r}?)"
            )
    if not options.minutes > 0:
        parser.error(f"--minutes {options.minutes:g}: expected a number above 0, such as 12")
    if options.data_dir is not None:
        try:
            osj.datasets.load("mnist", data_dir=options.data_dir)
        except (OSError, ValueError) as error:
            parser.error(f"--data-dir: {error}")
    return options


if __name__ == "__main__":
    sys.exit(main())
