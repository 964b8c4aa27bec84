"""From committed tables to verdicts: one function per claim, on the package's own judge."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from _tables import read_table, write_table

from _registered.design import DATA, Scale, criteria, windows
from onesided_jax import Criteria, PrimalDual
from onesided_jax.analysis import quality_gate
from onesided_jax.analysis.estimators import Change, SquaredNorm, change_of_norm
from onesided_jax.analysis.gate import Gate
from onesided_jax.analysis.inference import t_interval
from onesided_jax.analysis.judge import judge_negative_mass, judge_ratio, span
from onesided_jax.analysis.minty import CONTROLS, MintyTest, negative_mass
from onesided_jax.analysis.verdict import Runs, convergence_verdict, minty_verdict

Row = dict[str, Any]
NAMES = PrimalDual("generator", "discriminator")
ARM = "alternating_adam"  # claim 1's and claim 3's
FORMS = ("after trained", "before", "after")
SAYS = {"supported": "lowers", "refuted": "raises", "undecided": "is not seen to change"}
RESAMPLES = 2000
NOT_RUN = "Not run yet."


class Tables:
    """Every committed table of one kind, by arm and data set; pieces of seeds are put together."""

    def __init__(self, results: Path, kind: str):
        self.rows: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
        for path in sorted(results.glob(f"*-*-*-*/{kind}.csv")):
            arm, data, *_ = path.parent.name.split("-")
            self.rows[arm, data] += read_table(path)

    def columns(self, arm: str, data: str, most: int | None = None) -> dict[str, np.ndarray]:
        """Column to values, for the first ``most`` seeds; empty if nothing was measured."""
        rows = self.rows.get((arm, data), [])
        seeds = sorted({int(row["seed"]) for row in rows})[:most]
        rows = sorted((r for r in rows if int(r["seed"]) in seeds), key=lambda r: int(r["seed"]))
        return {name: np.array([_value(row[name]) for row in rows]) for name in (rows or [{}])[0]}


def _value(text: str) -> Any:
    if text in ("yes", "no"):
        return text == "yes"
    try:
        return float(text)
    except ValueError:
        return text


def write_verdicts(results: Path, scale: Scale) -> list[Row]:
    """``verdicts.csv`` with a sentence per claim and data set, and ``sensitivity.csv``."""
    tables = {kind: Tables(results, kind) for kind in ("norms", "runs", "blocks", "mvi")}
    found = {data for arm, data in tables["runs"].rows if data not in DATA}  # at small size
    sets = sorted(found) or list(DATA)
    rows, more = [], []
    for data in sets:
        rows.append(claim_1(tables, data, scale))
        more += sensitivity(tables, data, scale)
    for arm in ("frozen", "adam"):
        rows.append(claim_1(tables, sets[0], scale, arm))
    rows += claim_2(tables, sets[0], scale)
    for data in sets:
        rows += claim_3(tables, data, scale)
    write_table(results / "verdicts.csv", rows)
    if more:
        write_table(results / "sensitivity.csv", more)
    return rows


def _row(claim: str, arm: str, data: str, verdict: Any = None, **facts: Any) -> Row:
    row: Row = {"claim": claim, "arm": arm, "data": data}
    if verdict is None:
        return row | {"status": "not run", "sentence": NOT_RUN, **facts}
    low, high = verdict.interval
    return row | {
        "status": verdict.status,
        "effect": span(verdict.effect, low, high),
        "seeds": verdict.numbers["runs"],
        "sentence": verdict.sentence,
        **facts,
    }


# ---- claim 1 ----


def look(seeds: int, scale: Scale) -> int | None:
    """How many seeds a look judges; all of them if there are too few for the first."""
    reached = [count for count, _ in scale.looks if seeds >= count]
    return reached[-1] if reached else None


def by_checkpoint(norms: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns of ``norms.csv`` as ``[R, S]``: seeds by checkpoints."""
    order = np.lexsort((norms["checkpoint"], norms["seed"]))
    seeds = len(np.unique(norms["seed"]))
    return {name: values[order].reshape(seeds, -1) for name, values in norms.items()}


def change_of(norms: dict[str, np.ndarray], scale: Scale, player: str) -> Change:
    """Early and late norms of every seed; windows are fixed by the checkpoints' numbers."""
    columns = by_checkpoint(norms)
    masks = (np.isin(columns["checkpoint"][0], window) for window in windows(scale))
    return change_of_norm(SquaredNorm(columns[player], columns[f"{player}_se"]), *masks)


def _at_look(tables: dict[str, Tables], arm: str, data: str, scale: Scale) -> Any:
    """``(runs, norms, criteria)`` of the seeds that are judged, or None if there are none."""
    count = look(len(tables["runs"].columns(arm, data).get("seed", ())), scale)
    runs = tables["runs"].columns(arm, data, count)
    if not runs:
        return None
    return (
        runs,
        tables["norms"].columns(arm, data, count),
        criteria(data, scale, len(runs["seed"])),
    )


