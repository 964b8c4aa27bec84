"""Claim 1 judged from tables: the quality gate, P1 to P4, and how they depend on thresholds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from _compare import geometric_mean
from _design import CONTROLS, varied
from _jobs import Row, Rows, grouped
from _measure import Norms, late_over, norms_of
from _show import word

from onesided_jax.analysis.convergence_verdict import one_sided_convergence
from onesided_jax.analysis.gate import Gate, gate_of_runs, quality_gate
from onesided_jax.analysis.verdict import Verdict, interval_over_seeds, span
from onesided_jax.runs import Criteria

_NOT_JUDGED = ("amsgrad_eg_drd", *CONTROLS)  # what begins so is shown, and not judged


class Judged(NamedTuple):
    """Arms with their norms, the verdict on each, and tables by name."""

    arms: dict[str, Norms]
    verdicts: dict[str, Verdict]
    tables: dict[str, list[Row]]


def judge(norm_rows: Rows, quality: Rows, criteria: Criteria, total_steps: int) -> Judged:
    """The verdict on every arm, and the tables behind it.

    Args:
      norm_rows: tables of norms.
      quality: the samples of the arms, and of others that the gate compares them with.
      criteria: thresholds.
      total_steps: of training.
    """
    arms = {name: norms_of(rows) for name, rows in norm_rows.items()}
    gates = judge_quality(quality, criteria)
    verdicts = {
        name: _verdict(name, norms, gates.get(name), criteria, total_steps)
        for name, norms in arms.items()
    }
    passing = map(_passing_row, verdicts.values())
    tables = {
        "levels": _levels(norm_rows, criteria, total_steps),
        "verdicts": [_verdict_row(verdict) for verdict in verdicts.values()],
        "passing": [row for row in passing if row],
        "geometric": [_geometric_row(verdict, criteria) for verdict in verdicts.values()],
        "windows": _windows(arms, criteria, total_steps),
        "sensitivity": _sensitivity(arms, gates, verdicts, criteria, total_steps),
        "gate_sensitivity": _gate_sensitivity(arms, quality, criteria, total_steps),
        "quality": _quality_rows(quality, gates),
        "gate": _gate_rows(quality, gates),
    }
    return Judged(arms, verdicts, tables)


def judge_quality(quality: Rows, criteria: Criteria) -> dict[str, Gate]:
    """The gate of every arm; over all arms together, without the controls."""
    judged = {name: rows for name, rows in quality.items() if name not in CONTROLS}
    if not judged:
        return {}
    rows = list(itertools.chain.from_iterable(judged.values()))
    sizes = [len(found) for found in judged.values()]
    gate = quality_gate(
        {name: [float(row[name]) for row in rows] for name in ("frechet", "class_entropy")},
        criteria=criteria,
        arms=np.repeat(np.arange(len(sizes)), sizes),
        diverged=[row["diverged"] == "yes" for row in rows],
    )
    places = np.split(np.arange(len(rows)), np.cumsum(sizes)[:-1])
    return {name: gate_of_runs(gate, where) for name, where in zip(judged, places, strict=True)}


def _gate_rows(quality: Rows, gates: Mapping[str, Gate]) -> list[Row]:
    """The samples of every run, and whether and why they pass."""
    rows: list[Row] = []
    for name, found in quality.items():
        gate = gates.get(name)
        for i, row in enumerate(found):
            judged: Row = {"gate": "", "reason": "a control"}
            if gate is not None and gate.passes is not None:
                judged = {"gate": bool(gate.passes[i]), "reason": gate.reasons[i]}
            rows.append({**row, **judged})
    return rows


def _verdict(
    name: str, norms: Norms, gate: Gate | None, criteria: Criteria, total_steps: int
) -> Verdict:
    return one_sided_convergence(
        optimizer=name, hyperparameters={}, steps=norms.steps, total_steps=total_steps,
        primal=norms.primal, dual=norms.dual, diverged=norms.diverged, criteria=criteria,
        constant_rates=_judged(name), exact=False,
        quality_gate=gate,
    )  # fmt: skip


def _judged(name: str) -> bool:
    return not name.startswith(_NOT_JUDGED)


def _verdict_row(verdict: Verdict) -> Row:
    name, parts = verdict.optimizer, verdict.details
    row: Row = {"arm": name, "seeds": verdict.runs, **_statistics(name, parts)}
    row["P4"] = word(parts["P4"]["holds"]) if "P4" in parts else "no gate"
    row["passing"] = parts["P4"]["passing_seeds"] if "P4" in parts else ""
    row["verdict"] = word(verdict.holds)
    row["reason"] = "a control" if name in CONTROLS else verdict.reason
    return row if _judged(name) else row | {"P4": "", "verdict": "not judged"}


def _passing_row(verdict: Verdict) -> Row | None:
    """The same statistics within the seeds that pass the gate."""
    part = verdict.details.get("P4")
    if not part or not part["passing_seeds"]:
        return None
    row: Row = {"arm": verdict.optimizer, "seeds": part["passing_seeds"]}
    return row | _statistics(verdict.optimizer, part["passing"])


def _geometric_row(verdict: Verdict, criteria: Criteria) -> Row:
    """Ratios once more, as geometric means: of these one seed out of line cannot be all."""
    seeds = verdict.details["seeds"]
    used = ~np.array(verdict.details["diverged"], bool)
    primal, dual = (np.array(seeds[f"{player}_ratio"])[used] for player in ("primal", "dual"))
    with np.errstate(divide="ignore", invalid="ignore"):
        both = dual / primal
    row: Row = {"arm": verdict.optimizer, "seeds": int(used.sum())}
    for name, ratios in (("primal", primal), ("dual", dual), ("dual_over_primal", both)):
        row[f"{name}_ratio"] = span(geometric_mean(ratios, criteria))
    return row


_EARLY = ((0.0, 0.0), (0.025, 0.1), (0.1, 0.3))  # shares of training, beside the planned one


def _windows(arms: Mapping[str, Norms], criteria: Criteria, total_steps: int) -> list[Row]:
    """Late norms over those of other early windows, the first checkpoint among them."""
    rows: list[Row] = []
    for name, norms in arms.items():
        row: Row = {"arm": name, "seeds": int((~norms.diverged).sum())}
        for early in sorted((criteria.early_window, *_EARLY)):
            low, high = (round(share * total_steps) for share in early)
            window = f"{low}_to_{high}" if high else "0"
            row |= ratio_columns(norms, early, criteria, total_steps, window)
        rows.append(row)
    return rows


def ratio_columns(
    norms: Norms, early: tuple[float, float], criteria: Criteria, total_steps: int, suffix: str
) -> Row:
    """Late over early norm of both players, and in how many seeds the dual's is the larger."""
    ratios = late_over(norms, early, criteria, total_steps)
    row: Row = {
        f"{player}_ratio_{suffix}": span(interval_over_seeds(ratio, criteria))
        for player, ratio in ratios.items()
    }
    return row | {f"above_{suffix}": int((ratios["dual"] > ratios["primal"]).sum())}


