r"""Verdicts on the two empirical claims of Dou & Li 2021 (arXiv:2109.14213), able to fail.

*One-sided convergence*: the generator's gradient norm converges while the discriminator's does not
(P1 to P4 of docs/theory, "Criteria"). *One-sided MVI*: :math:`\langle x - x^*, \nabla_x f(x, y)
\rangle \ge 0` on trained players (P5). A claim holds, is refuted, or is ``"inconclusive"``; the
thresholds are those of `onesided_jax.runs.criteria.Criteria`, fixed before the run.

Rules that no threshold expresses:

* An interval is Student's over seeds. Between the two thresholds, or across one, nothing is judged.
* A diverged seed is left out and counted. A seed that *gives no number* (below the noise floor) is
  never left out: the interval of the statistic it lacks has no limits, so that nothing can be
  supported or refuted with it. Dropping it would select seeds by the very quantity under test: a
  discriminator below the noise floor is one whose gradient fell.
* A control that was not run cannot support a claim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from onesided_jax.analysis.estimators import (
    TINY,
    Array,
    Interval,
    Mask,
    SquaredNorm,
    loglog_slope,
    t_interval,
    window_ratio,
)
from onesided_jax.analysis.gate import Gate, no_gate
from onesided_jax.runs.criteria import Criteria

__all__ = [
    "SignFractions",
    "Verdict",
    "naive_mvi_test",
    "one_sided_convergence",
    "one_sided_mvi",
    "sign_fractions",
]

Holds = bool | Literal["inconclusive"]
Target = Literal["known x*", "held-out continuation"]
_TARGETS = ("known x*", "held-out continuation")


_MEASURES = {
    "one_sided_convergence": "late over early gradient norm of the primal player, mean over seeds",
    "one_sided_mvi": "share of significantly negative entries off the diagonal, mean over seeds",
}


class Verdict(NamedTuple):
    """What a set of runs says about one claim.

    Attributes:
      claim: ``"one_sided_convergence"`` or ``"one_sided_mvi"``.
      optimizer: name of the arm.
      holds: True, False or ``"inconclusive"``.
      value: the most telling number; mean over seeds, NaN if some seed gives none.
      ci_low: lower end of its interval over seeds.
      ci_high: upper end.
      runs: seeds the verdict rests on.
      hyperparameters: of the arm.
      reason: one sentence: what was measured, and why this verdict.
      details: the sub-criteria, each with ``"holds"`` and its statistics.
    """

    claim: str
    optimizer: str
    holds: Holds
    value: float
    ci_low: float
    ci_high: float
    runs: int
    hyperparameters: Mapping[str, Any]
    reason: str
    details: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON types: its fields, and ``measure``, what ``value`` is in words.

        Numbers that are not finite become None.

        Example:
          >>> nan = float("nan")
          >>> v = Verdict("c", "adam", "inconclusive", nan, nan, nan, 0, {"b1": 0.5}, "Few.", {})
          >>> v.to_json()["value"] is None, v.to_json()["hyperparameters"]
          (True, {'b1': 0.5})
        """
        return _json({**self._asdict(), "measure": _MEASURES.get(self.claim, "")})


class SignFractions(NamedTuple):
    """Shares of significantly negative and positive entries of cross matrices, each ``[...]``."""

    negative: Array
    positive: Array


