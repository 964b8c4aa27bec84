"""Claim 1 once more, for adam, on seeds that nobody has looked at.

The core has five seeds; their intervals straddle thresholds. This takes twice as many new ones, the
same game, steps, checkpoints and criteria, and judges P1 to P4 on the new ones alone. The gate
compares with the core's amsgrad_xeg, which has to be there.

    python experiments/replication.py                    # scale "paper", after gradient_norms.py
    python experiments/replication.py --scale small      # a minute; numbers mean nothing
    python experiments/replication.py --draw             # only verdicts and figure
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from _design import BASELINE, Scale, core, recipe
from _jobs import Job, Row, Rows, UnfinishedError
from _judge import judge
from _measure import measure, measured, real_data, trained, unmeasured
from gradient_norms import draw

import onesided_jax as osj

BEST = "amsgrad_xeg"  # the arm of the core with the best samples when this was designed


def recipes(scale: Scale) -> Iterator[tuple[str, osj.Recipe]]:
    """``(data, recipe)``: the core's, with its first arm and other seeds."""
    seeds = range(len(scale.seeds), 3 * len(scale.seeds))
    for data in scale.data:
        game = {**scale.game, "dataset": data}
        yield data, recipe(f"replication-{data}", scale, game, [BASELINE], seeds)


def work(job: Job) -> None:
    for data, wanted in recipes(job.scale):
        if not _best_arm(job, data):
            raise UnfinishedError(
                f"{data}: the gate compares with {BEST} of the core;"
                " run experiments/gradient_norms.py first"
            )
        for what, source in trained(job, wanted, unmeasured(job.out / data, [BASELINE.label])):
            measure(job, what, real_data(what, wanted), source, job.out / data)


def _best_arm(job: Job, data: str) -> Rows:
    """Samples of the arm of the core that the gate compares with; empty if they are not there."""
    found = measured(job.folder_of("gradient_norms") / data, "quality")
    return {name: rows for name, rows in found.items() if name == BEST}


def conclude(job: Job) -> None:
    """The verdict on the new seeds, the tables behind it, and the figures."""
    tables: dict[str, dict[str, list[Row]]] = {}
    for data, _ in recipes(job.scale):
        norm_rows, quality = (measured(job.out / data, kind) for kind in ("norms", "quality"))
        best = _best_arm(job, data)
        if not (norm_rows and quality and best):
            continue
        criteria = core(data, job.scale).criteria
        judged = judge(norm_rows, {**best, **quality}, criteria, job.scale.steps)
        tables[data] = {
            name: [row for row in rows if row["arm"] in judged.arms]
            for name, rows in judged.tables.items()
        }
        draw(job, data, judged)
    job.tables(tables)


if __name__ == "__main__":
    sys.exit(Job("replication", (__doc__ or "").splitlines()[0]).go(work, conclude))