def claim_1(tables: dict[str, Tables], data: str, scale: Scale, arm: str = ARM) -> Row:
    """Only the generator converges: three ratios, three boundaries."""
    judged = _at_look(tables, arm, data, scale)
    if judged is None:
        return _row("1", arm, data)
    runs, norms, rules = judged
    change = PrimalDual(*(change_of(norms, scale, player) for player in PrimalDual._fields))
    who = Runs(arm, {}, runs["seed"].astype(int), runs["diverged"].astype(bool), NAMES)
    missing = []
    if arm != ARM:
        rules, missing = dataclasses.replace(rules, min_seeds=2), ["registered without a verdict"]
    verdict = convergence_verdict(who, change, _gate(runs, rules), missing, rules)
    passing = verdict.numbers["passing"]
    facts = {name: span(*verdict.numbers[name]) for name in ("dual", "parting")}
    return _row("1", arm, data, verdict, **facts, passing=passing and passing["runs"])


def _gate(runs: dict[str, np.ndarray], rules: Criteria) -> Gate:
    measures = {name: runs[name] for name in ("frechet", "class_entropy")}
    return quality_gate(measures, criteria=rules, diverged=runs["diverged"])


def sensitivity(tables: dict[str, Tables], data: str, scale: Scale) -> list[Row]:
    """Registered beside the verdict: signs, a bootstrap, and a look free of an early window."""
    judged = _at_look(tables, ARM, data, scale)
    if judged is None:
        return []
    runs, norms, rules = judged
    alive = ~runs["diverged"].astype(bool)
    norms = {k: v[np.isin(norms["seed"], runs["seed"][alive])] for k, v in norms.items()}
    runs = {k: v[alive] for k, v in runs.items()}
    primal, dual = (change_of(norms, scale, player).ratio for player in PrimalDual._fields)
    right = (primal < rules.generator_falls) & (dual > rules.discriminator_stays)
    right &= dual / primal > rules.parting
    found = {"seeds on the right side of all three": f"{right.sum()} of {right.size}"}
    found |= {f"{name}, bootstrap": span(*v) for name, v in _bootstrap(norms, scale).items()}
    for player, name in zip(PrimalDual._fields, NAMES, strict=True):
        floor = 2 * np.maximum(runs[f"end_{player}_se"], runs[f"fresh_{player}_se"])
        end, fresh = (np.maximum(runs[f"{k}_{player}"], floor) for k in ("end", "fresh"))
        ratio = np.exp(t_interval(np.log(end / fresh) / 2, level=rules.confidence))
        words = f"{name}'s norm at the end, over that of its start against the same opponent"
        mean, low, high = ratio.tolist()
        found[words] = span(mean, low, high)
    return [{"data": data, "what": what, "value": value} for what, value in found.items()]


def _bootstrap(norms: dict[str, np.ndarray], scale: Scale) -> dict[str, Any]:
    """Seeds by checkpoints resampled: median, 2.5 % and 97.5 % points of the geometric means."""
    rng, draws = np.random.default_rng(14213), []
    columns = by_checkpoint(norms)
    seeds = len(columns["seed"])
    parts = [np.flatnonzero(np.isin(columns["checkpoint"][0], w)) for w in windows(scale)]
    masks = [np.repeat([i == 0, i == 1], [len(p) for p in parts]) for i in range(2)]
    for _ in range(RESAMPLES):
        chosen = np.concatenate([rng.choice(part, len(part)) for part in parts])
        at, logs = np.ix_(rng.integers(seeds, size=seeds), chosen), []
        for player in PrimalDual._fields:
            norm = SquaredNorm(columns[player][at], columns[f"{player}_se"][at])
            logs.append(np.log(change_of_norm(norm, *masks).ratio).mean())
        draws.append([*logs, logs[1] - logs[0]])
    points = np.exp(np.percentile(draws, [50, 2.5, 97.5], axis=0)).T
    return dict(zip(("R_G", "R_D", "R_D / R_G"), map(tuple, points.tolist()), strict=True))


# ---- claim 2 ----