def sign_fractions(signs: ArrayLike, counted: ArrayLike) -> SignFractions:
    """Shares of negative and positive entries among those that count, per matrix.

    Args:
      signs: -1, 0 or +1, ``[..., S, T]``, from `significant_signs`.
      counted: which entries count, broadcast to ``[..., S, T]``.

    Returns:
      `SignFractions` of arrays ``[...]``; NaN for a matrix of which nothing counts.

    Example:
      >>> sign_fractions([[1, 1], [-1, 0]], True).positive.tolist()
      0.5
    """
    signs = np.asarray(signs)
    counted = np.broadcast_to(np.asarray(counted, bool), signs.shape)
    with np.errstate(invalid="ignore"):
        total = counted.sum((-2, -1))
        negative, positive = (((signs == s) & counted).sum((-2, -1)) / total for s in (-1, 1))
    return SignFractions(np.asarray(negative), np.asarray(positive))


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
    floor: float = TINY,
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
      floor: rounding level of the squared norms of an exact run (`window_ratio`).

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
    common = {"total_steps": total_steps, "exact": exact, "floor": floor}
    windows = {"early": criteria.early_window, "late": criteria.late_window}
    bins = {"window": criteria.slope_window, "bins": criteria.slope_bins}
    statistics: dict[str, Array] = {}
    for name, norm in (("primal", primal), ("dual", dual)):
        statistics[f"{name}_ratio"] = window_ratio(steps, norm.value, **windows, **common)
        statistics[f"{name}_slope"] = loglog_slope(
            steps, norm.value, norm.standard_error, **bins, **common
        )
    statistics["slope_difference"] = statistics["dual_slope"] - statistics["primal_slope"]

    used = ~diverged
    parts = _p1_to_p3(statistics, used, criteria.min_seeds, criteria)
    gate = quality_gate or no_gate()
    if gate.passes is not None:
        passing = used & np.asarray(gate.passes, bool)
        parts["P4"] = _p4(statistics, passing, used & ~passing, criteria)
    holds = _all([part["holds"] for part in parts.values()])
    ratio: Interval = parts["P1"]["primal_ratio"]

    if not constant_rates:
        holds = "inconclusive"
        why = (
            "not judged, because a rate of this arm decays and a falling primal gradient under"
            " dual rate decay follows from freezing the dual alone, with or without a one-sided MVI"
        )
    elif used.sum() < criteria.min_seeds:
        why = f"not judged, because the rule asks for {criteria.min_seeds} seeds"
    else:
        why = ", ".join(f"{name} {_WORDS[part['holds']]}" for name, part in parts.items())
        unknown = np.isnan([v[used] for v in statistics.values()]).any(0).sum()
        if unknown:
            why += f" ({unknown} without a number: below the noise floor, or at rounding)"
    reason = (
        f"Over {used.sum()} of {used.size} seeds ({diverged.sum()} diverged) the late over the"
        f" early gradient norm is {_span(ratio)} for the primal and"
        f" {_span(parts['P2']['dual_ratio'])} for the dual, and the dual's log-log slope less the"
        f" primal's is {_span(parts['P3']['slope_difference'])}: {why}. {_gate_words(gate, used)}"
    )
    details = {**parts, "seeds": {name: v.tolist() for name, v in statistics.items()}}
    details |= {"diverged": diverged.tolist(), "constant_rates": constant_rates}
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