def _statistics(name: str, parts: Mapping[str, Any]) -> Row:
    row: Row = {}
    for part, statistic in (
        ("P1", "primal_ratio"), ("P1", "primal_slope"), ("P2", "dual_ratio"),
        ("P2", "dual_slope"), ("P3", "slope_difference"),
    ):  # fmt: skip
        row[statistic] = span(parts[part][statistic])
    row["ratio_of_ratios_share"] = parts["P3"]["ratio_of_ratios_share"]
    return row | {p: word(parts[p]["holds"]) if _judged(name) else "" for p in ("P1", "P2", "P3")}


_THRESHOLDS = (
    "primal_ratio_supported", "primal_ratio_refuted", "dual_ratio_supported",
    "dual_ratio_refuted", "dual_slope_supported", "ratio_of_ratios", "ratio_of_ratios_share",
)  # fmt: skip


def _sensitivity(
    arms: Mapping[str, Norms],
    gates: Mapping[str, Gate],
    verdicts: Mapping[str, Verdict],
    criteria: Criteria,
    total_steps: int,
) -> list[Row]:
    """The arms that are judged, every threshold halved and raised by half, and what changes."""

    def words(verdict: Verdict) -> Row:
        parts = {p: word(verdict.details[p]["holds"]) for p in ("P1", "P2", "P3", "P4")
                 if p in verdict.details}  # fmt: skip
        return parts | {"verdict": word(verdict.holds)}

    rows: list[Row] = []
    for name, (threshold, value, changed) in itertools.product(
        filter(_judged, arms), varied(criteria, _THRESHOLDS)
    ):
        said = words(_verdict(name, arms[name], gates.get(name), changed, total_steps))
        planned = words(verdicts[name])
        changes = [f"{part} {said[part]}" for part in said if said[part] != planned[part]]
        row: Row = {"arm": name, "threshold": threshold, "value": value, **said}
        rows.append(row | {"changes": ", ".join(changes)})
    return rows


