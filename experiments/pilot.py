"""The pilot: learning rates and the reference Fréchet distance, on a seed that is not used again.

Every candidate rate of the arms that experiments/design.md leaves open, one seed; `adam` gives the
reference distance of the quality gate on every data set. What it finds is fixed by hand in _gan.py.

    python experiments/pilot.py                  # scale "paper"
    python experiments/pilot.py --scale small    # a minute; numbers mean nothing
"""

from __future__ import annotations

import json
import sys

import numpy as np
from _gan import (
    BASELINE,
    PILOT_SEED,
    Job,
    Row,
    arm,
    labels,
    mean_quality,
    opened,
    real_data,
    recipe,
    sample_quality,
)

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
    """Everything on the first data set, ``adam`` on the others."""
    found = []
    for i, data in enumerate(job.scale.data):
        arms = CANDIDATES if i == 0 and not job.scale.arms else (BASELINE,)
        game = {**job.scale.game, "dataset": data}
        found.append(recipe(f"pilot-{data}", job.scale, game, arms, (PILOT_SEED,)))
    return found


def work(job: Job) -> None:
    rows: list[Row] = []
    reference = {}
    for wanted in recipes(job):
        what = opened(job.train(wanted), wanted)
        sources = [what.source(cell) for cell in what.run.cells]
        found, about = sample_quality(what, real_data(what, wanted), sources)
        data = str(wanted.game.options["dataset"])
        for source, quality in zip(sources, found, strict=True):
            for i, label in enumerate(labels(source)):
                row: Row = {"data": data, "arm": label, "steps": wanted.steps}
                row |= {name: float(source.hyperparameters[name][i]) for name in _RATES}
                row["diverged_at"] = int(source.diverged_at[i])
                values = mean_quality(quality, i)
                rows.append(row | values)
                if source.label == "adam":
                    reference[data] = float(f"{values['frechet']:.3g}")
        job.say(f"{data}: classifier accuracy {about.get('quality_classifier_accuracy')}")
    job.table("pilot", rows)
    finite = {data: value for data, value in reference.items() if np.isfinite(value)}
    (job.out / "reference.json").write_text(json.dumps(finite, indent=2) + "\n")


_RATES = ("primal_learning_rate", "dual_learning_rate")


if __name__ == "__main__":
    sys.exit(Job("pilot", (__doc__ or "").splitlines()[0]).go(work, lambda job: None))
