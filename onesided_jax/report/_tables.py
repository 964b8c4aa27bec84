"""What the page says in words and tables, as plain structures for the template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from onesided_jax.report._section import PLAYERS, Cell, Section, median
from onesided_jax.report._text import (
    NOTHING,
    duration,
    integer,
    interval,
    label,
    number,
    setting,
    settings,
)

__all__ = [
    "Badge",
    "badge",
    "claims",
    "counts",
    "facts",
    "origin",
    "run_table",
    "summary_table",
    "text_of",
]

MAX_VERDICTS = 8
"""Rows of one claim before the others are folded away."""
MAX_SETTINGS = 50
"""Settings of one optimizer before a summary stands in the place of the grid and of the rows."""
EXTREMES = 10
"""Rows of the best settings of each optimizer then, and of the worst."""
MAX_RUNS = 120
"""Rows of the table of runs."""


class Badge(NamedTuple):
    """A verdict's word, its sign for those who see no colour, and its CSS class."""

    word: str
    sign: str
    kind: str


BADGES = {
    "supported": Badge("Supported", "✓", "holds"),
    "refuted": Badge("Refuted", "✗", "fails"),
    "undecided": Badge("Undecided", "?", "open"),
}


def badge(status: Any) -> Badge:
    """The badge of a verdict.

    Raises:
      ValueError: for an unknown status; a verdict is never guessed.

    Example:
      >>> badge("undecided").word, badge("supported").sign
      ('Undecided', '✓')
    """
    if status not in BADGES:
        raise ValueError(f"a verdict's status is {status!r}; expected one of {list(BADGES)}")
    return BADGES[status]


def text_of(value: Any) -> str:
    """Any value of a manifest or of a verdict's numbers, for a reader.

    Example:
      >>> text_of(0.123456), text_of({"a": [1, 2.0]}), text_of(None)
      ('0.123', '{"a": [1, 2.0]}', '–')
    """
    if value is None:
        return NOTHING
    if isinstance(value, str | bool | np.bool_):
        return str(value)
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return number(float(value))
    return json.dumps(value, default=str, ensure_ascii=False)


def claims(section: Section) -> list[dict[str, Any]]:
    """The verdicts by claim, each claim's rows ready to print."""
    out = []
    for claim in dict.fromkeys(v["claim"] for v in section.verdicts):
        verdicts = [v for v in section.verdicts if v["claim"] == claim]
        name = str(claim)[:1].upper() + str(claim)[1:]
        out.append({"name": name, "grid": None, "summary": None} | _shown(verdicts))
    return out


def _shown(verdicts: list[dict[str, Any]]) -> dict[str, Any]:
    """The rows of one claim's verdicts; of many a grid beside, of very many the extremes alone."""
    by_optimizer: dict[str, list[dict[str, Any]]] = {}
    for verdict in verdicts:
        by_optimizer.setdefault(str(verdict["cell"]), []).append(verdict)
    if max(map(len, by_optimizer.values())) > MAX_SETTINGS:
        ranked = {name: sorted(mine, key=_badness) for name, mine in by_optimizer.items()}
        chosen = [v for mine in ranked.values() for v in _ends(mine)]
        summary = [_summary_row(name, mine) for name, mine in ranked.items()]
        return {"summary": summary, "rows": [_verdict_row(v) for v in chosen], "each": EXTREMES}
    grid = _verdict_grid(verdicts, by_optimizer) if len(verdicts) > MAX_VERDICTS else None
    return {"grid": grid, "rows": [_verdict_row(v) for v in verdicts]}


def _badness(verdict: Mapping[str, Any]) -> tuple[int, float]:
    """Supported claims first, refuted ones last; then by effect, which is better if it is less."""
    order = ("holds", "open", "fails").index(badge(verdict["status"]).kind)
    effect = verdict["effect"]
    return order, np.inf if effect is None or np.isnan(effect) else float(effect)


