"""Measures the runs of one cell: gradient norms, their change, and the one-sided MVI."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from onesided_jax.analysis.estimators import TINY, Array, SquaredNorm, change_of_norm
from onesided_jax.analysis.measure import Probe
from onesided_jax.analysis.minty import MintyTest, late_steps, minty_test
from onesided_jax.analysis.source import Source, pick_run
from onesided_jax.games import Game
from onesided_jax.players import PrimalDual
from onesided_jax.runs import Criteria
from onesided_jax.runs.criteria import in_window

__all__ = [
    "CellMeasures",
    "Tell",
    "counted",
    "measure_cell",
    "norms_lack",
    "player_names",
    "x_star",
]

T = TypeVar("T")
Tell = Callable[[str, int, int], None]  # label, parts done, all parts


def counted(items: Sequence[T], label: str, tell: Tell) -> Iterator[T]:
    """Yields the items; calls ``tell`` before each item and at the end."""
    for done, item in enumerate(items):
        tell(label, done, len(items))
        yield item
    tell(label, len(items), len(items))


class CellMeasures(NamedTuple):
    """The measurements of a cell's runs.

    Attributes:
      source: the runs.
      norms: both players' ``SquaredNorm[R, S]``.
      change: both players' ``Change[R]``.
      tests: run index to MVI test, for every run that did not diverge.
      tested: steps of the checkpoints in these tests; empty if there are too few checkpoints.
      windows_lack: reasons why the change of norms cannot be judged, a few words each.
      tests_lack: reasons why the MVI tests cannot be judged, a few words each.
      quality: measure of sample quality to ``f64[R, K]``.
    """

    source: Source
    norms: PrimalDual
    change: PrimalDual
    tests: dict[int, MintyTest]
    tested: list[int]
    windows_lack: list[str]
    tests_lack: list[str]
    quality: dict[str, Array]


def measure_cell(
    source: Source,
    game: Game,
    probe: Probe,
    criteria: Criteria,
    quality: dict[str, Array],
    tell: Tell,
) -> CellMeasures:
    """Measures a cell's runs; uses only the windows and sample sizes of ``criteria``."""
    norms = _gradient_norms(source, probe, tell)
    windows, lack = _windows(source, criteria)
    change = PrimalDual(
        *(change_of_norm(n, *windows, floor=_rounding_floor(n.value)) for n in norms)
    )
    tested = late_steps(source.steps, criteria.mvi_rows)
    tests = _minty_tests(source, game, probe, tested, tell) if tested else {}
    tests_lack = [] if tested else ["too few checkpoints for the one-sided MVI"]
    if source.steps[-1] < source.total_steps:
        unfinished = f"the run is at step {source.steps[-1]} of {source.total_steps}"
        lack, tests_lack = [unfinished, *lack], [unfinished, *tests_lack]
    return CellMeasures(source, norms, change, tests, tested, lack, tests_lack, quality)


def norms_lack(cell: CellMeasures, rows: np.ndarray) -> list[str]:
    """Reasons why the change of norms of some runs cannot be judged, a few words each.

    If the discriminator slows down, the generator comes to rest in any game. So a decaying learning
    rate is a reason.
    """
    decays = not cell.source.constant_rates[rows].all()
    return [*["a learning rate decays"] * decays, *cell.windows_lack]


def _known_target(game: Game) -> Any:
    """The point ``x*`` of this game, or None if it is not known."""
    return None if game.facts is None else game.facts.primal_solution


def x_star(game: Game) -> str:
    """The origin of ``x*``, in words."""
    return "end of the run" if _known_target(game) is None else "known"


def player_names(game: Game) -> PrimalDual:
    """Names of the players; a game that generates samples is a GAN."""
    if game.generate is not None:
        return PrimalDual("generator", "discriminator")
    return PrimalDual("primal player", "dual player")


def _gradient_norms(source: Source, probe: Probe, tell: Tell) -> PrimalDual:
    found = []
    for step in counted(source.steps, f"{source.label}: gradient norms", tell):
        snapshot = source.snapshot(step)
        found.append(probe.norms(snapshot.players, snapshot.state))
    return PrimalDual(
        *(
            SquaredNorm(*(np.stack(field, axis=-1) for field in zip(*player, strict=True)))
            for player in zip(*found, strict=True)
        )
    )


def _windows(source: Source, criteria: Criteria) -> tuple[list[np.ndarray], list[str]]:
    """Masks of the early and late checkpoints, and a reason for each window without checkpoints.

    An empty window takes the nearest trained checkpoint, so that an effect can be shown.
    """
    steps, whole = np.asarray(source.steps), source.total_steps
    masks, lack = [], []
    for window in (criteria.early_window, criteria.late_window):
        mask = in_window(steps, window, whole)
        if not mask.any():
            distance = np.where(steps > 0, np.abs(steps - np.mean(window) * whole), np.inf)
            mask = np.arange(steps.size) == distance.argmin()
            begin, end = window
            lack.append(f"no checkpoint between {begin:.0%} and {end:.0%} of the run")
        masks.append(mask)
    return masks, lack


def _rounding_floor(squared: Array) -> Array:
    """``[R]`` of ``[R, S]``: a squared norm below it is rounding."""
    precision = float(jax.numpy.finfo(jax.numpy.result_type(float)).eps)
    largest = np.where(np.isfinite(squared), squared, 0.0).max(-1, initial=0.0)
    return np.maximum(TINY, precision**2 * largest)


def _minty_tests(
    source: Source, game: Game, probe: Probe, tested: list[int], tell: Tell
) -> dict[int, MintyTest]:
    alive = np.flatnonzero(source.diverged_at < 0)
    snapshots = [source.snapshot(step) for step in tested]
    first, last = (source.snapshot(source.steps[end]) for end in (0, -1))
    known = _known_target(game)
    tests = {}
    for run in counted(alive.tolist(), f"{source.label}: one-sided MVI", tell):
        players = [pick_run(snapshot.players, run) for snapshot in snapshots]
        tests[run] = minty_test(
            game,
            probe,
            players=jax.tree.map(lambda *leaves: np.stack(leaves), *players),
            state=pick_run(last.state, run),
            start=pick_run(first.players.primal, run),
            target=pick_run(last.players.primal, run) if known is None else known,
        )
    return tests
