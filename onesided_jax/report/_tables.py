"""Texts and tables of the page, as plain structures for the template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from onesided_jax.report._section import PLAYERS, Cell, Section
from onesided_jax.report._text import (
    NOTHING,
    count,
    duration,
    integer,
    label,
    number,
    setting,
    settings,
    spread,
)

MAX_VERDICTS = 8
"""With more verdicts, a claim gets a grid, and its sentences are collapsed."""
MAX_SETTINGS = 50
"""With more settings of one optimizer, a summary replaces the grid and most sentences."""
EXTREMES = 10
"""Number of best settings, and of worst settings, that keep their sentences in a summary."""
MAX_RUNS = 120
"""Most rows of the table of runs."""


class Badge(NamedTuple):
    """A verdict's word, its sign (readable without colours), and its CSS class."""

    word: str
    sign: str
    kind: str


BADGES = {  # from best to worst
    "supported": Badge("Supported", "✓", "holds"),
    "undecided": Badge("Undecided", "?", "open"),
    "refuted": Badge("Refuted", "✗", "fails"),
}


def badge(status: Any) -> Badge:
    """The badge of a verdict.

    Raises:
      ValueError: for an unknown status.

    Example:
      >>> badge("undecided").word, badge("supported").sign
      ('Undecided', '✓')
    """
    if status not in BADGES:
        raise ValueError(f"a verdict's status is {status!r}; expected one of {list(BADGES)}")
    return BADGES[status]


def claims(section: Section) -> list[dict[str, Any]]:
    """The verdicts by claim: rows with sentences, and a grid or summary if there are many."""
    out = []
    for claim in dict.fromkeys(v["claim"] for v in section.verdicts):
        verdicts = [v for v in section.verdicts if v["claim"] == claim]
        cells: dict[str, list[dict[str, Any]]] = {}
        for verdict in verdicts:
            cells.setdefault(str(verdict["cell"]), []).append(verdict)
        shown: dict[str, Any] = {"name": claim[:1].upper() + claim[1:], "grid": None}
        shown["measures"] = [m for m in dict.fromkeys(map(_measure, verdicts)) if m]
        shown["summary"] = []
        if max(map(len, cells.values())) > MAX_SETTINGS:
            cells = {name: sorted(mine, key=_badness) for name, mine in cells.items()}
            shown["summary"] = [_summary_row(name, mine) for name, mine in cells.items()]
            best = (mine[:EXTREMES] for mine in cells.values())
            worst = (mine[EXTREMES:][-EXTREMES:] for mine in cells.values())
            verdicts = [v for ends in zip(best, worst, strict=True) for end in ends for v in end]
            shown["each"] = EXTREMES
        elif len(verdicts) > MAX_VERDICTS:
            shown["grid"] = _verdict_grid(verdicts, cells)
        varying = {name: _varying(mine) for name, mine in cells.items()}
        rows = [_verdict_row(v, varying[str(v["cell"])]) for v in verdicts]
        out.append(shown | {"rows": rows})
    return out


def _badness(verdict: Mapping[str, Any]) -> tuple[int, float]:
    """Sort key: supported claims first, refuted ones last; then by effect."""
    effect = verdict["effect"]
    rank = list(BADGES.values()).index(badge(verdict["status"]))
    return rank, np.inf if effect is None or np.isnan(effect) else float(effect)


def _summary_row(optimizer: str, verdicts: list[dict[str, Any]]) -> dict[str, Any]:
    """The number of settings of one optimizer per status, and the quartiles of their effects."""
    statuses = [v["status"] for v in verdicts]
    values = np.array([v["effect"] for v in verdicts], float)
    finite = values[np.isfinite(values)]
    quartiles = np.quantile(finite, [0, 0.25, 0.5, 0.75, 1]) if finite.size else [np.nan] * 5
    return {
        "optimizer": optimizer,
        "settings": integer(len(verdicts)),
        "counts": [integer(statuses.count(status)) for status in BADGES],
        "quartiles": [number(float(v)) for v in quartiles],
    }


