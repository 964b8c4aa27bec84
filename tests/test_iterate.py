"""The iterate behind displaced params."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import onesided_jax as osj

DISPLACED = {"optimistic_adam", "past_amsgrad_eg", "past_extra_adam"}
PLAYERS = osj.PrimalDual({"w": jnp.array([1.0, -2.0])}, jnp.array([0.5]))


def constant(players, i=0):
    """A field that is the same everywhere."""
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, 2.0), PLAYERS)


def after(tx, steps):
    players, state = PLAYERS, tx.init(PLAYERS)
    for _ in range(steps):
        updates, state = tx.update(constant(players), state, players, grad_fn=constant)
        players = optax.apply_updates(players, updates)
    return state, players


@pytest.mark.parametrize("name", sorted(osj.OPTIMIZERS))
def test_of_every_optimizer(name):
    """A displaced one has only looked ahead after its first step; the others have moved."""
    state, players = after(osj.OPTIMIZERS[name](0.1, 0.1), 1)
    found = osj.iterate(state, players)
    for a, moved, start in zip(*map(jax.tree.leaves, (found, players, PLAYERS))):
        assert not np.allclose(moved, start)
        if name == "alex_gda":  # its primal is the iterate, its dual has looked ahead as well
            assert (a < start).all()
            assert (moved <= a).all()
        elif name == "oadagrad":  # it has made its first step, and looked ahead as well
            assert (moved < a).all()
            assert (a < start).all()
        else:
            np.testing.assert_allclose(a, start if name in DISPLACED else moved, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "behind"),
    [
        (lambda base: osj.optimistic(base), 1),  # z' trails by the last update
        (lambda base: osj.past_extragradient(base), 1),  # the visible point is one step ahead
        (lambda base: optax.chain(osj.past_extragradient(base), optax.identity()), 1),
        (lambda base: osj.extragradient(base), 0),
    ],
)
def test_under_a_constant_field_it_trails_by_one_step(make, behind):
    """SGD of rate 0.1 moves by -0.2 a step, so every distance is known."""
    state, players = after(make(osj.descent_ascent(optax.sgd(0.1), optax.sgd(0.1))), 5)
    for found, moved in zip(*map(jax.tree.leaves, (osj.iterate(state, players), players))):
        np.testing.assert_allclose(found, moved + 0.2 * behind, rtol=1e-5)


def test_a_run_axis_is_fine_and_a_part_of_the_players_is_refused():
    tx = osj.past_extra_adam(0.1, 0.1)
    state, players = after(tx, 2)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), (state, players))
    alone, together = osj.iterate(state, players), osj.iterate(*many)
    for a, b in zip(*map(jax.tree.leaves, (alone, together))):
        np.testing.assert_allclose(np.stack([a] * 3), b)
    split = osj.descent_ascent(osj.optimistic(optax.sgd(0.1)), optax.sgd(0.1))
    with pytest.raises(ValueError, match=re.escape("OptimisticState belongs to a part of the")):
        osj.iterate(*after(split, 1))