def one_sided_mvi(
    *,
    optimizer: str,
    hyperparameters: Mapping[str, Any],
    signs: ArrayLike,
    valid: ArrayLike,
    target: Target,
    criteria: Criteria,
    null: SignFractions | None = None,
    fresh_dual: SignFractions | None = None,
    flipped_dual: SignFractions | None = None,
    off_diagonal: ArrayLike | None = None,
    exact: bool = False,
) -> Verdict:
    r"""Is :math:`\langle x_s - x^*, \nabla_x f(x_s, y_t)\rangle \ge 0` off the trajectory? P5.

    Supported if hardly any entry is significantly negative, most are significantly positive, and
    every control is as it should be; refuted if many are negative. The controls:

    * ``null`` (random ``x*``) and ``fresh_dual`` (untrained dual players) must not satisfy the
      criterion on average: what everything passes has no power. With a target that was itself
      produced by training both are required. With a known ``x*`` either may be None, where passing
      would not be a fault: a game whose condition holds for every y passes with a fresh dual.
    * ``flipped_dual`` (the sign of the critic negated) must come out refuted. None where negation
      is not exact.

    Args:
      optimizer: name of the arm.
      hyperparameters: of the arm.
      signs: of the entries of the cross matrix per seed, -1, 0 or +1, ``[R, S, T]``.
      valid: entries left by the truncation near ``x*``, ``[R, S, T]``.
      target: where ``x*`` comes from, never from the samples tested.
      criteria: thresholds and least sizes.
      null: fractions of cross matrices at random ``x*``, ``[..., n]``, draws on the last axis.
      fresh_dual: fractions of matrices with fresh dual players, ``[..., n]``.
      flipped_dual: fractions with the flipped dual, one per seed, ``[R]``.
      exact: whether the entries are exact (a deterministic game). At a known ``x*`` an entry that
        is zero to rounding then meets the inequality with equality, and counts as positive.
      off_diagonal: entries with ``s != t``, ``[S, T]`` (`cross_regions`); may be left out if the
        rows and columns are the same checkpoints.

    Returns:
      `Verdict` whose ``value`` is the fraction of off-diagonal entries that are significantly
      negative, mean over seeds; its interval is clipped to [0, 1].

    Raises:
      ValueError: for an unknown target, shapes that do not match, or an ``off_diagonal`` that is
        needed and missing.

    Example:
      >>> import numpy as np
      >>> coin = SignFractions(np.full(20, 0.5), np.full(20, 0.5))
      >>> verdict = one_sided_mvi(
      ...     optimizer="adam",
      ...     hyperparameters={},
      ...     signs=np.ones((5, 20, 20)),
      ...     valid=np.ones((5, 20, 20), bool),
      ...     target="held-out continuation",
      ...     criteria=Criteria(),
      ...     null=coin,
      ...     fresh_dual=coin,
      ... )
      >>> verdict.holds, verdict.value
      (True, 0.0)
    """
    signs, valid = np.asarray(signs), np.asarray(valid, bool)
    if target not in _TARGETS:
        raise ValueError(f"target = {target!r}: expected one of {', '.join(map(repr, _TARGETS))}")
    if signs.ndim != 3 or valid.shape != signs.shape:
        raise ValueError(f"signs {signs.shape} and valid {valid.shape}: expected [R, S, T] twice")
    seeds, rows, columns = signs.shape
    kind = "significantly positive"
    if exact and target == "known x*":
        signs, kind = np.where(signs == 0, 1, signs), "positive or zero to rounding"
    if off_diagonal is None:
        if rows != columns:
            raise ValueError(f"signs {signs.shape}: expected off_diagonal where S and T differ")
        off_diagonal = ~np.eye(rows, dtype=bool)
    counted = valid & np.asarray(off_diagonal, bool)
    fractions = sign_fractions(signs, counted)
    short = counted.any(2).sum(1) < criteria.mvi_valid_share * rows
    negative, positive = (_interval(np.where(short, np.nan, f), criteria) for f in fractions)
    negative, positive = (Interval(*np.clip(i, 0, 1).tolist()) for i in (negative, positive))

    required = target == "held-out continuation"
    controls = {
        "null": _powerless(null, criteria.random_targets, required, criteria),
        "fresh_dual": _powerless(fresh_dual, criteria.fresh_duals, required, criteria),
        "flipped_dual": _not_refuted(flipped_dual, criteria),
    }
    faults = [f"the control {name} {fault}" for name, fault in controls.items() if fault]
    holds: Holds = "inconclusive"
    if seeds < criteria.min_seeds:
        why = f"not judged, because the rule asks for {criteria.min_seeds} seeds"
    elif min(rows, columns) < criteria.mvi_rows:
        why = f"not judged, because the rule asks for {criteria.mvi_rows} rows and columns"
    elif short.any():
        why = (
            f"not judged, because the truncation near x* leaves {short.sum()} of the seeds with"
            f" less than {criteria.mvi_valid_share:.0%} of the rows"
        )
    elif negative.low >= criteria.mvi_negative_refuted:
        holds, why = False, "refuted"
    elif not _satisfied(negative.high, positive.low, criteria):
        why = "neither threshold is passed"
    elif faults:
        why = "the criterion is met, but " + " and ".join(faults)
    else:
        ran = sum(given is not None for given in (null, fresh_dual, flipped_dual))
        holds, why = True, f"supported; {ran} of 3 controls were run and none is at fault"
    reason = (
        f"Over {seeds} seeds and {rows} x {columns} checkpoints with x* = {target}, off the"
        f" diagonal a fraction {_span(negative)} is significantly negative and {_span(positive)}"
        f" {kind}: {why}."
    )
    details = {
        "P5": {"holds": holds, "negative": negative, "positive": positive},
        "controls": {
            name: {
                "fault": controls[name],
                "negative": None if given is None else float(np.mean(given.negative)),
                "positive": None if given is None else float(np.mean(given.positive)),
            }
            for name, given in zip(controls, (null, fresh_dual, flipped_dual))
        },
        "seeds": {"negative": fractions.negative.tolist(), "positive": fractions.positive.tolist()},
        "target": target,
    }
    return Verdict(
        "one_sided_mvi", optimizer, holds, *negative, seeds, dict(hyperparameters), reason, details
    )


