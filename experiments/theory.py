"""The theory in numbers: bounds, separations, rates, controls and momentum, on small games.

Makes every table of docs/theory-measured, with our own optimizers, games and certificates, in
float64. Sections are independent; each writes its tables when it ends and is skipped next time.

    python experiments/theory.py                       # all sections: most of an hour, two cores
    python experiments/theory.py carousel controls     # only these sections
    python experiments/theory.py --scale small --out x --figure x/theory.svg   # in minutes
    python experiments/theory.py --draw                # only the figure, from the tables
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path

import jax
from _tables import write_table
from _theory.carousel import carousel
from _theory.common import Scaled, Tables, Task
from _theory.controls import controls
from _theory.figure import draw
from _theory.momentum import momentum
from _theory.noise import noise
from _theory.one_sided import one_sided
from _theory.rates import rates
from _theory.separation import separation
from _theory.sweep import sweep

from onesided_jax.report import svg_bytes

SECTIONS: dict[str, Callable[[Scaled], list[Task]]] = {
    "carousel": carousel,
    "separation": separation,
    "one_sided": one_sided,
    "controls": controls,
    "rates": rates,
    "momentum": momentum,
    "noise": noise,
    "sweep": sweep,
}


def set_up() -> None:
    jax.config.update("jax_enable_x64", True)


def timed(task: Task) -> tuple[Tables, float]:
    began = time.perf_counter()
    return task.run(**task.arguments), time.perf_counter() - began


def run_section(name: str, scale: str, pool: ProcessPoolExecutor) -> Tables:
    """Runs all arms of a section; rows keep the order of the arms."""
    tasks = SECTIONS[name](lambda small, paper: small if scale == "small" else paper)
    futures = {pool.submit(timed, task): task for task in tasks}
    for future in as_completed(futures):
        seconds = future.result()[1]
        print(f"{name:11} {futures[future].label:34} {seconds:7.1f} s", flush=True)
    tables: Tables = {}
    for future in futures:
        for table, rows in future.result()[0].items():
            tables.setdefault(table, []).extend(rows)
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--scale", choices=("small", "paper"), default="paper")
    parser.add_argument("--out", type=Path, default=Path("experiments/results/theory"))
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/theory.svg"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--force", action="store_true", help="also run finished sections")
    parser.add_argument("--draw", action="store_true", help="only draw the figure")
    arguments = parser.parse_args()
    for name in arguments.sections:
        if name not in SECTIONS:
            parser.error(f"unknown section {name!r}: expected some of {', '.join(SECTIONS)}")
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    log = out / "theory.json"
    done = json.loads(log.read_text()) if log.exists() else {}
    if not arguments.draw:
        wanted = [
            name
            for name in arguments.sections or SECTIONS
            if arguments.force
            or done.get(name, {}).get("scale") != arguments.scale
            or not (out / f"{name}.csv").exists()
        ]
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(arguments.jobs, context, initializer=set_up) as pool:
            for name in wanted:
                began = time.perf_counter()
                for table, rows in run_section(name, arguments.scale, pool).items():
                    write_table(out / f"{table}.csv", rows, digits=6)
                done[name] = {
                    "scale": arguments.scale,
                    "command": " ".join(["python", *sys.argv]),
                    "seconds": round(time.perf_counter() - began, 1),
                    "processes": arguments.jobs,
                    **{package: version(package) for package in ("jax", "jaxlib", "optax")},
                }
                log.write_text(json.dumps(done, indent=2) + "\n")
                print(f"{name:11} done in {done[name]['seconds']:.1f} s", flush=True)
    arguments.figure.parent.mkdir(parents=True, exist_ok=True)
    arguments.figure.write_bytes(svg_bytes(draw(out)))


if __name__ == "__main__":
    main()
