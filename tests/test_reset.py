"""One player's optimizer starts afresh while the other's goes on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optimizer_table import EVERY, assert_close, make, step, steps, tree_of

import onesided_jax as osj
from onesided_jax import PrimalDual

DRESS = {
    "PrimalDual": (lambda players: players, lambda tree: tree),
    "dict": (
        lambda players: {"generator": players.primal, "discriminator": players.dual},
        lambda tree: PrimalDual(tree["generator"], tree["discriminator"]),
    ),
}


def apart(players):
    """A field without coupling: each player's step depends on its own share of the state only."""
    return jax.tree.map(lambda a: jnp.sin(a) + 0.5, players)


ROWS = [(name, "PrimalDual") for name in EVERY]
ROWS += [(name, "dict") for name in ("adam", "amsgrad_eg", "lookahead_adam", "apply_if_finite")]


@pytest.mark.parametrize(("name", "clothes"), ROWS)
def test_the_first_step_after_a_reset_is_that_of_a_new_optimizer(name, clothes):
    dress, undress = DRESS[clothes]

    def field(tree):
        return dress(apart(undress(tree)))

    tx = make(name, osj.dual_rate_decay(0.02), osj.dual_rate_decay(0.05))
    # Lookahead would pull both back at the next step; transparent mode is between two iterations.
    count = 3 if name == "lookahead of extragradient" else 4
    with jax.disable_jit():
        players, state = steps(tx, field, dress(tree_of()), count)
        for player in PrimalDual._fields:
            (other,) = set(PrimalDual._fields) - {player}
            new = undress(players)._replace(**{player: getattr(tree_of(), player)})
            start, fresh = dress(new), tx.init(dress(new))
            after = osj.reset(state, fresh, player=player)
            resumed, begun, untouched = (
                undress(step(tx, field, start, s)[0]) for s in (after, fresh, state)
            )
            assert jax.tree.structure(after) == jax.tree.structure(state)
            if (name, player) != ("tiada", "primal"):  # its rate reads both players' sums
                assert_close(getattr(resumed, player), getattr(begun, player), rtol=1e-6)
            # The window of lookahead starts again for both.
            if "lookahead" not in name and (name, other) != ("tiada", "primal"):
                assert_close(getattr(resumed, other), getattr(untouched, other), rtol=1e-6)
            pairs = zip(*(jax.tree.leaves(getattr(z, player)) for z in (untouched, begun)))
            assert any(not np.allclose(a, b, rtol=1e-6, atol=0) for a, b in pairs)


@pytest.mark.parametrize(("name", "factor"), [("amsgrad_eg", 9.9), ("past_amsgrad_eg", 100.0)])
def test_moments_alone_are_no_reset(name, factor):
    """What a reset is for: fresh moments under an old counter make a step that is far too long."""
    tx = osj.OPTIMIZERS[name](0.01, 0.01, b2=0.99, eps=1e-8)
    players = PrimalDual(jnp.ones(2), jnp.ones(2))

    def field(players):
        return jax.tree.map(jnp.ones_like, players)

    players, state = jax.jit(lambda: steps(tx, field, players, 2000))()
    fresh = tx.init(players)
    reset = osj.reset(state, fresh, player="dual")
    half = reset._replace(count=state.count)
    length = [
        float(jnp.abs(step(tx, field, players, s)[0].dual - players.dual).max())
        for s in (fresh, reset, half)
    ]
    assert length[1] == pytest.approx(length[0], rel=1e-6)
    assert length[0] == pytest.approx(0.01, rel=1e-3)
    assert length[2] > factor * length[0]


def test_one_player_can_be_reset_inside_jit_and_optax_combinators():
    tx = optax.chain(
        optax.clip(1.0), osj.apply_if_finite(optax.MultiSteps(osj.adam(0.1, 0.1), 1), 3)
    )
    players = tree_of()
    with jax.disable_jit():
        _, state = steps(tx, apart, players, 3)
    after = jax.jit(lambda s, players: osj.reset(s, tx.init(players), player="primal"))(
        state, players
    )
    inner = after[1].inner_state.inner_opt_state.inner_states
    counts = {name: int(part.inner_state[0].count) for name, part in inner.items()}
    assert counts == {"primal": 0, "dual": 3}


@pytest.mark.parametrize(
    ("make_tx", "player", "message"),
    [
        (lambda: osj.adam(0.1, 0.1), "duel", "player='duel'.*did you mean 'dual'"),
        (lambda: osj.extragradient(optax.adam(0.1)), "dual", "ScaleByAdamState has one counter"),
        (lambda: optax.sgd(0.1), "dual", "no share of a player"),
    ],
)
def test_what_cannot_be_reset_is_refused(make_tx, player, message):
    tx, players = make_tx(), tree_of()
    with pytest.raises(ValueError, match=message):
        osj.reset(tx.init(players), tx.init(players), player)


def test_another_optimizer_s_state_is_refused():
    players = tree_of()
    with pytest.raises(ValueError, match="differ in structure"):
        osj.reset(osj.adam(0.1, 0.1).init(players), osj.sgda(0.1, 0.1).init(players))
