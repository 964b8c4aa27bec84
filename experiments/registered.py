"""The registered experiment: trains in pieces, measures, judges, draws. See registered.md.

    python experiments/registered.py --pilot --data mnist   # quality and time only
    python experiments/registered.py --claim 1 --data mnist --seeds 1000:1008
    python experiments/registered.py --claim 3 --data mnist --seeds 1000:1008  # on those runs
    python experiments/registered.py --claim 2                     # the pair, on MNIST
    python experiments/registered.py --claim control               # discriminator frozen half way
    python experiments/registered.py --claim secondary             # simultaneous Adam
    python experiments/registered.py --analyse --draw              # verdicts and pages, from tables
    python experiments/registered.py --scale small --out x --results x/tables --pages x/docs

A job that is cut off goes on where it was when the same command is given again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from _registered.design import (
    ARMS,
    DATA,
    PILOT_SEEDS,
    SCALES,
    Scale,
    load_images,
    make_game,
    seeds_of,
)

ROOT = Path(__file__).parents[1]
CLAIMS = ("1", "2", "3", "control", "secondary")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--pilot", action="store_true", help="quality and timing, nothing else")
    parser.add_argument("--claim", choices=CLAIMS, help="train and measure")
    parser.add_argument("--analyse", action="store_true", help="tables to verdicts")
    parser.add_argument("--draw", action="store_true", help="tables and verdicts to pages")
    parser.add_argument("--data", choices=DATA, default="mnist")
    parser.add_argument("--seeds", metavar="FIRST:END", help="some of the claim's seeds")
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--steps", type=int, help="of a pilot only: another length")
    parser.add_argument("--minutes", type=float, default=150, help="a job stops training then")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "registered")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "experiments" / "results" / "registered"
    )
    parser.add_argument("--pages", type=Path, default=ROOT / "docs")
    parser.add_argument("--data-dir", help="folder with the official files")
    given = parser.parse_args(arguments)
    if given.steps is not None and not given.pilot:
        parser.error("--steps is for --pilot: the length of a claim's runs is registered")
    return given


def job(given: argparse.Namespace, claim: str, data: str, seeds: tuple[int, int]) -> bool:
    """Trains and measures one claim's arms on one data set; whether it is finished."""
    from _registered import measuring, training

    scale: Scale = SCALES[given.scale]
    images = load_images(data, given.data_dir)
    game = make_game(images, scale)
    meter = measuring.Meter(game, images, scale)
    ledger = training.Ledger(given.results / "ledger.jsonl")
    until = time.monotonic() + 60 * given.minutes
    of_claim = "1" if claim == "3" else claim
    for arm in [name for name, arm in ARMS.items() if arm.claim == of_claim]:
        name = training.name_of(arm, data, seeds)
        folder, tables = given.out / name, given.results / name
        wanted = tables / ("mvi.csv" if claim == "3" else "runs.csv")
        if wanted.exists():
            continue
        try:
            result = training.train(game, arm, seeds, folder, scale, until=until, ledger=ledger)
        except training.OutOfTimeError as error:
            print(f"{error}; give the same command again", flush=True)
            return False
        began = time.monotonic()
        if claim == "3":
            twins = {t: training.fork(game, folder, t, scale, ledger) for t in training.TWINS}
            measuring.measure_mvi(meter, result, twins, tables)
        else:
            measuring.measure(meter, arm, result, tables)
        ledger.write(what=f"{name}: measured", seconds=round(time.monotonic() - began, 1))
    return True


def run_pilot(given: argparse.Namespace) -> bool:
    """Trains the recipe of claim 1 on the pilot's seeds and looks at its samples only."""
    import dataclasses

    from _registered import measuring, training

    scale = SCALES[given.scale]
    if given.steps:
        scale = dataclasses.replace(scale, steps=given.steps)
    images = load_images(given.data, given.data_dir)
    game = make_game(images, scale)
    seeds = seeds_from(given.seeds) or PILOT_SEEDS
    name = f"pilot-{given.data}-{seeds[0]}-{seeds[1]}"
    ledger = training.Ledger(given.results / name / "ledger.jsonl")
    until = time.monotonic() + 60 * given.minutes
    try:
        result = training.train(
            game, "alternating_adam", seeds, given.out / name, scale, until=until, ledger=ledger
        )
    except training.OutOfTimeError as error:
        print(f"{error}; give the same command again", flush=True)
        return False
    measuring.pilot(measuring.Meter(game, images, scale), result, given.results / name)
    return True


def seeds_from(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, _, end = text.partition(":")
    return int(first), int(end)


def everything(given: argparse.Namespace) -> None:
    """All claims at small size, on digits that come with a package."""
    for claim in CLAIMS:
        job(given, claim, "digits", seeds_of(claim, SCALES[given.scale]))


def main(arguments: list[str]) -> int:
    given = parse(arguments)
    scale, finished = SCALES[given.scale], True
    small = given.scale == "small" and not (given.pilot or given.claim)
    if given.pilot:
        finished = run_pilot(given)
    elif given.claim:
        seeds = seeds_from(given.seeds) or seeds_of(given.claim, scale)
        finished = job(given, given.claim, given.data, seeds)
    elif small:
        everything(given)
    if given.analyse or small:
        from _registered import judging

        judging.write_verdicts(given.results, scale)
    if given.draw or small:
        from _registered import pages

        pages.draw(given.results, given.pages, scale)
    return 0 if finished else 75


if __name__ == "__main__":
    import onesided_jax

    onesided_jax.configure_cpu()
    sys.exit(main(sys.argv[1:]))
