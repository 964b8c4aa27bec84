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
from _gan import ARMS, PILOT_SEED, Job, Row, arm, labels, opened, recipe

import onesided_jax as osj
from onesided_jax.analysis._sample_quality import find_data, measure_quality

_AMSGRAD = {"b2": 0.99, "eps": 1e-3}
_ADAM = next(spec for spec in ARMS if spec.label == "adam")
CANDIDATES = (
    _ADAM,
    arm("optimistic_adam", (1e-4, 2e-4), 2e-4, b1=0.5, b2=0.999),
    arm("amsgrad_eg_drd", 5e-4, (5e-4, 2e-3), power=(0.25, 0.5, 1.0), **_AMSGRAD),
    arm("oadagrad", (1e-3, 3e-3, 1e-2), 1e-2),
    arm("sgda", (1e-2, 1e-1), (1e-2, 1e-1)),
)


def recipes(job: Job) -> list[osj.Recipe]:
    """Everything on the first data set, ``adam`` on the others."""
    found = []
    for i, data in enumerate(job.scale.data):
        arms = CANDIDATES if i == 0 and not job.scale.arms else (_ADAM,)
        game = {**job.scale.game, "dataset": data}
        found.append(recipe(f"pilot-{data}", job.scale, game, arms, (PILOT_SEED,)))
    return found


def work(job: Job) -> None:
    rows: list[Row] = []
    reference = {}
    for wanted in recipes(job):
        what = opened(job.train(wanted), wanted)
        real, why_not = find_data(what.game, wanted, None, None, True)
        assert real is not None, why_not
        sources = [what.source(cell) for cell in what.run.cells]
        found, about = measure_quality(
            sources, what.game, real, None, what.criteria, lambda *_: None
        )
        data = str(wanted.game.options["dataset"])
        for source, quality in zip(sources, found, strict=True):
            for i, label in enumerate(labels(source)):
                row: Row = {"data": data, "arm": label, "steps": wanted.steps}
                row |= {name: float(source.hyperparameters[name][i]) for name in _RATES}
                row["diverged_at"] = int(source.diverged_at[i])
                values = {name: float(v[i].mean()) for name, v in quality.values.items()}
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
