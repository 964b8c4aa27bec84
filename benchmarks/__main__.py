"""Runs benchmark suites and writes their results, a table and a figure.

python -m benchmarks [SUITE ...] [--scale small|full] [--rounds N] [--out benchmarks/results]

Without names, all suites run, in the order of ``--help``. ``--scale small`` shows in two or three
minutes that everything works. Its ratios mean nothing; they go to ``benchmarks/results/small``.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from benchmarks import harness, summary
from benchmarks.suites import SUITES

RESULTS = Path(__file__).parent / "results"
ROUNDS = {"small": 2, "full": 7}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=(__doc__ or "").splitlines()[0],
    )
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help=f"any of {', '.join(SUITES)}; default: all"
    )
    parser.add_argument("--scale", choices=tuple(ROUNDS), default="full")
    parser.add_argument("--rounds", type=int, help=f"interleaved repeats, default {ROUNDS}")
    parser.add_argument("--out", type=Path, help="folder for the results")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.suites if name not in SUITES]
    if unknown:
        parser.error(f"unknown suite {unknown[0]!r}: expected some of {', '.join(SUITES)}")
    rounds = ROUNDS[options.scale] if options.rounds is None else options.rounds
    if rounds < 1:
        parser.error(f"--rounds {rounds}: expected at least 1")
    scale = harness.Scale(options.scale, rounds)
    folder = options.out or (RESULTS / "small" if scale.small else RESULTS)
    failed = False
    for name in options.suites or SUITES:
        print(f"{name}:", flush=True)
        start = time.perf_counter()
        try:
            facts = harness.machine()
            result = importlib.import_module(SUITES[name]).run(scale, folder)
        except ImportError as error:
            print(f"  {name} was left out: {error}", file=sys.stderr, flush=True)
            failed = True
            continue
        wall = time.perf_counter() - start
        harness.write_json(
            folder / f"{name}.json", harness.to_json(name, scale, result, facts, wall)
        )
        for row in result.rows:
            low, high = (summary.number(q) for q in row.quartiles)
            goal = "" if row.goal is None else f"  goal {summary.goal_text(row._asdict())}"
            told = f"{row.what} / {row.against}: {summary.number(row.ratio)} [{low}, {high}]{goal}"
            print(f"  {told}", flush=True)
        print(f"  {wall:.0f} s", flush=True)
    for path in summary.write(folder, list(SUITES)):
        print(path)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
