"""Checks whether a run obeys the theorems' bounds."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any, NamedTuple

import jax
import numpy as np

from onesided_jax.games import Game
from onesided_jax.players import PrimalDual
from onesided_jax.theory.bounds import BOUNDS, PREMISES, ROUNDING, Progress
from onesided_jax.theory.trajectory import Trajectory, follow

__all__ = ["Bound", "Certificate", "certify"]

_KINDS = ("extragradient", "plain", "past", "no_past")
_HOW_TO_CARRY = "observers={'certificate': osj.certificate(game, method, options)}"
HOLDS, VIOLATED, NOT_COVERED = "holds", "violated", "not covered"


class Bound(NamedTuple):
    """One inequality on ``R`` runs at ``S`` snapshots.

    Attributes:
      statement: the bound in words.
      lhs: ``f64[R, S]``, left side up to each snapshot, divided by the sum of the primal's rates.
        For the theorems: the running mean of the squared primal gradient norm in the inverse
        preconditioner.
      rhs: ``f64[R, S]``, right side, divided likewise.
      worst_ratio: ``f64[R]``, largest ``lhs / rhs`` over **all** steps (for C0: the largest
        relative residual).
      first_violation: ``int[R]``, first of all steps with ``lhs > rhs``, 0 if none.
      status: ``R`` strings: "holds", "violated" or "not covered" (a premise fails).
      reason: ``R`` strings: the failed premises, and from which step.
    """

    statement: str
    lhs: np.ndarray
    rhs: np.ndarray
    worst_ratio: np.ndarray
    first_violation: np.ndarray
    status: list[str]
    reason: list[str]


@dataclasses.dataclass(frozen=True)
class Certificate:
    """Result of :func:`certify`; prints as a table, and ``certificate["T1"]`` is a :class:`Bound`.

    Attributes:
      steps: ``int[S]``, iterations at each snapshot.
      bounds: name ("C0" to "C2", "T1" to "T9", "T1 strong") to :class:`Bound`.
      sum_minty: ``f64[R, S]``, sum of ``<grad_x f(z~_t), x~_t - x*>``; never negative if the
        one-sided MVI holds along the trajectory. Without momentum it is half the slack of C1.
      kappa: ``f64[R]``, sum of ``||q - p||^2`` over sum of ``||p||^2``. The proofs bound it by 1/2
        plus the dual's share.
    """

    steps: np.ndarray
    bounds: dict[str, Bound]
    sum_minty: np.ndarray
    kappa: np.ndarray

    def __getitem__(self, name: str) -> Bound:
        return self.bounds[name]

    def __str__(self) -> str:
        runs = len(self.kappa)
        lines = [f"{'':10}{'holds':>12}{'violated':>10}{'not covered':>13}  worst lhs/rhs"]
        for name, bound in self.bounds.items():
            counts = Counter(bound.status)
            ratios = bound.worst_ratio[~np.isnan(bound.worst_ratio)]
            worst = f"{ratios.max():.3g}" if ratios.size else "-"
            row = f"{name:10}{counts[HOLDS]:>7} of {runs}"
            row = f"{row:<22}{counts[VIOLATED]:>10}{counts[NOT_COVERED]:>13}  {worst:8}"
            reasons = Counter(r for r in bound.reason if r)
            if reasons:
                text, count = reasons.most_common(1)[0]
                row += f"  {text}" + ("" if count == runs else f" ({count} runs)")
            lines.append(row)
        return "\n".join(lines)


def certify(
    run: Any,
    game: Game | None = None,
    method: str | None = None,
    *,
    solution: PrimalDual | None = None,
    radius: float | None = None,
    observer: str = "certificate",
) -> Certificate:
    r"""Checks every bound of the theory at every step of a run.

    Each theorem's measured left side, for T1 :math:`\frac1T \sum_t
    \|\nabla_x f(x_t, y_t)\|^2_{H_t^{-1}}`, is compared with its right side. The constants of the
    right side are known from the game (Lipschitz constants, noise) or measured on the run
    (distances, trace, displacements). A bound *holds* only if every premise of its theorem holds.

    Args:
      run: the result of a sweep with the observer :func:`certificate`; its checkpoints are the
        snapshots. Or a :class:`Trajectory`; its steps are the snapshots.
      game: for a ``Trajectory``: the deterministic game that was recorded.
      method: for a ``Trajectory``: the optimizer's name as for :func:`certificate`, or its kind,
        "extragradient" or "plain".
      solution: for a ``Trajectory``: as for :func:`certificate`.
      radius: for a ``Trajectory``: as for :func:`certificate`.
      observer: the certificate's name among the sweep's observers.

    Returns:
      The :class:`Certificate`.

    Raises:
      ValueError: if the run lacks recorded quantities (the message says how to record them), for
        mismatched shapes, or for a game without ``x*``.

    Example:
      >>> import numpy as np
      >>> import onesided_jax as osj
      >>> x = 0.5 ** np.arange(5.0)[:, None]  # plain descent on f(x, y) = x^2 / 2 + 0 y
      >>> players = osj.PrimalDual(x, np.zeros((5, 1)))
      >>> before = osj.PrimalDual(x[:-1], np.zeros((4, 1)))
      >>> field = osj.games.zero_sum_field(lambda x, y: 0.5 * x[0] ** 2 + 0 * y[0])
      >>> facts = osj.GameFacts(np.zeros(1), None, True, False, 1.0, 0.0, star_cocoercivity=1.0)
      >>> game = osj.Game(lambda key: None, lambda key: (), field, facts=facts)
      >>> ones = osj.PrimalDual(np.ones((4, 1)), np.ones((4, 1)))
      >>> rates = osj.PrimalDual(0.5, 0.5)
      >>> trajectory = osj.theory.Trajectory(players, before, ones, rates)
      >>> osj.certify(trajectory, game, "plain")["T6"].status
      ['holds']
    """
    if not isinstance(run, Trajectory):
        return _certify_sweep(run, observer)
    progress = follow(run, game, method, solution=solution, radius=radius)
    progress = jax.tree.map(lambda a: np.asarray(a)[None], progress)
    length = progress.sums.count.shape[1]
    return _report(np.arange(1, length + 1), progress, [np.zeros(1, int)], np.full(1, -1))


def _certify_sweep(result: Any, observer: str) -> Certificate:
    checkpoints = getattr(result, "checkpoints", None)
    if checkpoints is None:
        raise ValueError(
            f"run={type(result).__name__}: expected a Trajectory, or the result of a sweep with "
            f"{_HOW_TO_CARRY}"
        )
    steps = [step for step in sorted(checkpoints) if step > 0]
    carried = checkpoints[steps[-1]].observers
    if observer not in carried:
        raise ValueError(
            f"the sweep has no observer {observer!r}, only {sorted(carried)}: run it with "
            f"{_HOW_TO_CARRY}"
        )
    snapshots = [checkpoints[step].observers[observer]["progress"] for step in steps]
    progress = jax.tree.map(lambda *parts: np.stack(list(map(np.asarray, parts)), 1), *snapshots)
    settings = list(zip(*(np.asarray(v).tolist() for v in result.hyperparameters.values())))
    groups: dict[tuple[float, ...], list[int]] = {}
    for run in range(len(result.seeds)):
        groups.setdefault(settings[run] if settings else (), []).append(run)
    members = [np.asarray(runs) for runs in groups.values()]
    return _report(np.asarray(steps), progress, members, np.asarray(result.diverged_at))


def _report(
    steps: np.ndarray, progress: Progress, groups: list[np.ndarray], diverged_at: np.ndarray
) -> Certificate:
    """Makes a certificate of host arrays ``[R, S, ...]``; runs of a group differ in seed only."""
    sums = progress.sums
    rate = np.where(sums.rate > 0, sums.rate, np.nan)
    bounds = {}
    for i, (name, (statement, premises)) in enumerate(BOUNDS.items()):
        lhs, rhs = (side[:, :, i] / rate for side in (progress.lhs, progress.rhs))
        worst, first = (last[:, -1, i].copy() for last in (progress.worst, progress.first))
        bound = Bound(statement, lhs, rhs, worst, first, [], [])
        alone = _average_over_seeds(bound, groups, steps) if name == "T3" else []
        for run, failed in enumerate(progress.failed[:, -1].tolist()):
            notes = ["an expectation needs several seeds"] if run in alone else []
            notes += _failed_premises(dict(zip(PREMISES, failed, strict=True)), premises)
            if diverged_at[run] >= 0:
                notes.append(f"the run diverged at step {diverged_at[run]}")
            if name == "C2" and np.isinf(rhs[run, -1]):
                notes.append("x* is outside the run's bounding box")
            if notes and first[run]:
                notes.append(f"lhs exceeds rhs at step {first[run]}")
            bound.status.append(NOT_COVERED if notes else VIOLATED if first[run] else HOLDS)
            bound.reason.append("; ".join(notes))
        bounds[name] = bound
    kappa = (sums.q / np.where(sums.p > 0, sums.p, np.nan))[:, -1]
    return Certificate(steps, bounds, sums.minty, kappa)


def _average_over_seeds(bound: Bound, groups: list[np.ndarray], steps: np.ndarray) -> list[int]:
    """Replaces the values of runs by their group's means; returns the runs alone in their group."""
    alone = []
    for runs in groups:
        lhs, rhs = bound.lhs[runs].mean(0), bound.rhs[runs].mean(0)
        bound.lhs[runs], bound.rhs[runs] = lhs, rhs
        bound.worst_ratio[runs] = np.max(lhs / rhs)
        broken = lhs > rhs * (1 + ROUNDING)
        bound.first_violation[runs] = steps[np.argmax(broken)] if broken.any() else 0
        if len(runs) < 2 and not np.isnan(rhs).all():
            alone.append(runs[0])
    return alone


def _failed_premises(first_failures: dict[str, int], premises: tuple[str, ...]) -> list[str]:
    """The failed premises and their first steps; only the kind if the theorem needs another."""
    failed = [name for name in premises if first_failures[name]]
    wrong_kind = [name for name in _KINDS if name in failed]
    if wrong_kind:
        return [PREMISES[name] for name in wrong_kind]
    since = {name: first_failures[name] for name in failed}
    return [PREMISES[p] + (f" (from step {t})" if t > 1 else "") for p, t in since.items()]
