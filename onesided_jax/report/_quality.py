"""The table of sample quality, and what it says of the gate."""

from __future__ import annotations

from typing import Any

import numpy as np

from onesided_jax.report._section import Cell, Section, median
from onesided_jax.report._text import NOTHING, integer, number, settings

__all__ = ["gate_column", "quality_table"]

COLUMNS = {
    "modes": "Modes covered",
    "high_quality": "High-quality samples",
    "frechet": "Fréchet distance",
    "precision": "Precision",
    "recall": "Recall",
    "class_coverage": "Classes covered",
    "class_entropy": "Class entropy",
    "label_accuracy": "Samples of the asked class",
    "fid": "FID (Inception)",
}
_MAX_FAILURES = 60


def quality_table(section: Section, cells: list[Cell]) -> dict[str, Any] | None:
    """What is known of the samples' quality: notes, a row per optimizer, and the failures.

    Returns:
      None where nothing was measured and nothing is to be said.
    """
    ds = section.dataset
    shown = [name for name in COLUMNS if f"quality_{name}" in ds]
    note = str(ds.attrs.get("quality_note", ""))
    if not shown and not note:
        return None
    judged = "quality_gate" in ds
    measures = {name: _per_run(section, cells, f"quality_{name}") for name in shown}
    passes = _per_run(section, cells, "quality_gate") if judged else {}
    rows = []
    for cell in cells if shown else []:
        runs = cell.shown.runs
        rows.append(
            {
                "optimizer": cell.name,
                "settings": settings(cell.shown.hyperparameters),
                "passes": f"{int((passes[cell.name][runs] == 1).sum())} of {len(runs)}"
                if judged
                else NOTHING,
                "values": [_spread(measures[name][cell.name][runs]) for name in shown],
            }
        )
    failures = _failures(section, cells)
    return {
        "judged": judged,
        "note": note[:1].upper() + note[1:],
        "sentences": [s for s in (*_measured(section), _rule(section)) if s],
        "columns": [COLUMNS[name] for name in shown],
        "rows": rows,
        "failures": failures[:_MAX_FAILURES],
        "failed": len(failures),
    }


def gate_column(section: Section, cells: list[Cell]) -> dict[str, list[str]] | None:
    """Per optimizer what the gate says of each run, in a word; None where there was none."""
    if "quality_gate" not in section.dataset:
        return None
    found = _per_run(section, cells, "quality_gate")
    words = {0.0: "fails", 1.0: "passes"}
    return {name: [words.get(float(v), NOTHING) for v in values] for name, values in found.items()}


def _per_run(section: Section, cells: list[Cell], name: str) -> dict[str, np.ndarray]:
    """Optimizer -> [runs], averaged over evaluation seeds."""
    values = section.dataset[name]
    if "evaluation" in values.dims:
        values = values.mean("evaluation")
    return {c.name: values.sel(optimizer=c.name).values[c.where] for c in cells}


def _spread(values: np.ndarray) -> dict[str, str]:
    finite = values[np.isfinite(values)]
    low, high = (number(finite.min()), number(finite.max())) if finite.size else ("", "")
    ends = f"{low} to {high}" if low != high else ""
    return {"middle": number(float(median(finite))) if finite.size else NOTHING, "range": ends}


def _failures(section: Section, cells: list[Cell]) -> list[dict[str, str]]:
    """The runs that do not pass, of every setting, each with its reason."""
    ds = section.dataset
    if "quality_gate_reason" not in ds:
        return []
    out = []
    for cell in cells:
        reasons = ds["quality_gate_reason"].sel(optimizer=cell.name).values[cell.where]
        for run, reason in enumerate(map(str, reasons)):
            if reason:
                seed = cell.seeds[run]
                out.append(
                    {
                        "optimizer": cell.name,
                        "seed": NOTHING if np.isnan(seed) else str(int(seed)),
                        "settings": settings(cell.hyperparameters[run]),
                        "reason": reason[:1].upper() + reason[1:],
                    }
                )
    return out


def _measured(section: Section) -> list[str]:
    """What was compared with what."""
    facts = {
        str(name).removeprefix("quality_"): value
        for name, value in section.dataset.attrs.items()
        if str(name).startswith("quality_")
    }
    out = []
    if "samples" in facts:
        out.append(
            f"Each run’s last generator was measured on {facts.get('seeds', 1)} ×"
            f" {integer(facts['samples'])} samples; the table shows medians over runs, and below"
            " them the range."
        )
    if "classifier_accuracy" in facts:
        out.append(
            "Features are those of a small classifier trained on the real data, right on"
            f" {facts['classifier_accuracy']:.1%} of {integer(facts['classifier_held_out'])}"
            " held-out images, scaled to a total variance of 1 on the real data: not comparable"
            " with an FID."
        )
    if "frechet_of_halves" in facts:
        out.append(
            "Two halves of the real data are at a Fréchet distance of"
            f" {number(facts['frechet_of_halves'])}."
        )
    if "inception" in facts:
        out.append(f"The FID is that of {facts['inception']}, on as many samples.")
    return out


def _rule(section: Section) -> str:
    """The gate's thresholds in words."""
    attrs = section.dataset.attrs
    limit = {
        str(name).removeprefix("quality_gate_"): float(value)
        for name, value in attrs.items()
        if str(name).startswith("quality_gate_")
    }
    if "modes" in limit:
        return (
            f"A run passes if at least {limit['modes']:.0%} of the modes are covered and"
            f" {limit['high_quality']:.0%} of its samples lie within 3 standard deviations of a"
            " mean."
        )
    if "frechet" in limit:
        return (
            f"A run passes if its Fréchet distance is at most {number(limit['frechet'])} and the"
            f" entropy of its predicted classes is at least {limit['class_entropy']:.0%} of the"
            " largest possible."
        )
    return ""
