"""Does the primal gradient converge while the dual's does not?

P1 to P4 of docs/theory, "Criteria": the first empirical claim of Dou & Li 2021 (arXiv:2109.14213).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from onesided_jax.analysis.estimators import (
    TINY,
    Array,
    EmptyWindowError,
    Mask,
    SquaredNorm,
    in_window,
    loglog_slope,
    window_ratio,
)
from onesided_jax.analysis.gate import Gate, no_gate
from onesided_jax.analysis.inference import Interval
from onesided_jax.analysis.verdict import (
    Holds,
    Verdict,
    all_hold,
    decide,
    interval_over_seeds,
    span,
    too_few,
)
from onesided_jax.players import PrimalDual
from onesided_jax.runs.criteria import Criteria

__all__ = ["one_sided_convergence"]

_NO_FLOOR = PrimalDual(TINY, TINY)


def one_sided_convergence(
    *,
    optimizer: str,
    hyperparameters: Mapping[str, Any],
    steps: ArrayLike,
    total_steps: float,
    primal: SquaredNorm,
    dual: SquaredNorm,
    diverged: ArrayLike,
    criteria: Criteria,
    constant_rates: bool,
    exact: bool,
    quality_gate: Gate | None = None,
    floor: PrimalDual = _NO_FLOOR,
) -> Verdict:
    r"""Does the primal gradient norm converge while the dual's does not? P1, P2, P3, and P4.

    P1 to P3 are judged over all seeds that did not diverge; with a quality gate, P4 judges them
    again within the seeds that pass: it is supported if all three are, and refuted if all three
    are supported within the failing seeds while one is refuted within the passing ones. The claim
    holds if every P is supported, and is refuted if any is refuted.

    Arms whose rates decay are always inconclusive. For every smooth game bounded below in x, the
    primal gradient falls if the dual player slows down, with or without a one-sided MVI.

    Args:
      optimizer: name of the arm.
      hyperparameters: of the arm.
      steps: steps of the checkpoints, ``[S]``.
      total_steps: length of the run.
      primal: squared norms of the primal gradient, ``[R, S]``.
      dual: squared norms of the dual gradient, ``[R, S]``.
      diverged: runs that became non-finite, ``[R]``.
      criteria: windows and thresholds.
      constant_rates: both players' learning rates are constant.
      exact: the field is deterministic (`exact_squared_norm`).
      quality_gate: which runs pass the quality gate, and why the others do not, ``[R]``; None
        where there is none. The verdict says so, and what was left out of it.
      floor: rounding levels of both players' squared norms in an exact run, ``[R]`` or one number
        each (`window_ratio`).

    Returns:
      `Verdict` whose ``value`` is the mean over seeds of :math:`R_G`, the late primal gradient norm
      over the early one; the other statistics are in ``details``.

    Raises:
      ValueError: if a window holds no checkpoint, or the shapes do not match.

    Example:
      >>> import numpy as np
      >>> from onesided_jax.analysis.estimators import exact_squared_norm
      >>> steps = np.arange(1, 1001)
      >>> verdict = one_sided_convergence(
      ...     optimizer="amsgrad_xeg",
      ...     hyperparameters={},
      ...     steps=steps,
      ...     total_steps=1000,
      ...     primal=exact_squared_norm(np.tile(1 / steps, (5, 1))),
      ...     dual=exact_squared_norm(np.ones((5, 1000))),
      ...     diverged=np.zeros(5, bool),
      ...     criteria=Criteria(),
      ...     constant_rates=True,
      ...     exact=True,
      ... )
      >>> verdict.holds, round(verdict.value, 3)
      (True, 0.408)
    """
    diverged = np.asarray(diverged, bool)
    shapes = primal.value.shape, dual.value.shape
    if shapes != (diverged.shape + np.shape(steps),) * 2:
        raise ValueError(
            f"primal {shapes[0]} and dual {shapes[1]}: expected [R, S], with diverged"
            f" {diverged.shape} and steps {np.shape(steps)}"
        )
    statistics = statistics_of_runs(
        steps, total_steps, primal, dual, criteria=criteria, exact=exact, floor=floor
    )
    used = ~diverged
    parts = _p1_to_p3(statistics, used, criteria.min_seeds, criteria)
    gate = quality_gate or no_gate()
    if gate.passes is not None:
        passing = used & np.asarray(gate.passes, bool)
        parts["P4"] = _p4(statistics, passing, used & ~passing, criteria)
    holds = all_hold([part["holds"] for part in parts.values()])
    ratio: Interval = parts["P1"]["primal_ratio"]

    not_judged = ""
    if not constant_rates:
        holds, not_judged = "inconclusive", "a learning rate decays"
        why = (
            "not judged, because a rate of this arm decays and a falling primal gradient under"
            " dual rate decay follows from freezing the dual alone, with or without a one-sided MVI"
        )
    elif used.sum() < criteria.min_seeds:
        not_judged = too_few(int(used.sum()), "seed", criteria.min_seeds)
        why = f"not judged, because the rule asks for {criteria.min_seeds} seeds"
    else:
        why = ", ".join(f"{name} {_WORDS[part['holds']]}" for name, part in parts.items())
        unknown = np.isnan([v[used] for v in statistics.values()]).any(0).sum()
        if unknown:
            why += f" ({unknown} without a number: below the noise floor, or at rounding)"
    empty = _empty_windows(steps, total_steps, criteria)
    if empty:
        not_judged = not_judged or f"no checkpoint in {' and '.join(empty)}"
        why += f"; no checkpoint lies in {' and '.join(empty)}, so there is no number"
    reason = (
        f"Over {used.sum()} of {used.size} seeds ({diverged.sum()} diverged) the late over the"
        f" early gradient norm is {span(ratio)} for the primal and"
        f" {span(parts['P2']['dual_ratio'])} for the dual, and the dual's log-log slope less the"
        f" primal's is {span(parts['P3']['slope_difference'])}: {why}. {_gate_words(gate, used)}"
    )
    details = {**parts, "seeds": {name: v.tolist() for name, v in statistics.items()}}
    details |= {"diverged": diverged.tolist(), "constant_rates": constant_rates}
    details["not_judged"] = not_judged
    details["quality_gate"] = {
        "passes": gate.passes,
        "reasons": list(gate.reasons),
        "note": gate.note,
        "limits": gate.limits,
    }
    return Verdict(
        "one_sided_convergence",
        optimizer,
        holds,
        *ratio,
        int(used.sum()),
        dict(hyperparameters),
        reason,
        details,
    )


def statistics_of_runs(
    steps: ArrayLike,
    total_steps: float,
    primal: SquaredNorm,
    dual: SquaredNorm,
    *,
    criteria: Criteria,
    exact: bool,
    floor: PrimalDual = _NO_FLOOR,
) -> dict[str, Array]:
    """Ratio and slope of both players, and the difference of the slopes: ``[R]`` each, NaN: none.

    Arguments as of `one_sided_convergence`. A window without a checkpoint leaves no number.
    """
    common = {"total_steps": total_steps, "exact": exact}
    windows = {"early": criteria.early_window, "late": criteria.late_window}
    bins = {"window": criteria.slope_window, "bins": criteria.slope_bins}
    statistics: dict[str, Array] = {}
    none = np.full(np.shape(primal.value)[:-1], np.nan)
    for name, norm, least in zip(PrimalDual._fields, (primal, dual), floor, strict=True):
        statistics |= {f"{name}_ratio": none, f"{name}_slope": none}
        with contextlib.suppress(EmptyWindowError):
            statistics[f"{name}_ratio"] = window_ratio(
                steps, norm.value, floor=least, **windows, **common
            )
        with contextlib.suppress(EmptyWindowError):
            statistics[f"{name}_slope"] = loglog_slope(
                steps, norm.value, norm.standard_error, floor=least, **bins, **common
            )
    return statistics | {"slope_difference": statistics["dual_slope"] - statistics["primal_slope"]}


def _empty_windows(steps: ArrayLike, total_steps: float, criteria: Criteria) -> list[str]:
    windows = {name: getattr(criteria, name) for name in ("early_window", "late_window")}
    return [
        f"the {name.replace('_', ' ')} ({window[0]:g} to {window[1]:g} of the run)"
        for name, window in windows.items()
        if not in_window(np.asarray(steps), window, total_steps).any()
    ]


_WORDS: dict[Holds, str] = {True: "supported", False: "refuted", "inconclusive": "inconclusive"}


def _p1_to_p3(
    statistics: Mapping[str, Array], seeds: Mask, least: int, criteria: Criteria
) -> dict[str, dict[str, Any]]:
    """Judge P1, P2 and P3 over the masked seeds; inconclusive with fewer than ``least``."""
    chosen = {name: values[seeds] for name, values in statistics.items()}
    x = {name: interval_over_seeds(values, criteria) for name, values in chosen.items()}
    above = chosen["dual_ratio"] > criteria.ratio_of_ratios * chosen["primal_ratio"]  # NaN: no
    share = float(above.mean()) if above.size else math.nan
    enough = int(seeds.sum()) >= least
    ratio_g, slope_g, ratio_d, slope_d, gap = (
        x[name]
        for name in ("primal_ratio", "primal_slope", "dual_ratio", "dual_slope", "slope_difference")
    )
    p1 = decide(
        enough,
        supported=slope_g.high < 0 and ratio_g.high < criteria.primal_ratio_supported,
        refuted=ratio_g.low > criteria.primal_ratio_refuted,
    )
    p2 = decide(
        enough,
        supported=ratio_d.low > criteria.dual_ratio_supported
        and slope_d.low > criteria.dual_slope_supported,
        refuted=ratio_d.high < criteria.dual_ratio_refuted,
    )
    p3 = decide(
        enough,
        supported=gap.low > 0 and share >= criteria.ratio_of_ratios_share,
        refuted=gap.high < 0,
    )
    return {
        "P1": {"holds": p1, "primal_ratio": ratio_g, "primal_slope": slope_g},
        "P2": {"holds": p2, "dual_ratio": ratio_d, "dual_slope": slope_d},
        "P3": {"holds": p3, "slope_difference": gap, "ratio_of_ratios_share": share},
    }


def _p4(
    statistics: Mapping[str, Array], passing: Mask, failing: Mask, criteria: Criteria
) -> dict[str, Any]:
    """Judge P1 to P3 within the seeds that pass the quality gate, and within those that fail."""
    within = {
        name: _p1_to_p3(statistics, seeds, criteria.min_gate_seeds, criteria)
        for name, seeds in (("passing", passing), ("failing", failing))
    }
    held = {name: all_hold([p["holds"] for p in parts.values()]) for name, parts in within.items()}
    return {
        "holds": decide(
            enough=True,
            supported=held["passing"] is True,
            refuted=held["failing"] is True and held["passing"] is False,
        ),
        "passing_seeds": int(passing.sum()),
        "failing_seeds": int(failing.sum()),
        **within,
    }


def _gate_words(gate: Gate, used: Mask) -> str:
    if gate.passes is None:
        return f"No quality gate was evaluated ({gate.note})."
    note = f" ({gate.note})" if gate.note else ""
    return f"{(gate.passes & used).sum()} of {used.sum()} seeds pass the quality gate{note}."