def _verdict_grid(
    verdicts: list[dict[str, Any]], cells: Mapping[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """A grid of verdicts: one row per optimizer, one column per varying setting."""
    names: list[str] = []
    for mine in cells.values():
        names += [name for name in _varying(mine) if name not in names]

    def place(verdict: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(verdict["setting"].get(name) for name in names)

    columns = list(dict.fromkeys(map(place, verdicts)))
    rows = []
    for optimizer, mine in cells.items():
        found = {place(v): v for v in mine}
        entries = [
            {"badge": badge(v["status"]), "value": number(v["effect"])} if v else None
            for v in map(found.get, columns)
        ]
        rows.append({"optimizer": optimizer, "cells": entries})
    heads = [
        {"name": label(name), "values": [number(column[i]) for column in columns]}
        for i, name in enumerate(names)
    ]
    return {"heads": heads, "rows": rows}


def _varying(verdicts: list[dict[str, Any]]) -> list[str]:
    """Names of the hyperparameters that differ between an optimizer's settings."""
    first = verdicts[0]["setting"]
    return [name for name in first if len({v["setting"].get(name) for v in verdicts}) > 1]


def _measure(verdict: Mapping[str, Any]) -> str:
    return str(verdict["numbers"].get("measure", ""))


def _verdict_row(verdict: Mapping[str, Any], varying: list[str]) -> dict[str, Any]:
    """A verdict; of several settings only what differs is shown, and the rest is folded."""
    whole = verdict["setting"]
    shown = {name: whole[name] for name in varying if name in whole} or whole
    folded = {} if shown == whole else {"Settings": settings(whole)}
    numbers = {k: v for k, v in verdict["numbers"].items() if k != "measure" and v != ""}
    runs = numbers.pop("runs", None)
    return {
        "optimizer": str(verdict["cell"]),
        "settings": settings(shown),
        "badge": badge(verdict["status"]),
        "sentence": str(verdict["sentence"]),
        "effect": spread(verdict["effect"], *verdict["interval"]),
        "runs": NOTHING if runs is None else count(int(runs), "run"),
        "numbers": folded | {label(str(k)): _words(v) for k, v in numbers.items()},
    }


def _words(value: Any) -> str:
    """Formats a value of a manifest or of a verdict's numbers; nested values are in brackets.

    Example:
      >>> _words({"runs": 3, "primal": [0.123456, 2], "of": {"a": None}})
      'runs 3; primal 0.123, 2; of (a –)'
    """
    if isinstance(value, Mapping):
        parts = (
            f"{label(str(k))} ({_words(v)})"
            if isinstance(v, Mapping)
            else f"{label(str(k))} {_words(v)}"
            for k, v in value.items()
        )
        return "; ".join(parts) or NOTHING
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value)) or NOTHING
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value))
    return number(value) or NOTHING


def facts(section: Section, cells: list[Cell]) -> dict[str, str]:
    """The facts under a section's title."""
    attrs, dataset = section.dataset.attrs, section.dataset
    runs = sum(len(c.where) for c in cells)
    lost = sum(int((c.diverged_at >= 0).sum()) for c in cells)
    optimizers = count(len(cells), "optimizer")
    shown: dict[str, Any] = {
        "Runs": f"{count(runs, 'run')} of {optimizers}; {f'{lost:,}' if lost else 'none'} diverged",
        "Game": attrs.get("game"),
        "Recipe": attrs.get("recipe_name"),
    }
    if "steps" in attrs:
        whole = attrs["steps"]
        last = int(dataset["last_step"].min()) if "last_step" in dataset else whole
        shown["Steps"] = integer(whole) if last == whole else f"{integer(last)} of {integer(whole)}"
    shown["Reference point x*"] = attrs.get("x_star")
    return {k: _words(v) for k, v in shown.items() if v is not None}


def run_table(cells: list[Cell]) -> dict[str, Any]:
    """Every run's seed, hyperparameters, late norms and outcome, up to :data:`MAX_RUNS` rows."""
    names = list(dict.fromkeys(n for c in cells for h in c.hyperparameters for n in h))
    each = max(MAX_RUNS // max(len(cells), 1), 1)
    rows = []
    for cell in cells:
        for run in _first(cell, each):
            values, diverged_at = cell.hyperparameters[run], int(cell.diverged_at[run])
            rows.append(
                {
                    "optimizer": cell.name,
                    "seed": integer(cell.seeds[run]),
                    "values": [setting(values.get(n)) for n in names],
                    "diverged": integer(diverged_at) if diverged_at >= 0 else "",
                    "gate": {0.0: "fails", 1.0: "passes"}.get(float(cell.passes[run]), NOTHING),
                    **{player: number(float(cell.late[player][run])) for player in PLAYERS},
                }
            )
    return {
        "names": [label(n).capitalize() for n in names],
        "rows": rows,
        "gate": any(np.isfinite(c.passes).any() for c in cells),
        "total": sum(len(c.where) for c in cells),
        "each": each,
    }


def _first(cell: Cell, most: int) -> list[int]:
    """Chooses up to ``most`` runs: diverged ones, the shown setting's, then the others."""
    shown, lost = set(cell.shown.runs), cell.diverged_at >= 0
    ranked = sorted(range(len(lost)), key=lambda run: (not lost[run], run not in shown, run))
    return sorted(ranked[:most])


def origin(section: Section) -> dict[str, Any]:
    """Facts to reproduce the section's runs."""
    manifest = section.manifest
    shown = {
        "Run directory": manifest.get("directory"),
        "Created": manifest.get("created"),
        "Training time": duration(manifest["seconds"]) if "seconds" in manifest else None,
        "Runs per compiled program": manifest.get("width"),
        **{label(str(k)).capitalize(): v for k, v in (manifest.get("platform") or {}).items()},
    }
    recipe = manifest.get("recipe") or {}
    return {
        "command": str(manifest.get("command") or ""),
        "facts": {k: _words(v) for k, v in shown.items() if v is not None},
        "versions": {str(k): str(v) for k, v in (manifest.get("versions") or {}).items()},
        "recipe": json.dumps(recipe, indent=2, default=str, ensure_ascii=False),
    }