_GATE_THRESHOLDS = ("gate_frechet_ratio", "gate_frechet_factor", "gate_class_entropy")


def _gate_sensitivity(
    arms: Mapping[str, Norms], quality: Rows, criteria: Criteria, total_steps: int
) -> list[Row]:
    """How many seeds pass, and P4, every threshold of the gate halved and raised by half.

    What cannot be asked for is left out: a distance below the best arm's, an entropy above log C.
    """
    rows: list[Row] = []
    for threshold, value, changed in varied(criteria, _GATE_THRESHOLDS):
        for name, gate in judge_quality(quality, changed).items():
            if name not in arms or gate.passes is None or not _judged(name):
                continue
            verdict = _verdict(name, arms[name], gate, criteria, total_steps)
            row: Row = {"arm": name, "threshold": threshold, "value": value}
            row["passing"] = int(gate.passes.sum())
            rows.append(row | {"P4": word(verdict.details["P4"]["holds"])})
    return rows


def _quality_rows(quality: Rows, gates: Mapping[str, Gate]) -> list[Row]:
    """The samples of every arm: means over seeds, and how many pass."""
    table: list[Row] = []
    for name, rows in quality.items():
        row: Row = {"arm": name, "seeds": len(rows)}
        row |= {score: float(np.mean([float(r[score]) for r in rows])) for score in _SCORES}
        row["classifier"] = rows[0]["classifier"]
        gate = gates.get(name)
        row["passing"] = "" if gate is None or gate.passes is None else int(gate.passes.sum())
        table.append(row)
    return table


_SCORES = ("frechet", "class_entropy", "class_coverage", "precision", "recall")
_LEVELS = ("primal", "dual", "primal_weights", "dual_weights", "primal_loss", "dual_loss")


def _levels(norm_rows: Rows, criteria: Criteria, total_steps: int) -> list[Row]:
    """Early and late norms of gradients and weights, and both losses: what else could have fallen.

    Medians over the checkpoints of a window, then over seeds. A norm per parameter is the norm
    over the square root of their number.
    """
    table: list[Row] = []
    for name, rows in norm_rows.items():
        row: Row = {"arm": name}
        for column in _LEVELS:
            for window in ("early", "late"):
                low, high = (w * total_steps for w in getattr(criteria, f"{window}_window"))
                medians = [
                    np.median([float(r[column]) for r in one if low <= int(r["step"]) <= high])
                    for one in grouped(rows, "seed").values()
                ]
                if column in ("primal", "dual"):
                    medians = np.sqrt(np.maximum(medians, 0))
                row[f"{column}_{window}"] = float(np.median(medians))
        for player in ("primal", "dual"):
            size = np.sqrt(int(rows[0][f"{player}_parameters"]))
            row[f"{player}_per_parameter"] = row[f"{player}_late"] / size
        table.append(row)
    return table
