"""The registered experiment: trains in pieces, measures, judges, draws. See registered.md.

    python experiments/registered.py --pilot --data mnist   # quality and time only
    python experiments/registered.py --claim 1 --data mnist --seeds 1000:1008
    python experiments/registered.py --claim 3 --data mnist --seeds 1000:1008  # on those runs
    python experiments/registered.py --claim 2              # the pair, on MNIST
    python experiments/registered.py --claim control        # discriminator frozen half way
    python experiments/registered.py --claim secondary      # simultaneous Adam
    python experiments/registered.py --analyse --draw       # verdicts and pages, from tables
    python experiments/registered.py --scale small --out x --results x/tables --pages x/docs

A job that is cut off goes on where it was when the same command is given again.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
import time
from pathlib import Path
from typing import Any

from _registered.design import ARMS, COUNTS, DATA, SCALES, Scale, load_images, make_game, seeds_of

ROOT = Path(__file__).parents[1]
UNFINISHED = 75  # exit status


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--pilot", action="store_const", const="pilot", dest="claim", help="as --claim pilot")
    add("--claim", choices=COUNTS, help="train and measure")
    add("--analyse", action="store_true", help="tables to verdicts")
    add("--draw", action="store_true", help="tables and verdicts to pages")
    add("--data", choices=(*DATA, "bars"), default="mnist")
    add("--data-dir", help="folder with the official files")
    add("--seeds", metavar="FIRST:END", help="some of the claim's seeds")
    add("--scale", choices=SCALES, default="cpu")
    add("--steps", type=int, help="of a pilot only: another length")
    add("--minutes", type=float, default=150, help="a job stops training then")
    add("--out", type=Path, default=ROOT / "runs" / "registered", help="run directories")
    add("--results", type=Path, default=ROOT / "experiments/results/registered", help="tables")
    add("--pages", type=Path, default=ROOT / "docs")
    given = parser.parse_args(arguments)
    if given.steps is not None and given.claim != "pilot":
        parser.error("--steps is for --pilot: the length of a claim's runs is registered")
    return given


@functools.lru_cache(maxsize=1)
def prepare(data: str, data_dir: str | None, scale: Scale) -> Any:
    """The game and its measurements: compiled once for all jobs of a process."""
    from _registered.measuring import Meter

    images = load_images(data, data_dir)
    return Meter(make_game(images, scale), images, scale)


def job(given: argparse.Namespace, claim: str, data: str, scale: Scale) -> bool:
    """Trains and measures one claim's arms on one data set; whether it is finished."""
    from _registered import measuring, training

    seeds = seeds_of(claim, scale)
    if given.seeds:
        first, _, end = given.seeds.partition(":")
        seeds = int(first), int(end)
    meter = prepare(data, given.data_dir, scale)
    until = time.monotonic() + 60 * given.minutes
    wanted = {"3": "mvi.csv", "pilot": "quality.csv"}.get(claim, "runs.csv")
    of_claim = "1" if claim in ("3", "pilot") else claim
    for arm in [name for name, arm in ARMS.items() if arm.claim == of_claim]:
        name = f"{'pilot' if claim == 'pilot' else arm}-{data}-{seeds[0]}-{seeds[1]}"
        folder, tables = given.out / name, given.results / name
        if (tables / wanted).exists():
            continue
        tables.mkdir(parents=True, exist_ok=True)
        ledger = given.results / "ledger.jsonl"
        try:
            result = training.train(
                meter.game, arm, seeds, folder, scale, until=until, ledger=ledger
            )
        except training.OutOfTimeError as error:
            print(f"{error}; give the same command again", flush=True)
            return False
        with training.entry(ledger, f"{name}: measured"):
            if claim == "pilot":
                measuring.pilot(meter, result, tables)
            elif claim == "3":
                twins = {t: training.fork(meter.game, folder, t, scale) for t in training.TWINS}
                measuring.measure_mvi(meter, result, twins, tables)
            else:
                measuring.measure(meter, arm, result, tables)
    return True


def main(arguments: list[str]) -> int:
    given = parse(arguments)
    scale, finished = SCALES[given.scale], True
    if given.steps:
        scale = dataclasses.replace(scale, steps=given.steps)
    everything = given.scale == "small" and given.claim is None
    if given.claim:
        finished = job(given, given.claim, given.data, scale)
    elif everything:
        finished = all(job(given, claim, "bars", scale) for claim in COUNTS if claim != "pilot")
    if given.analyse or everything:
        from _registered import judging

        judging.write_verdicts(given.results, scale)
    if given.draw or everything:
        from _registered import pages

        pages.draw(given.results, given.pages, scale)
    return 0 if finished else UNFINISHED


if __name__ == "__main__":
    import onesided_jax

    onesided_jax.configure_cpu()
    sys.exit(main(sys.argv[1:]))