def _ends(ranked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(ranked) <= 2 * EXTREMES:
        return ranked
    return ranked[:EXTREMES] + ranked[-EXTREMES:]


def _summary_row(optimizer: str, verdicts: list[dict[str, Any]]) -> dict[str, Any]:
    """How many settings of one optimizer have which verdict, and the quartiles of their effects."""
    kinds = [badge(v["status"]).kind for v in verdicts]
    values = np.array([v["effect"] for v in verdicts], float)
    finite = values[np.isfinite(values)]
    quartiles = np.quantile(finite, [0, 0.25, 0.5, 0.75, 1]) if finite.size else [np.nan] * 5
    return {
        "optimizer": optimizer,
        "settings": integer(len(verdicts)),
        "counts": [integer(kinds.count(kind)) for kind in ("holds", "open", "fails")],
        "quartiles": [number(float(v)) for v in quartiles],
        "measure": _measure(verdicts[0]),
    }


def _verdict_grid(
    verdicts: list[dict[str, Any]], by_optimizer: Mapping[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """Many verdicts at a glance: optimizers down, settings that vary across."""
    values: dict[str, set[Any]] = {}
    for mine in by_optimizer.values():
        for name in mine[0]["setting"]:
            seen = {v["setting"].get(name) for v in mine}
            if len(seen) > 1:
                values.setdefault(name, set()).update(seen)

    def setting(verdict: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(verdict["setting"].get(name) for name in values)

    columns = list(dict.fromkeys(setting(v) for v in verdicts))
    rows = []
    for optimizer, mine in by_optimizer.items():
        found = {setting(v): v for v in mine}
        cells = [
            {"badge": badge(v["status"]), "value": number(v["effect"])} if v else None
            for v in map(found.get, columns)
        ]
        rows.append({"optimizer": optimizer, "cells": cells})
    heads = [
        {"name": label(name), "values": [number(column[i]) for column in columns]}
        for i, name in enumerate(values)
    ]
    measures = dict.fromkeys(measure for v in verdicts if (measure := _measure(v)))
    return {"heads": heads, "rows": rows, "measure": "; ".join(measures)}


def _measure(verdict: Mapping[str, Any]) -> str:
    return str(verdict["numbers"].get("measure", ""))


def _verdict_row(verdict: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {k: v for k, v in verdict["numbers"].items() if k != "measure" and v != ""}
    return {
        "optimizer": str(verdict["cell"]),
        "settings": settings(verdict["setting"]),
        "badge": badge(verdict["status"]),
        "effect": number(verdict["effect"]),
        "interval": interval(*verdict["interval"]),
        "measure": _measure(verdict),
        "runs": integer(numbers.pop("runs", None)),
        "sentence": str(verdict["sentence"]),
        "numbers": {_key(k): _words(v) for k, v in numbers.items()},
    }


def _words(value: Any) -> str:
    """A part of a verdict's numbers; nested ones in brackets."""
    if isinstance(value, Mapping):
        parts = (
            f"{_key(k)} ({_words(v)})" if isinstance(v, Mapping) else f"{_key(k)} {_words(v)}"
            for k, v in value.items()
        )
        return "; ".join(parts) or NOTHING
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value)) or NOTHING
    return text_of(value) or NOTHING


def _key(name: Any) -> str:
    return label(str(name)) if str(name).islower() else str(name)  # alpha_G is a symbol


def facts(section: Section) -> dict[str, str]:
    """The line of facts under a section's title."""
    attrs = section.dataset.attrs
    shown = {
        "Game": attrs.get("game"),
        "Recipe": attrs.get("recipe_name"),
        "Steps": _steps(section.dataset) if "steps" in attrs else None,
        "Microbatches per estimate": attrs.get("microbatches"),
        "Reference point x*": attrs.get("x_star"),
    }
    return {k: text_of(v) for k, v in shown.items() if v is not None}


def _steps(dataset: xr.Dataset) -> str:
    """How many steps the runs have, and how many of them were analysed if not all."""
    whole = dataset.attrs["steps"]
    last = int(dataset["last_step"].min()) if "last_step" in dataset else whole
    return integer(whole) if last == whole else f"{integer(last)} of {integer(whole)}"


def counts(cells: list[Cell]) -> str:
    """How many runs there are, and how many of them diverged.

    Example:
      >>> counts([])
      '0 runs of 0 optimizers; none diverged'
    """
    runs = sum(len(c.where) for c in cells)
    lost = sum(int((c.diverged_at >= 0).sum()) for c in cells)
    return (
        f"{runs:,} run{'s' * (runs != 1)} of {len(cells)} optimizer{'s' * (len(cells) != 1)}; "
        f"{f'{lost:,}' if lost else 'none'} diverged"
    )


def _spread(norms: np.ndarray) -> dict[str, str]:
    finite = norms[np.isfinite(norms)]
    if finite.size < 2:
        return {"middle": number(finite[0]) if finite.size else NOTHING, "range": ""}
    return {
        "middle": number(float(median(finite))),
        "range": f"{number(finite.min())} to {number(finite.max())}",
    }


def summary_table(cells: list[Cell]) -> list[dict[str, Any]]:
    """A row per optimizer: the shown setting's late gradient norms, and the divergences."""
    rows = []
    for cell in cells:
        runs = cell.shown.runs
        lost = cell.diverged_at >= 0
        rows.append(
            {
                "optimizer": cell.name,
                "settings": settings(cell.shown.hyperparameters),
                "runs": len(runs),
                "lost": int(lost[runs].sum()),
                "all_runs": len(cell.where),
                "all_lost": int(lost.sum()),
                "why": cell.why,
                **{player: _spread(cell.late[player][runs]) for player in PLAYERS},
            }
        )
    return rows


def _first(cell: Cell, count: int) -> list[int]:
    """The runs to show if not all fit: diverged ones, the shown setting's, then the others."""
    shown = set(cell.shown.runs)
    runs = range(len(cell.where))
    ranked = sorted(runs, key=lambda run: (cell.diverged_at[run] < 0, run not in shown, run))
    return sorted(ranked[:count])


def run_table(cells: list[Cell], gate: Mapping[str, list[str]] | None = None) -> dict[str, Any]:
    """Every run's seed, hyperparameters, late norms and fate, up to :data:`MAX_RUNS` rows."""
    names = list(dict.fromkeys(n for c in cells for h in c.hyperparameters for n in h))
    each = max(MAX_RUNS // max(len(cells), 1), 1)
    rows = []
    for cell in cells:
        for run in _first(cell, each):
            values = cell.hyperparameters[run]
            seed, diverged_at = cell.seeds[run], int(cell.diverged_at[run])
            rows.append(
                {
                    "optimizer": cell.name,
                    "seed": NOTHING if np.isnan(seed) else str(int(seed)),
                    "values": [setting(values.get(n)) for n in names],
                    "diverged": integer(diverged_at) if diverged_at >= 0 else "",
                    "gate": gate[cell.name][run] if gate is not None else "",
                    **{player: number(float(cell.late[player][run])) for player in PLAYERS},
                }
            )
    total = sum(len(c.where) for c in cells)
    return {
        "names": [label(n).capitalize() for n in names],
        "rows": rows,
        "gate": gate is not None,
        "total": total,
        "each": each,
    }


def origin(section: Section) -> dict[str, Any]:
    """How to reproduce the section's runs."""
    manifest = section.manifest
    shown = {
        "Run directory": manifest.get("directory"),
        "Created": manifest.get("created"),
        "Training time": duration(manifest["seconds"]) if "seconds" in manifest else None,
        "Runs per compiled program": manifest.get("width"),
        **{label(str(k)).capitalize(): v for k, v in (manifest.get("platform") or {}).items()},
    }
    return {
        "command": str(manifest.get("command") or ""),
        "facts": {k: text_of(v) for k, v in shown.items() if v is not None},
        "versions": {str(k): str(v) for k, v in (manifest.get("versions") or {}).items()},
        "recipe": json.dumps(
            manifest.get("recipe") or {}, indent=2, default=str, ensure_ascii=False
        ),
    }
