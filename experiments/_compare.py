"""P6 to P8, and other pairs of arms: late gradient norms and samples, paired within seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from _jobs import Row
from _measure import Norms
from _show import span, word

from onesided_jax.analysis.estimators import Array, loglog_slope
from onesided_jax.analysis.inference import Interval, t_interval
from onesided_jax.runs import Criteria

FROZEN, AVERAGED = "adam_dual_frozen", "adam_ema"
WORSE = 1.1  # P6: Fréchet distance over the other arm's, from which samples are worse
ALIKE = (0.8, 1.25)  # P8: late norm over the other arm's, within which two arms are alike

_DECAY, _HALF = "amsgrad_eg_drd power={:g}", "amsgrad_eg_drd power=0.5"
PAIRS = (
    *(("P6", _DECAY.format(power), "amsgrad_eg") for power in (0.25, 0.5, 1.0)),
    ("P8", "amsgrad_xeg", _HALF),
    ("P8", "amsgrad_xeg", "amsgrad"),
    ("extragradient", "amsgrad_eg", "amsgrad"),
    ("AMSGrad", "amsgrad", "adam_b1_0"),
    ("momentum", "adam_b1_0", "adam"),
    ("TTUR", "adam_ttur", "adam"),
    ("freezing", FROZEN, "adam"),
    ("averaging", AVERAGED, "adam"),
)
"""Claim, arm, the arm it is compared with."""


def compare_arms(
    arms: Mapping[str, Norms],
    quality: Mapping[str, Sequence[Mapping[str, str]]],
    criteria: Criteria,
    total_steps: int,
) -> list[Row]:
    """P6, P8 and the rest: a row per pair of arms of which something is measured."""
    late = {name: late_norm(norms, criteria, total_steps) for name, norms in arms.items()}
    frechet = {n: np.array([float(r["frechet"]) for r in rows]) for n, rows in quality.items()}
    norm_ratio, frechet_ratio = (
        {
            (one, other): paired_ratio(of[one], of[other], criteria)
            for _, one, other in PAIRS
            if one in of and other in of
        }
        for of in (late, frechet)
    )
    rows: list[Row] = []
    for claim, one, other in PAIRS:
        ratios = [of.get((one, other)) for of in (norm_ratio, frechet_ratio)]
        if ratios == [None, None]:
            continue
        row: Row = {"claim": claim, "arm": one, "against": other}
        row |= zip(("late_norm_ratio", "frechet_ratio"), ((r and span(r)) or "" for r in ratios))
        row["verdict"] = ""
        if claim == "P6" and one == _HALF and None not in ratios:
            row["verdict"] = word(decay_helps(*ratios))
        rows.append(row)
    pair = [norm_ratio.get(("amsgrad_xeg", other)) for other in (_HALF, "amsgrad")]
    for row in rows:
        if row["claim"] == "P8" and None not in pair:
            row["verdict"] = word(like_decay(*pair))
    return rows


def decay_helps(norm_ratio: Interval, frechet_ratio: Interval) -> bool | None:
    """P6 at power 0.5: a lower late norm than at constant rates, samples not worse by a tenth."""
    if norm_ratio.low > 1:
        return False
    return True if norm_ratio.high < 1 and frechet_ratio.high < WORSE else None


def like_decay(decay: Interval, plain: Interval) -> bool | None:
    """P8: x-only extragradient is like dual rate decay, and not like plain AMSGrad."""
    alike = [ALIKE[0] < ratio.low and ratio.high < ALIKE[1] for ratio in (decay, plain)]
    return None if alike[0] == alike[1] else alike[0]


def late_norm(norms: Norms, criteria: Criteria, total_steps: int) -> Array:
    """Median primal norm in the late window, per seed; NaN if its square is not above 0."""
    low, high = (w * total_steps for w in criteria.late_window)
    inside = (norms.steps >= low) & (norms.steps <= high)
    found = np.median(norms.primal.value[:, inside], axis=1)
    return np.sqrt(np.where(found > 0, found, np.nan))


def paired_ratio(one: Array, other: Array, criteria: Criteria) -> Interval:
    """Geometric mean over seeds of the ratio within seeds, with its interval."""
    logs = np.log(one / other)
    if np.isnan(logs).any():  # a seed without a number is not left out
        return Interval(np.nan, np.nan, np.nan)
    return Interval(*np.exp(t_interval(logs, level=criteria.level)).tolist())


def rates(arms: Mapping[str, Norms], criteria: Criteria, total_steps: int) -> list[Row]:
    """P7, descriptive: log-log slope of the running mean of the squared primal norm under decay.

    Beside it what T5's freezing alone gives, -power, and what the one-sided MVI would allow.
    """
    rows: list[Row] = []
    for name, norms in arms.items():
        _, decays, power = name.partition("amsgrad_eg_drd power=")
        if not decays:
            continue
        later = norms.steps > 0
        mean = np.cumsum(norms.primal.value[:, later], 1) / np.arange(1, later.sum() + 1)
        slope = loglog_slope(
            norms.steps[later], mean, np.zeros_like(mean), window=criteria.slope_window,
            bins=criteria.slope_bins, total_steps=total_steps, exact=False,
        )  # fmt: skip
        row: Row = {"arm": name, "slope": span(t_interval(slope, level=criteria.level))}
        rows.append(row | {"freezing": -float(power), "one_sided_mvi": -min(2 * float(power), 1.0)})
    return rows
