"""Certificates: whether a run obeys the theorems' bounds, with every constant known or measured."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax.analysis._bounds import (
    BOUNDS,
    PREMISES,
    ROUNDING,
    Known,
    Move,
    Sums,
    advance,
    start,
)
from onesided_jax.analysis._moves import check_itself, find_method, read_settings
from onesided_jax.analysis.estimators import members
from onesided_jax.games import Game, GameInfo
from onesided_jax.optimizers._trees import cast_like
from onesided_jax.players import PrimalDual, make_key

__all__ = ["Bound", "Certificate", "Trajectory", "certificate", "certify"]

_KINDS = ("extragradient", "plain", "past", "no_past")
_HOW_TO_CARRY = "observers={'certificate': osj.certificate(game, method, options)}"
HOLDS, VIOLATED, NOT_COVERED = "holds", "violated", "not covered"


class Trajectory(NamedTuple):
    """One recorded run of ``T`` iterations, for :func:`certify`; every leaf leads with time.

    Attributes:
      players: ``z_1, ..., z_{T+1}``, leaves ``f[T+1, ...]``.
      midpoints: ``z~_1, ..., z~_T``, leaves ``f[T, ...]``; those of ``players`` without the last
        for a method that does not extrapolate.
      preconditioners: ``h_1, ..., h_T``, leaves ``f[T, ...]`` and positive: the update was
        ``z_{t+1} = z_t - eta_t q_t / h_t``. Ones for a method without preconditioner.
      learning_rates: ``eta_t`` of both players' updates, two of ``f[T]`` or scalars.
      extrapolation_learning_rates: the same of the extrapolations, where they differ.
    """

    players: PrimalDual | None = None
    midpoints: PrimalDual | None = None
    preconditioners: PrimalDual | None = None
    learning_rates: PrimalDual | None = None
    extrapolation_learning_rates: PrimalDual | None = None


class Bound(NamedTuple):
    """One inequality on ``R`` runs at ``S`` snapshots.

    Attributes:
      statement: what it says.
      lhs: ``f64[R, S]``, its left side up to each snapshot, divided by the sum of the primal's
        rates: for the theorems the running mean of the squared primal gradient norm in the
        inverse preconditioner.
      rhs: ``f64[R, S]``, the right side, likewise.
      worst_ratio: ``f64[R]``, the largest ``lhs / rhs`` over **all** steps (of C0: the largest
        relative residual).
      first_violation: ``int[R]``, the first of all steps with ``lhs > rhs``, 0 if none.
      status: ``R`` of "holds", "violated" or "not covered" (a premise fails).
      reason: ``R`` texts: the premises that fail and since when.
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
    """What :func:`certify` found; prints as a table, and ``found["T1"]`` is a :class:`Bound`.

    Attributes:
      steps: ``int[S]``, iterations at each snapshot.
      bounds: name ("C0" to "C2", "T1" to "T9", "T1 strong") to :class:`Bound`.
      sum_minty: ``f64[R, S]``, the sum of ``<grad_x f(z~_t), x~_t - x*>``; the one-sided MVI along
        the trajectory says that it is never negative. Without momentum half the slack of C1.
      kappa: ``f64[R]``, ``||q - p||^2 / ||p||^2`` summed over the run; the proofs use that it is at
        most 1/2 plus the dual's share.
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


class _Observer(NamedTuple):
    init: Callable[[PrimalDual], Any]
    update: Callable[[Any, Any], Any]


def certificate(
    game: Game,
    method: str,
    options: Mapping[str, Any] | Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
    *,
    solution: PrimalDual | None = None,
    radius: float | None = None,
    independent_samples: bool = True,
) -> Any:
    r"""The observer that carries a run's certificate through a sweep, at every step.

    Give it to :func:`onesided_jax.sweep` as ``observers={"certificate": ...}`` and its result to
    :func:`certify`. It carries scalars and five vectors of the players' size, in float64: C1 is an
    equality on some games, and float32 sums exceed it. The steps of players without momentum
    are compared with the field, to see that they are those of the method that is named, made with
    these options; where they are not, no theorem covers the run. For extragradient methods that is
    one evaluation more, and asked of deterministic games only.

    Args:
      game: the game that is played, with ``facts``.
      method: the optimizer's name: "amsgrad_eg", "amsgrad_eg_drd", "amsgrad_xeg",
        "past_amsgrad_eg", "extra_sgd"; "amsgrad", "adam", "sgda" (no extrapolation).
      options: the keyword arguments it is made with, beside the swept hyperparameters of the same
        names; or a function of the hyperparameters that gives all of them.
      solution: ``PrimalDual(x*, y*)`` for a game whose facts have none; ``y*`` may be ``None``.
        It must be fixed before the run: one that is fitted to the run proves nothing.
      radius: bound on ``|x_{t,i} - x*_i|`` for the right sides, ``> 0``; ``None`` measures it.
      independent_samples: as the sweep's; the stochastic Theorem 3 needs ``True``.

    Returns:
      An observer, ``(init(players), update(sums, step_view))``.

    Raises:
      ValueError: for an unknown method, a game without ``facts`` or ``x*``, or where JAX's float64
        is off; when the sweep starts, for missing options, a ``solution`` of other shapes than the
        players and an optimizer that is another, or wrapped in another.

    Example:
      >>> import jax
      >>> import onesided_jax as osj
      >>> jax.config.update("jax_enable_x64", True)
      >>> game, options = osj.games.carousel(), {"eps": 0.5}
      >>> seeds, rates = osj.grid(seeds=2, primal_learning_rate=0.0138, dual_learning_rate=2.0)
      >>> result = osj.sweep(
      ...     game,
      ...     lambda h: osj.amsgrad_xeg(**h, **options),
      ...     seeds=seeds,
      ...     hyperparameters=rates,
      ...     steps=100,
      ...     observers={"certificate": osj.certificate(game, "amsgrad_xeg", options)},
      ... )
      >>> osj.certify(result)["T2"].status
      ['holds', 'holds']
      >>> jax.config.update("jax_enable_x64", False)

    References:
      This project (docs/theory), with the proofs.
    """
    following = find_method(method)
    if jax.dtypes.canonicalize_dtype(np.float64) != np.float64:
        raise ValueError(
            "a certificate needs float64: call jax.config.update('jax_enable_x64', True) first, or "
            "set JAX_ENABLE_X64=1"
        )
    known = _known(game, following.kind, solution, radius, independent_samples)
    # An earlier update must be remembered unless momentum is ruled out here and now.
    b1 = None if callable(options) else (options or {}).get("b1_update")
    momentum = method == "amsgrad_eg" and not (isinstance(b1, (int, float)) and b1 == 0)

    def init(players):
        _check_solution(known.solution, players)
        return {"sums": start(players, known, momentum), "memory": following.remember(players)}

    def update(carried, view):
        settings = read_settings(method, options, view.hyperparameters)
        check_itself(method, settings, view)
        memory, move = following.move(carried["memory"], view, settings)
        here = known._replace(delta=following.delta(settings))
        move = move._replace(exact=move.exact & _is_the_methods(game, here, move, view))
        return {"sums": advance(carried["sums"], move, here), "memory": memory}

    return _Observer(init, update)


def certify(
    run: Any,
    game: Game | None = None,
    method: str | None = None,
    *,
    solution: PrimalDual | None = None,
    radius: float | None = None,
    observer: str = "certificate",
) -> Certificate:
    r"""Checks every bound of the theory at every step of a run, and says which are proved for it.

    For each theorem the measured left side, for T1 :math:`\frac1T \sum_t
    \|\nabla_x f(x_t, y_t)\|^2_{H_t^{-1}}`, is compared with the right side, whose constants are
    known from the game (Lipschitz constants, noise) or measured on the run (distances, trace,
    displacements). A bound *holds* only where every premise of its theorem does too.

    Args:
      run: the result of a sweep that carried :func:`certificate`; snapshots are its checkpoints.
        Or a :class:`Trajectory`; snapshots are all its steps.
      game: of a ``Trajectory``: the deterministic game it was recorded on.
      method: of a ``Trajectory``: the optimizer's name as for :func:`certificate`, or its kind,
        "extragradient" or "plain".
      solution: of a ``Trajectory``: as for :func:`certificate`.
      radius: of a ``Trajectory``: as for :func:`certificate`.
      observer: the name under which the sweep carried the certificate.

    Returns:
      The :class:`Certificate`.

    Raises:
      ValueError: if the run lacks the recorded quantities (says which to record and how), for
        mismatched shapes, or a game without ``x*``.

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
      >>> trajectory = osj.analysis.Trajectory(players, before, ones, rates)
      >>> osj.certify(trajectory, game, "plain")["T6"].status
      ['holds']
    """
    if isinstance(run, Trajectory):
        return _certify_trajectory(run, game, method, solution, radius)
    return _certify_sweep(run, observer)


def _known(game, kind, solution, radius, independent) -> Known:
    facts = game.facts
    if facts is None:
        raise ValueError(
            "the game has no facts: give Game(..., facts=GameFacts(...)) with x* and the Lipschitz "
            "constants of its primal gradient"
        )
    if radius is not None and not radius > 0:
        raise ValueError(f"radius={radius!r}: expected a number > 0, or None to measure it")
    if solution is None:
        solution = PrimalDual(facts.primal_solution, facts.dual_solution)
    if solution.primal is None:
        raise ValueError(
            "the game has no x*: pass solution=PrimalDual(x_star, None), a point that was fixed "
            "before the run, e.g. the primal player at the end of another, longer one"
        )
    solution = jax.tree.map(lambda a: np.asarray(a, np.float64), solution)

    def objective(players):
        return jnp.asarray(_evaluate(game, players)[1].losses.primal, jnp.float64)

    return Known(
        kind=kind,
        solution=solution,
        delta=PrimalDual(None, None),
        facts=facts,
        radius=radius,
        independent=independent,
        objective=objective if facts.noise_variance == 0 else None,
    )


def _certify_sweep(result: Any, observer: str) -> Certificate:
    checkpoints = getattr(result, "checkpoints", None)
    if checkpoints is None:
        raise ValueError(
            f"run={type(result).__name__}: expected a Trajectory, or the result of a sweep with "
            f"{_HOW_TO_CARRY}"
        )
    taken = [step for step in sorted(checkpoints) if step > 0]
    found = checkpoints[taken[-1]].observers
    if observer not in found:
        raise ValueError(
            f"the sweep carried no observer {observer!r}, only {sorted(found)}: run it with "
            f"{_HOW_TO_CARRY}"
        )
    snapshots = [checkpoints[step].observers[observer]["sums"] for step in taken]
    sums = jax.tree.map(lambda *parts: np.stack([np.asarray(p) for p in parts], axis=1), *snapshots)
    groups = np.unique(
        np.stack([np.asarray(v) for v in result.hyperparameters.values()], axis=-1)
        if result.hyperparameters
        else np.zeros((len(result.seeds), 1)),
        axis=0,
        return_inverse=True,
    )[1].ravel()
    return _report(np.asarray(taken), sums, groups, np.asarray(result.diverged_at))


def _certify_trajectory(trajectory, game, method, solution, radius) -> Certificate:
    missing = [
        name
        for name, value in zip(trajectory._fields[:4], trajectory[:4], strict=True)
        if value is None
    ]
    if missing:
        raise ValueError(
            f"the trajectory lacks {', '.join(missing)}: record at every step the players before "
            "it (and after the last), the midpoint that grad_fn was asked at, the preconditioner h "
            "and the rates, as Trajectory's attributes say"
        )
    if game is None or method is None:
        raise ValueError("certify(Trajectory) expected the game and the method too")
    kinds = ("extragradient", "plain", "past")
    kind = method if method in kinds else find_method(method).kind
    if kind == "past":
        raise ValueError(
            f"method={method!r}: a Trajectory of extrapolation from the past is not supported; "
            f"carry osj.certificate(game, {method!r}, ...) through a sweep"
        )
    with jax.enable_x64(True):
        known = _known(game, kind, solution, radius, True)
        arrays = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), trajectory)
        length = _check_shapes(arrays, known.solution)
        rates = jax.tree.map(lambda a: jnp.broadcast_to(a, (length,)), arrays.learning_rates)
        looks = arrays.extrapolation_learning_rates
        looks = rates if looks is None else jax.tree.map(
            lambda a: jnp.broadcast_to(a, (length,)), looks
        )  # fmt: skip
        known = known._replace(
            delta=PrimalDual(
                *(
                    min(float(jnp.min(leaf)) for leaf in jax.tree.leaves(part))
                    for part in arrays.preconditioners
                )
            )
        )

        def body(sums, step):
            before, middle, after, h, rate, look = step
            move = Move(
                active=True,
                before=before,
                look=jax.tree.map(jnp.subtract, middle, before),
                step=jax.tree.map(jnp.subtract, after, before),
                metric=PrimalDual(
                    *(jax.tree.map(lambda a, r=r: a / r, part) for part, r in zip(h, rate))
                ),
                rates=look,
                shrink=jax.tree.map(jnp.divide, rate, look),
                b1=(0, 0, 0),
                dual_looks=jnp.stack(
                    [
                        jnp.any(a != b)
                        for a, b in zip(*map(jax.tree.leaves, (middle.dual, before.dual)))
                    ]
                ).any(),
                exact=True,
            )
            move = move._replace(exact=_follows_field(game, known, move))
            sums = advance(sums, move, known)
            return sums, sums

        players = arrays.players
        first, rest = (
            jax.tree.map(lambda a: a[:-1], players), jax.tree.map(lambda a: a[1:], players)
        )  # fmt: skip
        begin = start(jax.tree.map(lambda a: a[0], players), known, momentum=False)
        steps = (first, arrays.midpoints, rest, arrays.preconditioners, rates, looks)
        series = jax.jit(lambda: jax.lax.scan(body, begin, steps)[1])()
    sums = jax.tree.map(lambda a: np.asarray(a)[None], series)
    return _report(np.arange(1, length + 1), sums, np.zeros(1, int), np.full(1, -1))


def _check_shapes(trajectory: Trajectory, solution: PrimalDual) -> int:
    players = trajectory.players
    assert players is not None
    length = jax.tree.leaves(players)[0].shape[0] - 1
    if length < 1:
        raise ValueError("players: expected z_1 to z_{T+1} with T >= 1, got one point")

    def expect(name, tree, lead):
        want = jax.tree.map(lambda a: (lead, *a.shape[1:]), players)
        got = jax.tree.map(lambda a: a.shape, tree)
        if got != want:
            raise ValueError(f"{name} has shapes {got}, expected {want} beside those players")

    expect("players", players, length + 1)
    expect("midpoints", trajectory.midpoints, length)
    expect("preconditioners", trajectory.preconditioners, length)
    _check_solution(solution, jax.tree.map(lambda a: a[0], players))
    if not all(bool(jnp.all(h > 0)) for h in jax.tree.leaves(trajectory.preconditioners)):
        raise ValueError("preconditioners: expected positive numbers")
    return length


def _check_solution(solution: PrimalDual, players: PrimalDual) -> None:
    for name, point, player in zip(("x*", "y*"), solution, players, strict=True):
        if point is None:
            continue
        got, want = (jax.tree.map(np.shape, tree) for tree in (point, player))
        if got != want:
            raise ValueError(f"{name} of the solution has shapes {got}, expected {want}")


def _follows_field(game: Game, known: Known, move: Move) -> Any:
    """Whether a recorded primal step is the field at its points."""
    if known.kind != "extragradient":
        return _made_of(_evaluate(game, move.before)[0].primal, move.step.primal, move, "primal")
    middle = jax.tree.map(jnp.add, move.before, move.look)
    look = jax.tree.map(lambda d: d * move.shrink.primal, move.look.primal)
    return _made_of(_evaluate(game, middle)[0].primal, move.step.primal, move, "primal") & _made_of(
        _evaluate(game, move.before)[0].primal, look, move, "primal"
    )


def _is_the_methods(game: Game, known: Known, move: Move, view: Any) -> Any:
    """Whether a step is one of the method that is named, with its rates, where that can be asked.

    The preconditioner is read from the optimizer's state, its floor and the rates are what the
    options say: a step of other rates, or of a midpoint that another method looked at, is not the
    field. A player with momentum is not asked, for its steps are no field, nor an extragradient
    method on a stochastic game, where another minibatch decides.
    """
    narrow = [leaf.dtype for leaf in jax.tree.leaves(view.before) if _is_float(leaf)]
    precision = max((float(jnp.finfo(dtype).eps) for dtype in narrow), default=0.0)
    same = jnp.ones((), bool)
    for delta, rate, shrink, metric in zip(known.delta, move.rates, move.shrink, move.metric):
        least = delta / (rate * shrink) * (1 - max(1e-6, 16 * precision))
        for leaf in jax.tree.leaves(metric):
            same &= (jnp.min(leaf, initial=jnp.inf) >= least) | (rate * shrink == 0)
    if known.kind != "extragradient":
        field = view.field
    elif known.objective is not None:  # deterministic
        middle = jax.tree.map(jnp.add, move.before, move.look)
        field, _ = _evaluate(game, cast_like(middle, view.before))  # as the method itself asked
    else:
        return same
    for player, b1 in (("primal", move.b1[0]), ("dual", move.b1[2])):
        parts = getattr(field, player), getattr(move.step, player)
        same &= (jnp.asarray(b1) != 0) | _made_of(*parts, move, player, precision)
    return same


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _evaluate(game: Game, players: PrimalDual) -> tuple[PrimalDual, GameInfo]:
    """The field of a deterministic game without state, and its losses."""
    return game.field(players, (), game.sample(make_key(0)))


def _made_of(field: Any, displacement: Any, move: Move, player: str, precision: float = 0.0) -> Any:
    """Whether a displacement is minus the field in the inverse metric.

    To one part in a million, in narrow floats to sixteen units in the last place.
    """
    metric = getattr(move.metric, player)  # infinite where a rate is 0
    made = jax.tree.map(lambda m, g: -g / m, metric, field)
    error = sum(jnp.sum((a - b) ** 2) for a, b in zip(*map(jax.tree.leaves, (made, displacement))))
    size = sum(jnp.sum(a**2) for a in jax.tree.leaves(made))
    # A displacement is the difference of two stored points, the field one of terms of their size.
    stored = sum(jnp.sum(z**2) for z in jax.tree.leaves(move.before))
    relative, absolute = max(1e-6, 16 * precision), max(1e-14, 16 * precision)
    return error <= relative**2 * size + absolute**2 * stored


def _report(steps, sums: Sums, groups, diverged_at) -> Certificate:
    """Host arrays ``[R, S, ...]`` of sums as a certificate."""
    rate = np.where(sums.rate > 0, sums.rate, np.nan)
    runs = len(rate)
    bounds = {}
    for i, (name, (statement, premises)) in enumerate(BOUNDS.items()):
        lhs, rhs = (side[:, :, i] / rate for side in sums.check[:2])
        worst, first = (last[:, -1, i].copy() for last in sums.check[2:])
        notes: list[list[str]] = [[] for _ in range(runs)]
        if name == "T3":
            for mine in members(groups):
                mean_lhs, mean_rhs = lhs[mine].mean(0), rhs[mine].mean(0)
                lhs[mine], rhs[mine] = mean_lhs, mean_rhs
                worst[mine] = np.max(mean_lhs / mean_rhs)
                broken = mean_lhs > mean_rhs * (1 + ROUNDING)
                first[mine] = steps[np.argmax(broken)] if broken.any() else 0
                if len(mine) < 2 and not np.isnan(mean_rhs).all():
                    notes[mine[0]].append("an expectation needs several seeds")
        for run in range(runs):
            last = dict(zip(PREMISES, sums.failed[run, -1].tolist(), strict=True))
            broken = {p: last[p] for p in premises if last[p]}
            if any(kind in broken for kind in _KINDS):  # nothing else matters then
                broken = {kind: 1 for kind in _KINDS if kind in broken}
            for premise, since in broken.items():
                when = f" (from step {since})" if since > 1 else ""
                notes[run].append(PREMISES[premise] + when)
            if diverged_at[run] >= 0:
                notes[run].append(f"the run diverged at step {diverged_at[run]}")
            if name == "C2" and np.isinf(rhs[run, -1]):
                notes[run].append("x* lies outside the run's bounding box")
            if notes[run] and first[run]:
                notes[run].append(f"lhs exceeds rhs at step {first[run]}")
        status = [
            NOT_COVERED if notes[run] else VIOLATED if first[run] else HOLDS for run in range(runs)
        ]
        bounds[name] = Bound(
            statement, lhs, rhs, worst, first, status, ["; ".join(n) for n in notes]
        )
    return Certificate(
        steps=steps,
        bounds=bounds,
        sum_minty=sums.minty,
        kappa=(sums.q.primal / np.where(sums.p.primal > 0, sums.p.primal, np.nan))[:, -1],
    )
