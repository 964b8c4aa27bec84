r"""Does :math:`\langle x - x^*, \nabla_x f(x, y) \rangle \ge 0` hold on trained players? P5.

The second empirical claim of Dou & Li 2021 (arXiv:2109.14213), judged off the trajectory (P5 of
docs/theory, "Criteria"), and beside it the obvious test, which says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from onesided_jax.analysis.estimators import Array, Mask
from onesided_jax.analysis.inference import Interval
from onesided_jax.analysis.verdict import Holds, Verdict, interval_over_seeds, span, too_few
from onesided_jax.runs.criteria import Criteria

__all__ = ["SignFractions", "naive_mvi_test", "one_sided_mvi", "sign_fractions", "too_few_rows"]

Target = Literal["known x*", "held-out continuation"]
_TARGETS = ("known x*", "held-out continuation")


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


def too_few_rows(counted: ArrayLike, criteria: Criteria) -> Mask:
    """``[...]`` of ``[..., S, T]``: matrices of which the truncation leaves too few rows."""
    rows = np.any(counted, axis=-1)
    return rows.sum(-1) < criteria.mvi_valid_share * rows.shape[-1]


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
    short = too_few_rows(counted, criteria)
    negative, positive = (
        interval_over_seeds(np.where(short, np.nan, f), criteria) for f in fractions
    )
    negative, positive = (Interval(*np.clip(i, 0, 1).tolist()) for i in (negative, positive))

    required = target == "held-out continuation"
    controls = {
        "null": _powerless(null, criteria.random_targets, required, criteria),
        "fresh_dual": _powerless(fresh_dual, criteria.fresh_duals, required, criteria),
        "flipped_dual": _not_refuted(flipped_dual, criteria),
    }
    faults = [f"the control {name} {fault}" for name, fault in controls.items() if fault]
    holds: Holds = "inconclusive"
    not_judged = ""
    if seeds < criteria.min_seeds:
        not_judged = too_few(seeds, "seed", criteria.min_seeds)
        why = f"not judged, because the rule asks for {criteria.min_seeds} seeds"
    elif min(rows, columns) < criteria.mvi_rows:
        not_judged = too_few(min(rows, columns), "checkpoint", criteria.mvi_rows)
        why = f"not judged, because the rule asks for {criteria.mvi_rows} rows and columns"
    elif short.any():
        not_judged = "too few checkpoints are far enough from x*"
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
        f" diagonal a fraction {span(negative)} is significantly negative and {span(positive)}"
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
        "not_judged": not_judged,
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
        or interval_over_seeds(control.negative, criteria).low >= criteria.mvi_negative_refuted
    ):
        return None
    return "is not refuted"
