"""Measurements of one cell's runs: gradient norms, and the tests of the one-sided MVI."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from onesided_jax.analysis.estimators import SquaredNorm
from onesided_jax.analysis.measure import Probe
from onesided_jax.analysis.minty import MintyTest, minty_test, test_steps
from onesided_jax.analysis.source import Source, pick_run
from onesided_jax.games import Game
from onesided_jax.players import PrimalDual
from onesided_jax.runs import Criteria

__all__ = ["gradient_norms", "known_target", "minty_tests"]


def gradient_norms(source: Source, probe: Probe, tell: Callable[..., None]) -> PrimalDual:
    """Squared norms of both players at every checkpoint, each ``SquaredNorm[R, S]``."""
    found = []
    for i, step in enumerate(source.steps):
        tell("gradient norms", i, len(source.steps))
        found.append(probe.norms(*source.snapshot(step)))
    tell("gradient norms", len(source.steps), len(source.steps))
    return PrimalDual(
        *(
            SquaredNorm(*(np.stack(field, axis=-1) for field in zip(*player, strict=True)))
            for player in zip(*found, strict=True)
        )
    )


def known_target(game: Game) -> Any:
    """The point ``x*`` of a game whose answer is known, or None."""
    return None if game.facts is None else game.facts.primal_solution


def minty_tests(
    source: Source, game: Game, probe: Probe, criteria: Criteria, tell: Callable[..., None]
) -> tuple[dict[int, MintyTest], list[int]]:
    """A test of every run that did not diverge, by run index, and the tested steps."""
    tested = test_steps(source.steps, source.total_steps, criteria)
    alive = [run for run in range(len(source.seeds)) if source.diverged_at[run] < 0]
    known = known_target(game)
    tail_steps = [s for s in source.steps if s >= 0.9 * source.total_steps]
    if len(tested) < 3 or source.steps[-1] <= tested[-1] or source.steps[0] != 0:
        return {}, tested
    if known is None and not tail_steps:  # cut short: there is no continuation to take x* from
        return {}, tested
    snapshots = [source.snapshot(step) for step in tested]
    first, last = source.snapshot(0), source.snapshot(source.steps[-1])
    tail = [source.snapshot(step).players.primal for step in tail_steps]
    tests = {}
    for i, run in enumerate(alive):
        tell("one-sided MVI", i, len(alive))
        pick = functools.partial(pick_run, run=run)
        target, second = known, None
        if known is None:
            target = pick(last.players.primal)
            second = jax.tree.map(
                lambda *leaves: np.mean(leaves, axis=0), *(pick(primal) for primal in tail)
            )
        tests[run] = minty_test(
            game,
            probe,
            criteria,
            steps=tested,
            players=jax.tree.map(
                lambda *leaves: np.stack(leaves), *(pick(s.players) for s in snapshots)
            ),
            state=pick(last.state),
            first=pick(first.players.primal),
            target=target,
            second_target=second,
            run_seed=int(source.seeds[run]),
        )
    tell("one-sided MVI", len(alive), len(alive))
    return tests, tested
