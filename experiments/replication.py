"""Claim 1 once more, for adam, on seeds that nobody has looked at.

The core has five seeds; their intervals straddle thresholds. This takes twice as many new ones, the
same game, steps, checkpoints and criteria, and judges P1 to P4 on the new ones alone. The gate
compares with the arms of the core, which have to be there.

    python experiments/replication.py                    # scale "paper", after gradient_norms.py
    python experiments/replication.py --scale small      # a minute; numbers mean nothing
    python experiments/replication.py --draw             # only verdicts and figure
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from _design import BASELINE, Scale, core, recipe
from _jobs import Job, Row, UnfinishedError
from _judge import judge
from _measure import measure, measured, norms_of, real_data, trained
from gradient_norms import draw_norms, draw_ratios, load

import onesided_jax as osj
from onesided_jax.report._style import svg_bytes


def recipes(scale: Scale) -> Iterator[tuple[str, osj.Recipe]]:
    """``(data, recipe)``: the core's, with its first arm and other seeds."""
    seeds = range(len(scale.seeds), 3 * len(scale.seeds))
    for data in scale.data:
        game = {**scale.game, "dataset": data}
        yield data, recipe(f"replication-{data}", scale, game, [BASELINE], seeds)


def work(job: Job) -> None:
    for data, wanted in recipes(job.scale):
        if not _of_the_core(job, data):
            raise UnfinishedError(
                f"{data}: the gate compares with the core; run experiments/gradient_norms.py first"
            )
        for what, source in trained(job, wanted, [BASELINE.label]):
            measure(job, what, real_data(what, wanted), source, job.out / data)


def _of_the_core(job: Job, data: str):
    """Sample quality of the core's arms."""
    return load(job.out.parent / "gradient_norms", data, job.scale)[1]


def conclude(job: Job) -> None:
    """The verdict on the new seeds, the tables behind it, and the figures."""
    tables: dict[str, list[Row]] = {}
    for data, _ in recipes(job.scale):
        norm_rows, quality = (measured(job.out / data, kind) for kind in ("norms", "quality"))
        if not quality:
            continue
        arms = {name: norms_of(rows) for name, rows in norm_rows.items()}
        compared = {**_of_the_core(job, data), **quality}
        criteria = core(data, job.scale).criteria
        verdicts, found = judge(arms, norm_rows, compared, criteria, job.scale.steps)
        for name, rows in found.items():
            mine = [{"data": data, **row} for row in rows if row["arm"] in arms]
            tables.setdefault(name, []).extend(mine)
        (job.out / f"norms-{data}.svg").write_bytes(svg_bytes(draw_norms(arms)))
        (job.out / f"ratios-{data}.svg").write_bytes(svg_bytes(draw_ratios(verdicts)))
    for name, table in tables.items():
        if table:
            job.table(name, table)


if __name__ == "__main__":
    sys.exit(Job("replication", (__doc__ or "").splitlines()[0]).go(work, conclude))
