"""Cost of a step of each optimizer, in simultaneous Adam steps: ``benchmarks.step_ratio``."""

from __future__ import annotations

from pathlib import Path

from benchmarks import step_ratio
from benchmarks.harness import Row, Scale, SuiteResult


def run(scale: Scale, folder: Path) -> SuiteResult:
    del folder
    if scale.small:
        names = ("extra_adam", "past_extra_adam")
        table = step_ratio.measure(scale.rounds, 2, step_ratio.dcgan_game(8, 16), names)
    else:
        table = step_ratio.measure(scale.rounds)
    rows = [
        Row(
            f"step of {name}",
            f"step of {step_ratio.BASELINE}",
            row["ratio"],
            tuple(row["quartiles"]),
            row["goal"],
            "lower",
        )
        for name, row in table["rows"].items()
    ]
    return SuiteResult(rows, {key: table[key] for key in ("baseline", "rows")})
