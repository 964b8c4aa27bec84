"""The table of verdicts: one line per optimizer and claim, for any number of settings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from onesided_jax.analysis import Analysis, Verdict

__all__ = ["explanations", "verdict_table"]

_ORDER = ("supported", "undecided", "refuted")  # the best setting comes first
_CAUSES = 3  # most causes to print; the others are counted
_SENTENCES = 8  # with more verdicts, their sentences are not printed
_LEGEND = (
    "Effect [confidence interval over seeds]. Convergence: late divided by early gradient norm,"
    " geometric mean. MVI: share of negative entries, mean."
)


def verdict_table(found: Analysis, title: str) -> Table:
    """One line per optimizer and claim: statuses, and the effect in the best setting."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, title=Text(title), padding=(0, 1, 0, 0))
    table.add_column("optimizer", overflow="fold")
    table.add_column("claim", min_width=16)
    table.add_column("status", min_width=10)
    table.add_column("effect", no_wrap=True)
    shown = ""
    for (cell, claim), verdicts in _by_cell_and_claim(found.verdicts).items():
        name = cell if cell != shown else ""
        words = [name, claim, ", ".join(_counts(verdicts)), _effect(_best(verdicts))]
        table.add_row(*map(Text, words))
        shown = cell
    return table


def explanations(found: Analysis, file: Path) -> list[str]:
    """The lines below the table: legend, sentences of the verdicts, and the file with details."""
    verdicts, lines = found.verdicts, [_LEGEND]
    if len(verdicts) <= _SENTENCES:
        lines += [f"{v.cell}: {v.sentence}" for v in verdicts]
    else:
        causes = Counter(why for v in verdicts if (why := v.numbers["missing"]))
        told = [f"{why} ({n} times)" if n > 1 else why for why, n in causes.most_common(_CAUSES)]
        more = len(causes) - len(told)
        told += [f"{more} other reasons"] * (more > 0)
        lines += [f"Not judged: {'; '.join(told)}."] * bool(told)
    if any(len(mine) > 1 for mine in _by_cell_and_claim(verdicts).values()):
        lines.append(
            "The status column counts hyperparameter settings. The effect is that of the best"
            " setting: supported first, then the smallest effect."
        )
    return [*lines, f"All numbers and sentences: {file}"]


def _by_cell_and_claim(verdicts: Sequence[Verdict]) -> dict[tuple[str, str], list[Verdict]]:
    cells = dict.fromkeys(verdict.cell for verdict in verdicts)
    claims = dict.fromkeys(verdict.claim for verdict in verdicts)
    grouped = {(cell, claim): [] for cell in cells for claim in claims}
    for verdict in verdicts:
        grouped[verdict.cell, verdict.claim].append(verdict)
    return {key: mine for key, mine in grouped.items() if mine}


def _counts(verdicts: Sequence[Verdict]) -> list[str]:
    """The number of settings with each status; the status alone if there is one setting."""
    if len(verdicts) == 1:
        return [verdicts[0].status]
    counts = Counter(verdict.status for verdict in verdicts)
    return [f"{counts[status]:,} {status}" for status in _ORDER if counts[status]]


def _best(verdicts: Sequence[Verdict]) -> Verdict:
    def badness(verdict: Verdict) -> tuple[int, float]:
        effect = verdict.effect
        return _ORDER.index(verdict.status), math.inf if math.isnan(effect) else effect

    return min(verdicts, key=badness)


def _effect(verdict: Verdict) -> str:
    """The effect with its interval, if it has one."""
    if math.isnan(verdict.effect):
        return "unknown"
    low, high = verdict.interval
    return f"{verdict.effect:.3g}" + ("" if math.isnan(low) else f" [{low:.3g}, {high:.3g}]")
