"""Runs one job in the process that `work.run` starts; the only argument is JSON."""

from __future__ import annotations

import importlib
import json
import sys

from benchmarks.accelerator.work import Context, emit


def main(argument: str) -> None:
    told = json.loads(argument)
    section = importlib.import_module(f"benchmarks.accelerator.{told['section']}")
    for row in section.work(told["job"], Context(**told["context"]), told["done"]):
        emit(row)


if __name__ == "__main__":
    main(sys.argv[1])
