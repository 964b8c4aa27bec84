"""The pilot: learning rates and the reference Fréchet distance, on a seed that is not used again.

Every candidate rate of the arms that experiments/design.md leaves open, one seed; `adam` gives the
reference distance of the quality gate on every data set. What it finds is fixed by hand in
_design.py.

    python experiments/pilot.py                  # scale "paper"
    python experiments/pilot.py --scale small    # a minute; numbers mean nothing
"""

from __future__ import annotations

import dataclasses
import json
import sys

from _design import BASELINE, PILOT_SEED, REFERENCE, arm, recipe
from _jobs import Job, Row
from _measure import measure, measure_samples, measured, real_data, trained, unmeasured

import onesided_jax as osj

_AMSGRAD = {"b2": 0.99, "eps": 1e-3}
CANDIDATES = (
    BASELINE,
    arm("optimistic_adam", (1e-4, 2e-4), 2e-4, b1=0.5, b2=0.999),
    arm("amsgrad_eg_drd", 5e-4, (5e-4, 2e-3), power=(0.25, 0.5, 1.0), **_AMSGRAD),
    arm("oadagrad", (1e-3, 3e-3, 1e-2), 1e-2),
    arm("sgda", (1e-2, 1e-1), (1e-2, 1e-1)),
)


def recipes(job: Job) -> list[osj.Recipe]:
    """Everything on the first data set, ``adam`` on the others; half as long again as the core."""
    scale = job.scale._replace(steps=3 * job.scale.steps // 2)
    found = []
    for i, data in enumerate(scale.data):
        arms = CANDIDATES if i == 0 and not scale.arms else (BASELINE,)
        game = {**scale.game, "dataset": data}
        wanted = recipe(f"pilot-{data}", scale, game, arms, (PILOT_SEED,))
        without = dataclasses.replace(wanted.criteria, gate_frechet_reference=None)
        found.append(dataclasses.replace(wanted, criteria=without))
    return found


def work(job: Job) -> None:
    for wanted in recipes(job):
        folder = job.out / str(wanted.game.options["dataset"])
        first = (BASELINE.label,)  # its norms say how many steps the core takes
        others = [spec.label for spec in wanted.optimizers if spec.label not in first]
        left = unmeasured(folder, first) + unmeasured(folder, others, ["quality"])
        for what, source in trained(job, wanted, left):
            real = real_data(what, wanted)
            if source.label in first:
                measure(job, what, real, source, folder)
            else:
                path = folder / "quality" / f"{source.label}.csv"
                measure_samples(job, what, real, source, path)


def conclude(job: Job) -> None:
    """One table of the samples, and the reference distances, from what has been measured."""
    table: list[Row] = []
    reference = {}
    for data in job.scale.data:
        for (row,) in measured(job.out / data, "quality").values():
            table.append({"data": data, **row})
            if row["arm"] == BASELINE.label and row["diverged"] == "no":
                reference[data] = float(f"{float(row['frechet']):.3g}")
    if table:
        job.table("pilot", table)
    (job.out / REFERENCE.name).write_text(json.dumps(reference, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(Job("pilot", (__doc__ or "").splitlines()[0]).go(work, conclude))