def naive_mvi_test(iterates: ArrayLike, gradients: ArrayLike) -> tuple[float, float]:
    r"""The obvious test of the one-sided MVI, which is NOT EVIDENCE: it passes on pure noise.

    With the gradients the method trained on and ``x*`` its own final iterate, the sum is fixed by
    the path alone: for :math:`x_{t+1} = x_t - M^{-1} g_t`,

    .. math:: \sum_{t<T} \langle g_t, x_t - x_T\rangle
              = \tfrac12 \|x_1 - x_T\|_M^2 + \tfrac12 \sum_{t<T} \|g_t\|^2_{M^{-1}} > 0

    whatever the function. It is here to be shown failing to fail; `one_sided_mvi` does not use it.

    Args:
      iterates: ``[T, n]``; the last is taken as ``x*``.
      gradients: training gradients at the iterates, ``[T, n]``; the last meets a distance of 0.

    Returns:
      ``(fraction, total)``: the share of positive inner products among the first ``T - 1``, and
      their sum.

    Example:
      >>> import numpy as np
      >>> noise = np.random.default_rng(0).normal(size=(400, 200))
      >>> path = -0.1 * np.cumsum(noise, axis=0)
      >>> fraction, total = naive_mvi_test(path[:-1], noise[1:])
      >>> fraction > 0.8, total > 0
      (True, True)
    """
    iterates, gradients = np.asarray(iterates, np.float64), np.asarray(gradients, np.float64)
    products = ((iterates[:-1] - iterates[-1]) * gradients[:-1]).sum(-1)
    return float((products > 0).mean()), float(products.sum())


_WORDS: dict[Holds, str] = {True: "supported", False: "refuted", "inconclusive": "inconclusive"}


def _p1_to_p3(
    statistics: Mapping[str, Array], seeds: Mask, least: int, criteria: Criteria
) -> dict[str, dict[str, Any]]:
    """Judge P1, P2 and P3 over the masked seeds; inconclusive with fewer than ``least``."""
    chosen = {name: values[seeds] for name, values in statistics.items()}
    x = {name: _interval(values, criteria) for name, values in chosen.items()}
    above = chosen["dual_ratio"] > criteria.ratio_of_ratios * chosen["primal_ratio"]  # NaN: no
    share = float(above.mean()) if above.size else math.nan
    enough = int(seeds.sum()) >= least
    ratio_g, slope_g, ratio_d, slope_d, gap = (
        x[name]
        for name in ("primal_ratio", "primal_slope", "dual_ratio", "dual_slope", "slope_difference")
    )
    p1 = _decide(
        enough,
        supported=slope_g.high < 0 and ratio_g.high < criteria.primal_ratio_supported,
        refuted=ratio_g.low > criteria.primal_ratio_refuted,
    )
    p2 = _decide(
        enough,
        supported=ratio_d.low > criteria.dual_ratio_supported
        and slope_d.low > criteria.dual_slope_supported,
        refuted=ratio_d.high < criteria.dual_ratio_refuted,
    )
    p3 = _decide(
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
    held = {name: _all([p["holds"] for p in parts.values()]) for name, parts in within.items()}
    return {
        "holds": _decide(
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


def _satisfied(negative: float, positive: float, criteria: Criteria) -> bool:
    return (
        negative < criteria.mvi_negative_supported and positive >= criteria.mvi_positive_supported
    )


def _powerless(
    control: SignFractions | None, least: int, required: bool, criteria: Criteria
) -> str | None:
    """What is wrong with a null control, or None."""
    if control is None:
        return "was not run" if required else None
    negative, positive = (np.atleast_1d(np.asarray(f, np.float64)) for f in control)
    if negative.shape[-1] < least:
        return f"has {negative.shape[-1]} draws and {least} are asked for"
    if not np.isfinite([negative, positive]).all():
        return "gives no number"
    if _satisfied(float(negative.mean()), float(positive.mean()), criteria):
        return "meets it too, so that the test has no power"
    return None


def _not_refuted(control: SignFractions | None, criteria: Criteria) -> str | None:
    """What is wrong with the flipped dual, or None."""
    if (
        control is None
        or _interval(control.negative, criteria).low >= criteria.mvi_negative_refuted
    ):
        return None
    return "is not refuted"


def _interval(values: ArrayLike, criteria: Criteria) -> Interval:
    """Interval over seeds; without limits, and without a mean, if any seed gives no number."""
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        return Interval(math.nan, math.nan, math.nan)
    return t_interval(values, level=criteria.level)


def _decide(enough: bool, *, supported: bool, refuted: bool) -> Holds:
    if not enough or supported == refuted:
        return "inconclusive"
    return supported


def _all(holds: list[Holds]) -> Holds:
    if False in holds:
        return False
    return True if all(h is True for h in holds) else "inconclusive"


def _span(interval: Interval) -> str:
    if math.isnan(interval.mean):
        return "unknown"
    limits = f" [{interval.low:.3g}, {interval.high:.3g}]" if not math.isnan(interval.low) else ""
    return f"{interval.mean:.3g}{limits}"


def _json(value: Any) -> Any:
    if isinstance(value, Interval):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(k): _json(v) for k, v in value.items()}
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_json(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
