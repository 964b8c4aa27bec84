"""P6 to P8, and other pairs of arms: late gradient norms and samples, paired within seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from _design import AVERAGED, FAST, FROZEN
from _jobs import Row, Rows
from _measure import Norms
from _show import word

from onesided_jax.analysis.estimators import loglog_slope
from onesided_jax.analysis.inference import Interval
from onesided_jax.analysis.verdict import Holds, decide, interval_over_seeds, span
from onesided_jax.runs import Criteria

WORSE = 1.1  # P6: Fréchet distance over the other arm's, from which samples are worse
ALIKE = (0.8, 1.25)  # P8: late norm over the other arm's, within which two arms are alike

DECAY = "amsgrad_eg_drd power="
HALF = f"{DECAY}0.5"
PAIRS = (
    *(("decay", f"{DECAY}{power:g}", "amsgrad_eg") for power in (0.25, 0.5, 1.0)),
    ("decay, extragradient", HALF, "amsgrad"),
    ("x-only", "amsgrad_xeg", HALF),
    ("x-only", "amsgrad_xeg", "amsgrad"),
    ("x-only, same rates", "amsgrad_xeg", FAST),
    ("extragradient", "amsgrad_eg", "amsgrad"),
    ("AMSGrad", "amsgrad", "adam_b1_0"),
    ("momentum", "adam_b1_0", "adam"),
    ("x-only, AMSGrad, rates", "amsgrad_xeg", "adam"),
    ("TTUR", "adam_ttur", "adam"),
    ("freezing", FROZEN, "adam"),
    ("averaging", AVERAGED, "adam"),
)
"""What differs, an arm, the arm it is compared with."""

BySeed = Mapping[int, float]  # NaN: no number; a diverged seed is not there


class Ratio(NamedTuple):
    """One arm over another: seeds that neither diverged in, geometric mean of their ratios."""

    seeds: int
    interval: Interval


Ratios = Mapping[tuple[str, str], Ratio]  # of (arm, other arm), where both are measured


def compare_arms(
    arms: Mapping[str, Norms], quality: Rows, criteria: Criteria, total_steps: int
) -> dict[str, list[Row]]:
    """Tables of comparisons, of predictions that rest on them (P6, P8), and of rates (P7)."""
    late, samples = _ratios(arms, quality, criteria, total_steps)
    return {
        "comparisons": _comparisons(late, samples),
        "predictions": _predictions(late, samples, criteria),
        "rates": _rates(arms, criteria, total_steps),
    }


def _comparisons(norms: Ratios, frechet: Ratios) -> list[Row]:
    """A row per pair of arms of which something is measured."""
    rows: list[Row] = []
    for what, one, other in PAIRS:
        found = [of.get((one, other)) for of in (norms, frechet)]
        there = [ratio for ratio in found if ratio]
        if there:
            row: Row = {"what": what, "arm": one, "against": other, "seeds": there[0].seeds}
            shown = [span(ratio.interval) if ratio else "" for ratio in found]
            rows.append(row | dict(zip(("late_norm_ratio", "frechet_ratio"), shown, strict=True)))
    return rows


def _predictions(norms: Ratios, frechet: Ratios, criteria: Criteria) -> list[Row]:
    """P6 and P8, where their arms are measured."""
    decay, samples = (of.get((HALF, "amsgrad_eg")) for of in (norms, frechet))
    like_decay, like_plain = (norms.get(("amsgrad_xeg", arm)) for arm in (HALF, "amsgrad"))
    rows: list[Row] = []
    if decay and samples:
        rows.append({"prediction": "P6", "verdict": word(p6(decay, samples, criteria))})
    if like_decay and like_plain:
        rows.append({"prediction": "P8", "verdict": word(p8(like_decay, like_plain, criteria))})
    return rows


def p6(norms: Ratio, frechet: Ratio, criteria: Criteria) -> Holds:
    """Decay gives a lower late norm than constant rates, and samples not worse by a tenth."""
    return decide(
        min(norms.seeds, frechet.seeds) >= criteria.min_seeds,
        supported=norms.interval.high < 1 and frechet.interval.high < WORSE,
        refuted=norms.interval.low > 1,
    )


def p8(decay: Ratio, plain: Ratio, criteria: Criteria) -> Holds:
    """The x-only form is like dual rate decay and unlike plain AMSGrad; refuted if the reverse."""
    return decide(
        min(decay.seeds, plain.seeds) >= criteria.min_seeds,
        supported=_alike(decay.interval) and _unlike(plain.interval),
        refuted=_unlike(decay.interval) and _alike(plain.interval),
    )


def _alike(ratio: Interval) -> bool:
    return ALIKE[0] < ratio.low and ratio.high < ALIKE[1]


def _unlike(ratio: Interval) -> bool:
    """All of the interval is outside; an interval that straddles a limit is neither."""
    return ratio.high < ALIKE[0] or ratio.low > ALIKE[1]


def _ratios(
    arms: Mapping[str, Norms], quality: Rows, criteria: Criteria, total_steps: int
) -> list[Ratios]:
    """Of late norms, and of Fréchet distances where the same classifier has seen both arms."""
    late = {name: late_norm(norms, criteria, total_steps) for name, norms in arms.items()}
    frechet = {
        name: {int(r["seed"]): float(r["frechet"]) for r in rows if r["diverged"] == "no"}
        for name, rows in quality.items()
    }
    seen_by = {name: {row["classifier"] for row in rows} for name, rows in quality.items()}
    return [
        {
            (one, other): paired_ratio(of[one], of[other], criteria)
            for _, one, other in PAIRS
            if one in of and other in of and (of is late or seen_by[one] == seen_by[other])
        }
        for of in (late, frechet)
    ]


def late_norm(norms: Norms, criteria: Criteria, total_steps: int) -> BySeed:
    """Median primal norm in the late window; NaN if its square is not above 0."""
    low, high = (w * total_steps for w in criteria.late_window)
    inside = (norms.steps >= low) & (norms.steps <= high)
    squared = np.median(norms.primal.value[:, inside], axis=1)
    found = np.sqrt(np.where(squared > 0, squared, np.nan))
    there = zip(norms.seeds, found, norms.diverged, strict=True)
    return {seed: float(value) for seed, value, diverged in there if not diverged}


def paired_ratio(one: BySeed, other: BySeed, criteria: Criteria) -> Ratio:
    """Geometric mean of the ratios within seeds; without a number if one seed gives none."""
    seeds = sorted(one.keys() & other.keys())
    ratios = np.array([one[seed] / other[seed] for seed in seeds])
    return Ratio(len(seeds), geometric_mean(ratios, criteria))


def geometric_mean(ratios: np.ndarray, criteria: Criteria) -> Interval:
    """Of one ratio per seed; without a number if one seed gives none, or 0."""
    with np.errstate(divide="ignore"):
        logs = np.log(ratios)
    return Interval(*np.exp(interval_over_seeds(logs, criteria)).tolist())


def _rates(arms: Mapping[str, Norms], criteria: Criteria, total_steps: int) -> list[Row]:
    """P7, descriptive: log-log slope of the running mean of the squared primal norm under decay.

    Beside it, for comparison, the slopes of pure powers of the step, ``t^-power`` (T5's freezing
    alone) and ``t^-min(2 power, 1)`` (the one-sided MVI), at the same checkpoints: a running mean
    over few of them falls more slowly than its power.
    """
    rows: list[Row] = []
    for name, norms in arms.items():
        _, decays, power = name.partition(DECAY)
        if not decays:
            continue
        later = norms.steps > 0
        steps = norms.steps[later]
        powers = np.array([[-float(power)], [-min(2 * float(power), 1.0)]])
        value = np.concatenate([steps**powers, norms.primal.value[np.ix_(~norms.diverged, later)]])
        mean = np.cumsum(value, 1) / np.arange(1, len(steps) + 1)
        freezing, one_sided_mvi, *slopes = loglog_slope(
            steps, mean, np.zeros_like(mean), window=criteria.slope_window,
            bins=criteria.slope_bins, total_steps=total_steps, exact=False,
        )  # fmt: skip
        row: Row = {"arm": name, "seeds": len(slopes)}
        row["slope"] = span(interval_over_seeds(slopes, criteria))
        rows.append(row | {"freezing": freezing, "one_sided_mvi": one_sided_mvi})
    return rows
