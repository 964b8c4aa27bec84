"""The table of verdicts: a line per optimizer, however many settings it was run with."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from onesided_jax.analysis import Analysis, Verdict
from onesided_jax.analysis.verdict import span

__all__ = ["explanations", "verdict_table"]

_STATUS = {True: "supported", False: "refuted", "inconclusive": "undecided"}
_NOT_JUDGED = "not judged"
_ORDER = ("supported", "undecided", _NOT_JUDGED, "refuted")  # the best setting comes first
_CAUSES = 3  # told; the others are counted
_RATIOS = (("P1", "primal_ratio"), ("P2", "dual_ratio"))
_GAN = ("samples", "points", "quality_gate")  # variables that only a GAN has


def verdict_table(found: Analysis, title: str, width: int) -> Table:
    """One line per optimizer: both claims' statuses, and the numbers of its best setting.

    Args:
      found: what `analyze` returned.
      title: of the table.
      width: characters that fit on a line. Where a line per optimizer needs more, each cell breaks
        between its parts.
    """
    wide = _table(found, title, wide=True)
    endless = Console(width=10_000)
    fits = Measurement.get(endless, endless.options, wide).maximum <= width
    return wide if fits else _table(found, title, wide=False)


def _table(found: Analysis, title: str, *, wide: bool) -> Table:
    gan, (space, comma, padding) = _is_gan(found), (" ", ", ", 1) if wide else ("\n", "\n", 0)
    primal, dual = ("generator", "discriminator") if gan else ("primal", "dual")
    table = Table(box=SIMPLE_HEAD, show_edge=False, title=Text(title), padding=(0, padding, 0, 0))
    headings = [f"only\n{primal}\nconverges", f"{primal}\nlate/early", f"{dual}\nlate/early"]
    for heading in ["optimizer", *headings, *["samples\npass"] * gan, "one-sided\nMVI"]:
        table.add_column(heading, overflow="fold")
    for optimizer, claims in _by_optimizer(found.verdicts).items():
        convergence = claims.get("one_sided_convergence", [])
        best = _best(convergence)
        cells = [
            optimizer,
            comma.join(_counts(convergence)),
            *(space.join(_ratio(best, *part)) for part in _RATIOS),
            *[_passes(best)] * gan,
            comma.join(_counts(claims.get("one_sided_mvi", []))),
        ]
        table.add_row(*map(Text, cells))
    return table


def explanations(found: Analysis, file: Path) -> list[str]:
    """The lines below the table: what its numbers are, what was not judged, and the details.

    Args:
      found: what `analyze` returned.
      file: the run's verdict.json.
    """
    several = len({tuple(v.hyperparameters.items()) for v in found.verdicts}) > 1
    lines = ["late/early: late over early gradient norm, mean over seeds [confidence interval]."]
    if several:
        player = "generator" if _is_gan(found) else "primal"
        lines.append(
            "Statuses count settings of the hyperparameters. Numbers are of the best setting: "
            f"supported first, then the smallest {player} late/early."
        )
    causes = Counter(why for v in found.verdicts if (why := v.details.get("not_judged")))
    if causes:
        told = [f"{why} ({n} times)" if n > 1 else why for why, n in causes.most_common(_CAUSES)]
        more = len(causes) - len(told)
        lines.append(f"Not judged: {'; '.join(told)}{f'; {more} other reasons' * (more > 0)}.")
    lines.append(f"Details: every verdict's numbers and reason are in {file}")
    return lines


def _is_gan(found: Analysis) -> bool:
    return "quality_note" in found.dataset.attrs or any(name in found.dataset for name in _GAN)


def _by_optimizer(verdicts: Iterable[Verdict]) -> dict[str, dict[str, list[Verdict]]]:
    grouped: dict[str, dict[str, list[Verdict]]] = {}
    for verdict in verdicts:
        grouped.setdefault(verdict.optimizer, {}).setdefault(verdict.claim, []).append(verdict)
    return grouped


def _status(verdict: Verdict) -> str:
    return _NOT_JUDGED if verdict.details.get("not_judged") else _STATUS[verdict.holds]


def _counts(verdicts: Sequence[Verdict]) -> list[str]:
    """How many settings have which status; the status alone where there is one setting."""
    if len(verdicts) < 2:
        return [_status(verdicts[0]) if verdicts else "not tested"]
    counts = Counter(map(_status, verdicts))
    return [f"{counts[status]:,} {status}" for status in _ORDER if counts[status]]


def _best(verdicts: Sequence[Verdict]) -> Verdict | None:
    def badness(verdict: Verdict) -> tuple[int, float]:
        value = verdict.value
        return _ORDER.index(_status(verdict)), math.inf if math.isnan(value) else value

    return min(verdicts, key=badness, default=None)


def _ratio(verdict: Verdict | None, part: str, name: str) -> list[str]:
    """A mean, and its limits if it has any."""
    words = "unknown" if verdict is None else span(verdict.details[part][name])
    mean, limits, rest = words.partition(" [")
    return [mean, f"[{rest}"] if limits else [mean]


def _passes(verdict: Verdict | None) -> str:
    passes = None if verdict is None else verdict.details["quality_gate"]["passes"]
    return "no gate" if passes is None else f"{int(np.sum(passes))} of {len(passes)}"
