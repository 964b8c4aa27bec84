"""The table of sample quality, and the rule of the quality gate in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from onesided_jax.report._section import Cell, Section, median
from onesided_jax.report._text import NOTHING, integer, number, settings, spread

COLUMNS = {
    "modes": "Modes covered",
    "high_quality": "High-quality samples",
    "frechet": "Fréchet distance",
    "precision": "Precision",
    "recall": "Recall",
    "class_coverage": "Classes covered",
    "class_entropy": "Class entropy",
    "label_accuracy": "Samples of the requested class",
    "fid": "FID (Inception)",
}
COLUMNS |= {f"raw_{name}": f"{title}, last iterate" for name, title in COLUMNS.items()}
"""A sweep with a moving average has measures of the average and of the last iterate."""
_MAX_FAILURES = 60


def quality_table(section: Section, cells: list[Cell]) -> dict[str, Any] | None:
    """Notes, one row per optimizer, and failures; None without measures and notes."""
    ds = section.dataset
    shown = [name for name in COLUMNS if f"quality_{name}" in ds]
    note = str(ds.attrs.get("quality_note", ""))
    if not shown and not note:
        return None
    judged = "quality_gate" in ds
    rows = []
    for cell in cells if shown else []:
        runs = cell.shown.runs
        passes = f"{int((cell.passes[runs] == 1).sum())} of {len(runs)}"
        measures = (ds[f"quality_{name}"].sel(optimizer=cell.name) for name in shown)
        values = [_median(m.mean("evaluation").values[cell.where[runs]]) for m in measures]
        rows.append(
            {
                "optimizer": cell.name,
                "settings": settings(cell.shown.hyperparameters),
                "passes": passes if judged else NOTHING,
                "values": values,
            }
        )
    failures = _failures(section, cells)
    facts = {
        str(name).removeprefix("quality_"): value
        for name, value in ds.attrs.items()
        if str(name).startswith("quality_")
    }
    return {
        "judged": judged,
        "note": note[:1].upper() + note[1:],
        "sentences": [*_rule(facts), *_measured(facts)],
        "columns": [COLUMNS[name] for name in shown],
        "rows": rows,
        "failures": failures[:_MAX_FAILURES],
        "failed": len(failures),
    }


def _median(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (None, None)
    return spread(float(median(values)), low, high, "({} to {})")


def _failures(section: Section, cells: list[Cell]) -> list[dict[str, str]]:
    """All runs that fail the gate, with reasons."""
    ds, out = section.dataset, []
    for cell in cells if "quality_gate_reason" in ds else ():
        reasons = ds["quality_gate_reason"].sel(optimizer=cell.name).values[cell.where]
        for run, reason in enumerate(map(str, reasons)):
            row = {
                "optimizer": cell.name,
                "seed": integer(cell.seeds[run]),
                "settings": settings(cell.hyperparameters[run]),
                "reason": reason[:1].upper() + reason[1:],
            }
            out += [row] * bool(reason)
    return out


def _measured(facts: dict[str, Any]) -> list[str]:
    """Sentences on samples, classifier and features."""
    out = []
    if "samples" in facts:
        out.append(
            f"Each run’s last generator drew {facts.get('seeds', 1)} × {integer(facts['samples'])}"
            " samples. The table shows medians over runs (and their range)."
        )
    if "classifier_accuracy" in facts:
        out.append(
            "Features come from a small classifier of the real data, which is correct on"
            f" {facts['classifier_accuracy']:.1%} of {integer(facts['classifier_held_out'])}"
            " held-out images. Its distances cannot be compared with an FID."
        )
    if "frechet_of_halves" in facts:
        out.append(
            "The Fréchet distance between two halves of the real data is"
            f" {number(facts['frechet_of_halves'])}."
        )
    if "inception" in facts:
        out.append(f"The FID uses {facts['inception']} on the same number of samples.")
    return out


def _rule(facts: dict[str, Any]) -> list[str]:
    """The limits of the gate in words."""
    limit = {k.removeprefix("gate_"): v for k, v in facts.items() if k.startswith("gate_")}
    if "modes" in limit:
        return [
            f"A run passes if at least {limit['modes']:.0%} of the modes are covered and"
            f" {limit['high_quality']:.0%} of its samples lie within 3 standard deviations of a"
            " mean."
        ]
    if "frechet" in limit:
        return [
            f"A run passes if its Fréchet distance is at most {number(limit['frechet'])} and its"
            f" class entropy at least {limit['class_entropy']:.0%} of the largest possible."
        ]
    return []