def claim_2(tables: dict[str, Tables], data: str, scale: Scale) -> list[Row]:
    """Does looking ahead on x alone calm the generator, and what becomes of the samples?"""
    pair = ("amsgrad", "amsgrad_xeg")
    runs = [tables["runs"].columns(arm, data, scale.pair_look[0]) for arm in pair]
    if not all(runs):
        return [_row("2", "amsgrad_xeg", data)]
    common = sorted(set.intersection(*(set(r["seed"][~r["diverged"].astype(bool)]) for r in runs)))
    rules = criteria(data, scale, len(common), pair=True)
    rows, late = [], []
    for arm in pair:
        norms = tables["norms"].columns(arm, data, scale.pair_look[0])
        seeds = np.unique(norms["seed"])
        late.append(change_of(norms, scale, "primal").of(np.isin(seeds, common)))
    no = np.zeros(len(common), bool)
    plain, ahead = (r["frechet"][np.isin(r["seed"], common)] for r in runs)
    for name, change in (
        ("late generator norm", _against(*late)),
        ("Fréchet distance", Change(plain, ahead, no, no)),
    ):
        finite = np.isfinite(np.log(change.ratio))
        count = int(finite.sum())
        status, part = judge_ratio(change.of(finite), 1.0, rules)
        sentence = f"Looking ahead on x alone {SAYS[status]} the {name}: {part} of plain AMSGrad's."
        if count < rules.min_seeds:
            status = "undecided"
            sentence = f"Undecided: {count} pairs, {rules.min_seeds} needed. The {name} is {part}."
        facts = {"status": status, "effect": str(part), "seeds": count, "sentence": sentence}
        rows.append({"claim": "2", "arm": pair[1], "data": data, "what": name, **facts})
    return [*rows, *(_stream(tables, arm, data, scale, rules) for arm in pair[::-1])]


def _against(plain: Change, ahead: Change) -> Change:
    """One method's late norms over another's, as a change."""
    return Change(plain.late, ahead.late, plain.late_floored, ahead.late_floored)


def _stream(tables: dict[str, Tables], arm: str, data: str, scale: Scale, rules: Criteria) -> Row:
    """The premise along the run: the streamed sum, by blocks between checkpoints."""
    blocks = tables["blocks"].columns(arm, data, scale.pair_look[0])
    runs = tables["runs"].columns(arm, data, scale.pair_look[0])
    sums = [blocks["sum"][blocks["seed"] == seed] for seed in np.unique(blocks["seed"])]
    masses = np.array([negative_mass(block) for block in sums])
    _, part, _ = judge_negative_mass(masses, np.zeros_like(masses), {}, rules)
    positive = sum(bool(block.sum() > 0) for block in sums)
    sentence = (
        f"The streamed sum of the MVI is positive in {positive} of {len(sums)} runs;"
        f" blocks of {scale.every} steps with a negative sum hold {part.percent()}."
    )
    if "steps_over_allowed" in runs:
        logs = t_interval(np.log(runs["steps_over_allowed"]), level=rules.confidence)
        times = np.exp(logs).tolist()
        words = "times those the theorem allows, by one minibatch's curvature at the end"
        sentence += f" Steps are {span(*times)} {words}."
    facts = {"status": "reported", "effect": str(part), "seeds": len(sums), "sentence": sentence}
    return {"claim": "2", "arm": arm, "data": data, "what": "streamed MVI", **facts}


# ---- claim 3 ----


def claim_3(tables: dict[str, Tables], data: str, scale: Scale) -> list[Row]:
    """The one-sided MVI after training: a twin's end as x*, and both sides of x at half time."""
    table = tables["mvi"].columns(ARM, data)
    if not table:
        return [_row("3", ARM, data)]
    count = look(len(set(table["seed"])), scale)
    table = tables["mvi"].columns(ARM, data, count)
    rules = criteria(data, scale, len(set(table["seed"])))
    rows = []
    for form in FORMS:
        mask = table["form"] == form
        of_form = {name: values[mask] for name, values in table.items()}
        tests = [_test({k: v[i] for k, v in of_form.items()}) for i in range(int(mask.sum()))]
        seeds = of_form["seed"].astype(int)
        who = Runs(ARM, {}, seeds, np.zeros(len(seeds), bool), NAMES)
        verdict = minty_verdict(who, tests, "end of the run", [], rules)
        necessary = span(*verdict.numbers["necessary"])
        facts = {"what": form, "necessary": necessary, "cosine": span(*verdict.numbers["cosine"])}
        facts |= {name: f"{mass:.2g}" for name, mass in verdict.numbers["controls"].items()}
        rows.append(_row("3", ARM, data, verdict, **facts))
    return [_all_forms(rows), *rows]


def _all_forms(rows: list[Row]) -> Row:
    """All forms must hold: drift alone passes the first two, and fails the last."""
    order = ("refuted", "undecided", "supported")
    worst = min(rows, key=lambda row: order.index(row["status"]))
    sentence = f"In the form that decides, {worst['what']!r}: {worst['sentence']}"
    return {**worst, "what": "all forms", "sentence": sentence}


def _test(row: dict[str, Any]) -> MintyTest:
    """What a row of ``mvi.csv`` keeps of a test; its matrices are empty."""
    none = np.empty((0, 0))
    controls = {n: float(row[n]) for n in CONTROLS if not math.isnan(row.get(n, math.nan))}
    names = ("negative_mass", "noise_mass", "mean_cosine")
    mass, noise, cosine = (float(row[name]) for name in names)
    return MintyTest(none, none, none, np.array([row["necessary"]]), mass, noise, cosine, controls)
