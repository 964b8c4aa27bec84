"""Every optimizer and wrapper in the company that optax users keep: one row per promise."""

import functools
import inspect
import re
from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from jax import lax
from optimizer_table import (
    EVERY,
    OPTIMIZERS,
    TREE,
    WRAPPERS,
    assert_close,
    make,
    step,
    steps,
    tree_field,
    tree_of,
)

import onesided_jax as osj
from onesided_jax import PrimalDual, runs

RTOL = 1e-6
ROW = pytest.mark.parametrize("name", EVERY)
PERIODS = {"lookahead of extragradient": 2, "lookahead_adam": 5}


def path(tx, count=3, dtype="float32", field=tree_field, start=None, **extra_args):
    """The players after each of a few steps (on ``TREE`` if no start is given), and the state.

    Traced, since users jit; but computed operation by operation, which spares compiling a program
    for every row of this file: jit changes nothing (test_optimizers.py).
    """
    players = tree_of(dtype) if start is None else start
    state = tx.init(players)
    jax.eval_shape(partial(step, tx, field, **extra_args), players, state)
    seen = []
    with jax.disable_jit():
        for _ in range(count):
            players, state = step(tx, field, players, state, **extra_args)
            seen.append(players)
    return seen, state


def after(*args, **kwargs):
    """The players after the last of them."""
    return path(*args, **kwargs)[0][-1]


@pytest.fixture(scope="module")
def plain():
    """``path`` of each, computed once."""
    return functools.cache(lambda name: path(make(name, 0.02, 0.05)))


# ---- optax's combinators ----


@ROW
def test_chains_pass_grad_fn_and_unknown_extra_args_through(name, plain):
    extra = {"value": jnp.float32(1.0), "something_else": jnp.float32(2.0)}
    tx = optax.chain(optax.identity(), make(name, 0.02, 0.05))
    named = optax.named_chain(("nothing", optax.identity()), ("game", tx))
    assert_close(after(named, **extra), plain(name)[0][-1], rtol=RTOL)


def test_what_changes_gradients_sees_every_one_inside_extragradient_only():
    def moved(tx):
        params = osj.PrimalDual(jnp.ones(()), jnp.ones(()))
        F = osj.PrimalDual(1e3 * params.dual, -1e3 * params.primal)
        updates, _ = tx.update(F, tx.init(params), params, grad_fn=lambda params, i: F)
        return float(optax.tree.norm(updates))

    clip = optax.clip_by_global_norm(1.0)
    inside = osj.extragradient(optax.chain(clip, osj.sgda(0.1, 0.1)))
    assert moved(inside) == pytest.approx(0.1, rel=1e-5)
    assert moved(optax.chain(clip, osj.extra_sgd(0.1, 0.1))) > 100  # as docs/optax-loop.md says


@ROW
def test_multi_steps_averages_the_field(name, plain):
    # The same field twice per update: MultiSteps must take exactly the plain steps.
    tx = optax.MultiSteps(make(name, 0.02, 0.05), every_k_schedule=2).gradient_transformation()
    (still, first, again, second), _ = path(tx, 4)
    assert_close((still, first), (tree_of(), again), rtol=0)
    assert_close((first, second), tuple(plain(name)[0][:2]), rtol=RTOL)


@ROW
def test_optax_apply_if_finite_skips_a_bad_gradient(name, plain):
    tx = optax.apply_if_finite(make(name, 0.02, 0.05), max_consecutive_errors=3)
    params = tree_of()
    bad = jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), params)

    with jax.disable_jit():
        state = tx.init(params)
        updates, state = tx.update(bad, state, params, grad_fn=lambda p, i: tree_field(p))
        end, _ = step(tx, tree_field, params, state)
    assert_close(updates, jax.tree.map(jnp.zeros_like, params), rtol=0)
    assert_close(end, plain(name)[0][0], rtol=RTOL)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_inject_hyperparams_gives_the_same_steps(name):
    # A schedule is injected at the call, which for methods from the past is two iterations' half.
    primal = 0.02 if "past" in name or name == "oadagrad" else optax.linear_schedule(0.02, 0.0, 10)
    rates = (primal, 0.05)
    static = [s for s in SHAPES if s in inspect.signature(OPTIMIZERS[name]).parameters]
    expected = after(OPTIMIZERS[name](*rates), dtype="float64")
    tx = optax.inject_hyperparams(OPTIMIZERS[name], static_args=static)(*rates)
    assert_close(after(tx, dtype="float64"), expected, rtol=1e-12)
    injected = tx.init(tree_of()).hyperparams
    assert {"primal_learning_rate", "dual_learning_rate"} <= set(injected)


PROJECTING = optax.chain(optax.sgd(0.05), optax.keep_params_nonnegative())
PLAIN = osj.descent_ascent(optax.sgd(0.05), optax.sgd(0.05))
INSIDE = osj.descent_ascent(optax.sgd(0.05), PROJECTING)


def nonnegative(players):
    return PrimalDual(players.primal, jnp.maximum(players.dual, 0.0))


@pytest.mark.parametrize(
    ("tx", "after", "look", "ends"),
    [
        (osj.extragradient(INSIDE), False, False, True),
        (osj.extragradient_plus(INSIDE), False, False, True),
        (osj.past_extragradient(INSIDE), False, False, True),
        (osj.optimistic(INSIDE), False, False, True),
        (osj.lookahead_minmax(INSIDE, sync_period=5, slow_step_size=0.5), False, False, True),
        (osj.amsgrad_eg(0.02, 0.02), True, True, True),
        (osj.amsgrad_xeg(0.02, 0.02), True, False, True),
        (osj.sgda(0.05, 0.05), True, False, True),
        (osj.extragradient(PLAIN, opaque_mode=False), True, False, True),
        (osj.extragradient(PLAIN), True, False, False),  # what the page warns of
    ],
)
def test_constrained_multipliers_as_the_page_says(tx, after, look, ends):
    wanted, bounds = jnp.array([2.0, 1.0]), jnp.array([1.0, 3.0])

    def field(players):
        return PrimalDual(players.primal - wanted + players.dual, bounds - players.primal)

    def grad_fn(players, i):
        return field(nonnegative(players) if look else players)

    def step(carry, _):
        players, state = carry
        updates, state = tx.update(field(players), state, players, grad_fn=grad_fn)
        players = optax.apply_updates(players, updates)
        return (nonnegative(players) if after else players, state), None

    players = PrimalDual(jnp.zeros(2), jnp.zeros(2))
    (players, _), _ = jax.jit(lambda z: lax.scan(step, (z, tx.init(z)), length=6000))(players)
    found = np.concatenate([*players])
    assert bool(np.abs(found - [1.0, 1.0, 1.0, 0.0]).max() < 1e-3) is ends


def test_a_count_that_was_injected_is_told_how_not_to_be():
    tx = optax.inject_hyperparams(osj.lookahead_adam)(0.1, 0.1, sync_period=5)
    with pytest.raises(
        ValueError, match=r"inject_hyperparams takes static_args=\('sync_period',\)"
    ):
        tx.init(tree_of())


SHAPES = ("dual_steps", "sync_period", "max_iterations")  # of the program: no numbers to inject


@ROW
def test_decoupled_weight_decay_shrinks_both_players(name):
    # Outside: whatever the optimizer does with a zero field, each call shrinks both players alike.
    tx = optax.chain(make(name, 0.02, 0.05), optax.add_decayed_weights(-0.1))
    pull = name in {"anchored", "anchored, halpern"}  # towards the start, decayed players or not
    still = after(tx, field=partial(jax.tree.map, jnp.zeros_like))
    for end, start in zip(jax.tree.leaves(still), jax.tree.leaves(tree_of()), strict=True):
        assert (np.abs(end) < np.abs(start)).all()
        if name in PERIODS and PERIODS[name] < 3:
            continue  # pulled back once on the way
        if not pull and "transparent" not in name:
            np.testing.assert_allclose(end, 0.9**3 * start, rtol=1e-5)


@pytest.mark.parametrize(
    "wrap",
    [
        osj.extragradient,
        osj.extragradient_plus,
        osj.past_extragradient,
        osj.optimistic,
        partial(osj.lookahead_minmax, sync_period=2),
        lambda base: base,
    ],
    ids=["extragradient", "plus", "past", "optimistic", "lookahead", "descent_ascent"],
)
def test_decoupled_weight_decay_inside_the_base_shrinks_both_players(wrap):
    def players_after(decay):
        player = optax.adamw(0.01, weight_decay=decay)
        return after(wrap(osj.descent_ascent(player, player)), 4)

    for decayed, free in zip(
        jax.tree.leaves(players_after(1.0)), jax.tree.leaves(players_after(0.0)), strict=True
    ):
        assert np.sum(decayed**2) < np.sum(free**2)


# ---- jit, scan, cond, export, disk ----


@ROW
def test_one_program_serves_scan_cond_and_donated_buffers(name):
    tx = make(name, osj.dual_rate_decay(0.02), osj.dual_rate_decay(0.05))
    traces = []

    def maybe(carry, take):
        traces.append(None)
        return lax.cond(take, partial(step, tx, tree_field), lambda *same: same, *carry), None

    params = tree_of()
    carry = params, tx.init(params)
    kinds = {leaf.dtype.kind for leaf in jax.tree.leaves(carry[1])}
    assert kinds <= {"f", "i"}  # no bools
    jax.eval_shape(partial(lax.scan, maybe), carry, jnp.array([True, False]))
    traces.clear()
    maybe = jax.jit(maybe, donate_argnums=0)  # no buffer twice, not even where it begins
    for take in (True, False, True):
        carry, _ = maybe(carry, jnp.array(take))
    assert len(traces) == 1
    assert_close(carry[0], after(tx, 2), rtol=RTOL)


def test_the_state_of_each_round_trips_through_a_checkpoint(plain, tmp_path):
    like = {name.replace(",", ""): plain(name)[1] for name in EVERY}
    store = runs.CheckpointStore(tmp_path)
    store.write(3, runs.pack(like), {})
    restored = runs.unpack(store.read(3), jax.eval_shape(lambda: like))
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(like), strict=True):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)
    assert jax.tree.structure(restored) == jax.tree.structure(like)


# ---- a midpoint that turns non-finite ----


def exploding(threshold):
    """A field that is infinite, or worse, away from where training starts."""

    def field(players):
        far = jnp.any(jnp.abs(players.primal - 1.0) > threshold)
        return PrimalDual(jnp.where(far, jnp.inf, players.dual), -players.primal)

    return field


LOOKING = ["extra_adam", "extra_sgd", "amsgrad_eg", "amsgrad_xeg", "amsgrad_eg_drd"]


@pytest.mark.parametrize("name", LOOKING)
def test_a_midpoint_that_turns_non_finite_is_skipped(name):
    field = exploding(0.01)
    players = PrimalDual(jnp.ones(2), jnp.ones(2))
    bare = OPTIMIZERS[name](0.5, 0.5)
    lost, _ = step(bare, field, players, bare.init(players))
    assert not np.isfinite(lost.primal).all()  # the field at hand is finite: optax sees nothing
    unseen = optax.apply_if_finite(bare, 5)
    lost, _ = step(unseen, field, players, unseen.init(players))
    assert not np.isfinite(lost.primal).all()
    tx = osj.apply_if_finite(bare, 2)
    state = tx.init(players)
    for skipped in (1, 2):
        kept, state = step(tx, field, players, state)
        assert_close(kept, players, rtol=0)
        assert int(state.total_notfinite) == int(state.notfinite_count) == skipped
        assert_close(state.inner_state, bare.init(players), rtol=0)
    lost, state = step(tx, field, players, state)  # the third in a row is let through
    assert not np.isfinite(lost.primal).all()


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_bad_steps_are_counted_as_optax_counts_them(limit):
    """Skipped or let through, a bad step counts, and a good one starts the count again."""
    bad = np.array([1, 1, 1, 1, 0, 1, 0, 0, 1, 1, 1], bool)
    ours, theirs = (
        wrap(osj.sgda(0.1, 0.1), limit) for wrap in (osj.apply_if_finite, optax.apply_if_finite)
    )
    params = PrimalDual(jnp.ones(2), jnp.ones(2))
    mine, reference = ours.init(params), theirs.init(params)
    for is_bad in bad:
        F = jax.tree.map(lambda a: jnp.where(is_bad, jnp.nan, a), params)  # noqa: B023
        updates, mine = ours.update(F, mine, params)
        expected, reference = theirs.update(F, reference, params)
        assert_close(updates, expected, rtol=0)
        for count in ("notfinite_count", "total_notfinite"):
            assert int(getattr(mine, count)) == int(getattr(reference, count))
    assert int(mine.total_notfinite) == bad.sum()


def test_a_good_step_resets_the_count_of_bad_ones():
    players = PrimalDual(jnp.ones(2), jnp.ones(2))
    tx = osj.apply_if_finite(osj.extra_sgd(0.5, 0.5), 2)
    _, state = step(tx, exploding(0.01), players, tx.init(players))
    moved, state = step(tx, exploding(10.0), players, state)
    assert (int(state.notfinite_count), int(state.total_notfinite)) == (0, 1)
    bare = osj.extra_sgd(0.5, 0.5)
    assert_close(moved, step(bare, exploding(10.0), players, bare.init(players))[0], rtol=0)


def test_a_non_finite_midpoint_is_caught_though_its_field_is_finite():
    def field(players):
        return PrimalDual(jnp.tanh(players.primal), -jnp.tanh(players.dual))

    tx = osj.apply_if_finite(osj.extra_sgd(1e38, 1e38), 2)
    players = PrimalDual(jnp.float32(10.0), jnp.float32(-10.0))
    F = jax.tree.map(lambda a: 100 * a, field(players))  # finite, but the step overflows
    updates, state = tx.update(F, tx.init(players), players, grad_fn=lambda p, i: field(p))
    assert int(state.total_notfinite) == 1
    assert float(updates.primal) == 0.0


# ---- players in other clothes ----


def dict_of(primal, dual):
    return {"generator": primal, "discriminator": dual}


class Pair(nnx.Module):
    """Two parameters under the two names."""

    def __init__(self, players):
        self.generator = nnx.Param(jnp.asarray(players.primal["kernel"], jnp.float32))
        self.discriminator = nnx.Param(jnp.asarray(players.dual[0], jnp.float32))


CLOTHES = {
    "dict": dict_of,
    "frozen dict": lambda p, d: flax.core.freeze(dict_of(p, d)),
    "initials": lambda p, d: {"G": p, "D": d},
    "x, y": lambda p, d: {"x": p, "y": d},
}


SOME = ("adam", "amsgrad_eg", "lookahead_adam", "extragradient, transparent")
DRESSED = [(name, clothes) for name in EVERY for clothes in CLOTHES]
DRESSED = [row for row in DRESSED if row[1] == "dict" or row[0] in SOME]


@pytest.mark.parametrize(("name", "clothes"), DRESSED)
def test_two_known_keys_are_as_good_as_primal_dual(name, clothes, plain):
    dress = CLOTHES[clothes]
    first, second = (
        list(dress(0, 1)) if clothes != "frozen dict" else ("generator", "discriminator")
    )

    def field(players):
        return dress(*tree_field(PrimalDual(players[first], players[second])))

    start = dress(*tree_of())
    end = after(make(name, 0.02, 0.05), 2, field=field, start=start)
    assert jax.tree.structure(end) == jax.tree.structure(start)
    assert_close(PrimalDual(end[first], end[second]), plain(name)[0][1], rtol=RTOL)


def test_other_keys_are_named_and_can_be_given():
    players = {"min_player": jnp.ones(2), "adversary": jnp.ones(3)}
    with pytest.raises(ValueError, match=r"adversary.*with_player_keys"):
        osj.adam(0.1, 0.1).init(players)
    tx = osj.with_player_keys(osj.extra_sgd(0.1, 0.2), primal="min_player", dual="adversary")
    field = lambda p: {"min_player": p["min_player"], "adversary": -p["adversary"]}  # noqa: E731
    ends, _ = step(tx, field, players, tx.init(players))
    np.testing.assert_allclose(ends["min_player"], 1 - 0.1 * (1 - 0.1), rtol=1e-6)
    np.testing.assert_allclose(ends["adversary"], 1 + 0.2 * (1 + 0.2), rtol=1e-6)
    with pytest.raises(ValueError, match=re.escape("['min_player', 'opponent']")):
        osj.with_player_keys(osj.sgda(0.1, 0.1), "min_player", "opponent").init(players)
    with pytest.raises(ValueError, match="two different keys"):
        osj.with_player_keys(osj.sgda(0.1, 0.1), "a", "a")


NNX_NAMES = [name for name in EVERY if name != "extragradient, transparent"]


@pytest.mark.parametrize("name", NNX_NAMES)
def test_nnx_optimizer_updates_a_model_of_two_submodules(name):
    def of(players):
        return PrimalDual({"kernel": players.primal}, [players.dual])

    def field(players):
        F = tree_field(of(players))
        return PrimalDual(F.primal["kernel"], F.dual[0])

    tx = make(name, 0.02, 0.05)
    model = Pair(tree_of())
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    graphdef = nnx.graphdef(model)

    def grad_fn(params, i):
        del i
        merged = nnx.merge(graphdef, params)
        F = field(PrimalDual(merged.generator[...], merged.discriminator[...]))
        F = {"generator": F.primal, "discriminator": F.dual}
        return jax.tree.unflatten(jax.tree.structure(params), [F[k] for k in sorted(F)])

    for _ in range(2):
        params = nnx.state(model, nnx.Param)
        grads = grad_fn(nnx.as_pure(params), 0)
        grads = jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(grads))
        optimizer.update(model, grads, grad_fn=grad_fn)  # as nnx.grad gives them
    start = PrimalDual(tree_of().primal["kernel"], tree_of().dual[0])
    expected = after(tx, 2, field=field, start=start)
    assert_close(PrimalDual(model.generator[...], model.discriminator[...]), expected, rtol=RTOL)


class Stateful(nnx.Module):
    """BatchNorm in both players: a forward pass in training mode changes its statistics."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.generator = nnx.Sequential(nnx.Linear(2, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs))
        self.discriminator = nnx.Sequential(
            nnx.BatchNorm(3, rngs=rngs), nnx.Linear(3, 1, rngs=rngs)
        )

    def value(self):
        z = jnp.linspace(-1.0, 1.0, 8).reshape(4, 2) ** 2
        return jnp.mean(jnp.tanh(self.discriminator(jnp.tanh(self.generator(z)))))


def stateful_field(model):
    grads = nnx.grad(Stateful.value)(model)
    grads["discriminator"] = jax.tree.map(jnp.negative, grads["discriminator"])
    return grads


def statistics_after_a_step(tx, keep):
    """The documented loop, at rates of 0, with the midpoint's state dropped or kept."""
    model = Stateful()
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer):
        F = stateful_field(model)
        graphdef, _, rest = nnx.split(model, nnx.Param, ...)
        left = []

        def grad_fn(params, i):
            midpoint = nnx.merge(graphdef, params, rest, copy=True)
            field = stateful_field(midpoint)
            left.append(nnx.state(midpoint, nnx.BatchStat))
            return nnx.as_pure(field)

        optimizer.update(model, F, grad_fn=grad_fn)
        if keep:
            nnx.update(model, left[-1])

    train_step(model, optimizer)
    return jax.tree.leaves(nnx.as_pure(nnx.state(model, nnx.BatchStat)))


# One of each way to call grad_fn: never, once, or for Jacobian products.
STATEFUL = ("adam", "past_extra_adam", "optimistic_adam", "extra_adam", "amsgrad_xeg", "acgd")
STATEFUL += ("alternating_adam", "lookahead of extragradient", "extragradient, separate")
STATEFUL += ("anchored", "apply_if_finite")
STATEFUL = {name: partial(make, name, 0.0, 0.0) for name in STATEFUL}
STATEFUL["MultiSteps"] = lambda: optax.MultiSteps(osj.extra_sgd(0.0, 0.0), 2)


@functools.cache
def statistics_after(passes):
    model = Stateful()
    for _ in range(passes):
        model.value()
    return jax.tree.leaves(nnx.as_pure(nnx.state(model, nnx.BatchStat)))


@pytest.mark.parametrize("name", STATEFUL)
def test_batch_statistics_advance_once_a_step(name):
    for a, b in zip(
        statistics_after_a_step(STATEFUL[name](), keep=False), statistics_after(1), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["extra_adam", "amsgrad_eg"])
def test_the_state_of_the_midpoint_can_be_kept(name):
    for a, b in zip(
        statistics_after_a_step(make(name, 0.0, 0.0), keep=True), statistics_after(2), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


# ---- optax's generic tools ----


def masked(leaf):
    return isinstance(leaf, optax.MaskedNode)


@ROW
@pytest.mark.parametrize("clothes", ["PrimalDual", "dict"])
def test_init_takes_abstract_params(name, clothes):
    tx, params = make(name, 0.02, 0.05), tree_of("bfloat16")
    params = params if clothes == "PrimalDual" else dict_of(*params)
    shape = lambda leaf: (leaf.shape, leaf.dtype)  # noqa: E731
    abstract = tx.init(jax.eval_shape(lambda: params))
    assert jax.tree.map(shape, abstract) == jax.tree.map(shape, tx.init(params))


@ROW
@pytest.mark.parametrize("clothes", ["PrimalDual", "dict"])
def test_tree_map_params_finds_every_moment(name, clothes):
    tx, params = make(name, 0.02, 0.05), tree_of()
    params = params if clothes == "PrimalDual" else dict_of(*params)
    state = tx.init(params)
    found = optax.tree_map_params(
        tx, lambda leaf: leaf if masked(leaf) else "moment", state, is_leaf=masked
    )
    assert jax.tree.structure(found) == jax.tree.structure(state)
    moments = [leaf.ndim > 0 for leaf in jax.tree.leaves(state)]
    named = [isinstance(leaf, str) for leaf in jax.tree.leaves(found)]
    # The players' only scalar is a moment as well: never fewer than the arrays.
    assert all(name or not array for name, array in zip(named, moments, strict=True))
    counts = [leaf for leaf in jax.tree.leaves(found) if not isinstance(leaf, str)]
    assert all(leaf.dtype == jnp.int32 or name in OWN_SUMS for leaf in counts)


OWN_SUMS = {"tiada"}  # one number for a whole player, which is like no param
# Their states hold the dual player's part alone beside the primal's.
BY_PLAYER = {name for name in EVERY if "alternating" in name} | {"alex_gda"}


@pytest.mark.parametrize("name", [name for name in EVERY if name not in BY_PLAYER])
def test_tree_map_params_pairs_moments_with_the_params_own_tree(name):
    tx, params = make(name, 0.02, 0.05), tree_of()
    specs, state = jax.tree.map(lambda a: f"like {a.shape}", params), tx.init(params)
    found = optax.tree_map_params(
        tx, lambda leaf, spec: leaf if masked(leaf) else spec, state, specs, is_leaf=masked
    )
    for spec, leaf in zip(*map(jax.tree.leaves, (found, state)), strict=True):
        if isinstance(spec, str):
            assert spec == f"like {leaf.shape}"
        else:
            assert leaf.dtype == jnp.int32 or name in OWN_SUMS


def test_momentum_is_found_in_the_player_s_place():
    tx, params = osj.amsgrad_eg(0.1, 0.1, b1_update=0.5, dual_b1=0.5), tree_of()
    specs = jax.tree.map(lambda a: f"like {a.shape}", params)
    found = optax.tree_map_params(
        tx,
        lambda leaf, spec: leaf if masked(leaf) else spec,
        tx.init(params),
        specs,
        is_leaf=masked,
    )
    assert found.momentum.update.primal == specs.primal
    assert found.momentum.dual.dual == specs.dual
    assert found.momentum.extrapolation == ()


def test_linen_params_of_two_submodules():
    class Both(linen.Module):
        def setup(self):
            self.generator = linen.Dense(3)
            self.discriminator = linen.Dense(1)

        def __call__(self, z):
            return self.discriminator(jnp.tanh(self.generator(z)))

    z = jnp.linspace(-1.0, 1.0, 8).reshape(4, 2)
    both = Both()
    params = both.init(jax.random.key(0), z)["params"]
    assert set(params) == {"generator", "discriminator"}
    value = lambda params: jnp.mean(jnp.sin(both.apply({"params": params}, z)))  # noqa: E731

    def field(params):
        gradient = jax.grad(value)(params)
        return gradient | {"discriminator": jax.tree.map(jnp.negative, gradient["discriminator"])}

    tx = osj.extra_adam(0.01, 0.01, b1=0.0)
    ends, _ = jax.jit(lambda: steps(tx, field, params, 5))()
    assert jax.tree.structure(ends) == jax.tree.structure(params)
    halves = lambda p: PrimalDual(p["generator"], p["discriminator"])  # noqa: E731
    whole = lambda p: {"generator": p.primal, "discriminator": p.dual}  # noqa: E731
    expected, _ = jax.jit(lambda: steps(tx, lambda p: halves(field(whole(p))), halves(params), 5))()
    assert_close(halves(ends), expected, rtol=RTOL)


# ---- one player: ordinary minimisation, as optax tests its own ----


def valleys():
    """A parabola and Rosenbrock's function: a start, the minimum and the gradient."""
    initial = {"parabola": jnp.array([-1.0, 10.0, 1.0]), "rosenbrock": jnp.zeros(2)}
    final = {"parabola": jnp.array([1.0, -1.0, 1.0]), "rosenbrock": jnp.ones(2)}

    def value(z):
        (a, b), curved = z["rosenbrock"], jnp.sum((z["parabola"] - final["parabola"]) ** 2)
        return curved + (1 - a) ** 2 + 100 * (b - a**2) ** 2

    return initial, final, jax.grad(value)


SINGLE = {
    "extragradient(adam)": lambda rate: osj.extragradient(optax.adam(rate)),
    "extragradient(adam), transparent": lambda rate: osj.extragradient(
        optax.adam(rate), opaque_mode=False
    ),
    "extragradient(adam), discarded": lambda rate: osj.extragradient(
        optax.adam(rate), extrapolation_state="discarded"
    ),
    "extragradient_plus(adam)": lambda rate: osj.extragradient_plus(optax.adam(rate)),
    "past_extragradient(adam)": lambda rate: osj.past_extragradient(optax.adam(rate)),
    "past_extragradient(adam), separate": lambda rate: osj.past_extragradient(
        optax.adam(rate), extrapolation_state="separate"
    ),
    "optimistic(adam)": lambda rate: osj.optimistic(optax.adam(rate)),
    "optimistic(adam), zero": lambda rate: osj.optimistic(optax.adam(rate), first_step="zero"),
    "lookahead_minmax(adam)": lambda rate: osj.lookahead_minmax(optax.adam(rate)),
    "lookahead_minmax(extragradient(adam))": lambda rate: osj.lookahead_minmax(
        osj.extragradient(optax.adam(rate))
    ),
    "consensus(adam)": lambda rate: osj.consensus(optax.adam(rate), 1e-3),
    "apply_if_finite(adam)": lambda rate: osj.apply_if_finite(optax.adam(rate), 3),
}


@pytest.mark.parametrize("name", SINGLE)
def test_a_single_player_minimises(name):
    start, final, gradient = valleys()
    tx = SINGLE[name](optax.exponential_decay(4e-3, 10_000, 0.5))
    ends, _ = jax.jit(lambda: steps(tx, gradient, start, 20_000))()
    for end, goal in zip(jax.tree.leaves(ends), jax.tree.leaves(final), strict=True):
        np.testing.assert_allclose(end, goal, rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize("form", ["extragradient", "halpern"])
def test_anchored_minimises_a_parabola(form):
    tx = osj.anchored(optax.sgd(0.1), form=form)
    ends, _ = jax.jit(lambda: steps(tx, lambda x: 2 * (x - 1), jnp.array([-1.0, 10.0]), 2_000))()
    np.testing.assert_allclose(ends, 1.0, atol=3e-2)


# ---- convergence on the games that a method's theory covers ----

A = np.diag([1.0, 0.7, 0.4])


def bilinear(z):
    return PrimalDual(A @ z.dual, -A.T @ z.primal)


def quadratic(z):  # strongly monotone
    return PrimalDual(z.primal + A @ z.dual, 0.5 * z.dual - A.T @ z.primal)


def logarithmic(z):  # MVI, not monotone
    slope = lambda a: 2 * a / (1 + a * a)  # noqa: E731
    return PrimalDual(slope(z.primal) + z.dual, slope(z.dual) - z.primal)


def weak_minty(z, a=0.2, b=1.0):  # -a/2 x^2 + b xy + a/2 y^2
    return PrimalDual(-a * z.primal + b * z.dual, -(b * z.primal + a * z.dual))


COVERED = {
    bilinear: {
        "alex_gda": lambda: osj.alex_gda(0.5, 0.5),
        "extra_sgd": lambda: osj.extra_sgd(0.5, 0.5),
        "extra_adam": lambda: osj.extra_adam(0.3, 0.3, b1=0.0, b2=0.9, eps=1.0),
        "amsgrad_eg": lambda: osj.amsgrad_eg(0.5, 0.5, eps=1.0),
        "past_amsgrad_eg": lambda: osj.past_amsgrad_eg(0.4, 0.4, eps=1.0),
        "past_extra_adam": lambda: osj.past_extra_adam(0.3, 0.3, b1=0.0, b2=0.9, eps=1.0),
        "past_extragradient(sgd)": lambda: osj.past_extragradient(osj.sgda(0.3, 0.3)),
        "optimistic(sgd)": lambda: osj.optimistic(osj.sgda(0.3, 0.3)),
        "optimistic_adam": lambda: osj.optimistic_adam(0.3, 0.3, b1=0.0, b2=0.9, eps=1.0),
        "oadagrad": lambda: osj.oadagrad(1.0, 1.0, initial_accumulator=9.0),
        "lookahead(sgda)": lambda: osj.lookahead_minmax(osj.sgda(0.3, 0.3), 5, 0.5),
        "consensus(sgda)": lambda: osj.consensus(osj.sgda(0.2, 0.2), 1.0),
        "acgd": lambda: osj.acgd(0.3, 0.3, eps=1.0),
        "extragradient_plus(sgd)": lambda: osj.extragradient_plus(osj.sgda(0.5, 0.5)),
    },
    quadratic: {
        "sgda": lambda: osj.sgda(0.2, 0.2),
        "sgd and nupi": lambda: osj.descent_ascent(optax.sgd(0.2), osj.nupi(0.2)),
        "tiada": lambda: osj.tiada(1.0, 1.0),
        "adam": lambda: osj.adam(0.01, 0.01, b1=0.0, eps=1.0),
        "alternating_adam": lambda: osj.alternating_adam(0.01, 0.01, b1=0.0, eps=1.0),
        "amsgrad": lambda: osj.amsgrad(0.1, 0.1, b1=0.0, eps=1.0),
        "lookahead_adam": lambda: osj.lookahead_adam(0.05, 0.05, b1=0.0, eps=1.0),
        "extra_sgd": lambda: osj.extra_sgd(0.3, 0.3),
        "anchored, halpern": lambda: osj.anchored(osj.sgda(0.2, 0.2), form="halpern"),
    },
    logarithmic: {
        "extra_sgd": lambda: osj.extra_sgd(0.2, 0.2),
        "amsgrad_eg": lambda: osj.amsgrad_eg(0.3, 0.3, eps=1.0),
        "past_amsgrad_eg": lambda: osj.past_amsgrad_eg(0.3, 0.3, eps=1.0),
        "optimistic(sgd)": lambda: osj.optimistic(osj.sgda(0.2, 0.2)),
    },
    weak_minty: {
        "extragradient_plus(sgd)": lambda: osj.extragradient_plus(
            osj.sgda(2**-0.5, 2**-0.5), update_scale=0.22
        ),
        "amsgrad_eg, update_scale": lambda: osj.amsgrad_eg(
            20.0, 20.0, eps=30.0, b2=0.0, update_scale=0.2
        ),
    },
}
ROWS = [(game, name) for game, methods in COVERED.items() for name in methods]
SLOW = {"anchored, halpern": 1e-2}  # O(1/k), the others are linear


@pytest.mark.parametrize(
    ("game", "name"), ROWS, ids=[f"{game.__name__}-{name}" for game, name in ROWS]
)
def test_converges_where_the_theory_says(game, name):
    with jax.enable_x64(True):
        start = PrimalDual(jnp.array([1.0, -0.5, 0.7]), jnp.array([0.3, 0.9, -0.8]))
        tx = COVERED[game][name]()
        ends, _ = jax.jit(lambda: steps(tx, game, start, 20_000))()
    assert max(np.abs(leaf).max() for leaf in ends) < SLOW.get(name, 1e-6)


FAILS = {
    "sgda, bilinear": (bilinear, lambda: osj.sgda(0.05, 0.05)),
    "extra_sgd, weak MVI": (weak_minty, lambda: osj.extra_sgd(2**-0.5, 2**-0.5)),
    "momentum above 1/3, bilinear": (
        bilinear,
        lambda: osj.extragradient(
            osj.descent_ascent(*2 * [optax.sgd(0.02, momentum=0.4)]),
            extrapolation_state="separate",
        ),
    ),
}


@pytest.mark.parametrize("name", FAILS)
def test_diverges_where_the_theory_forbids(name):
    game, make_tx = FAILS[name]
    start = PrimalDual(jnp.ones(3), jnp.ones(3))
    ends, _ = jax.jit(lambda: steps(make_tx(), game, start, 10_000))()
    assert not max(np.abs(leaf).max() for leaf in ends) < 2.0


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("b1", "converges"), [(0.3, True), (0.37, False)])
def test_update_momentum_turns_bilinear_games_unstable_at_one_third(b1, converges):
    # theory.md, Theorem 8: both players carry a running mean in the update half-step.
    eta = 0.02
    tx = osj.amsgrad_eg(
        eta * 1e6, eta * 1e6, eps=1e6, b1_update=b1, dual_b1=b1
    )  # eps so large that the preconditioner is a constant
    start = PrimalDual(jnp.ones(1), jnp.ones(1))
    field = lambda z: PrimalDual(z.dual, -z.primal)  # noqa: E731
    ends, _ = jax.jit(lambda: steps(tx, field, start, 60_000))()
    size = np.hypot(ends.primal[0], ends.dual[0])
    assert (size < 0.5) if converges else (size > 2.0)


@pytest.mark.parametrize("wrap", [lambda tx: tx, lambda tx: optax.chain(optax.clip(1.0), tx)])
def test_lookahead_pulls_back_after_whole_steps_only(wrap):
    """A pull between two half-steps would be undone by the second of them."""
    base = wrap(osj.extra_sgd(0.1, 0.1, opaque_mode=False))
    with pytest.raises(ValueError, match="sync_period=5: expected an even number"):
        osj.lookahead_minmax(base, 5).init(tree_of("float32"))
    opaque = osj.lookahead_minmax(osj.extra_sgd(0.1, 0.1), 5)
    halves = osj.lookahead_minmax(osj.extra_sgd(0.1, 0.1, opaque_mode=False), 10)
    assert_close(after(opaque, 10), after(halves, 20), RTOL)


@pytest.mark.parametrize("make_base", [osj.extra_sgd, osj.extra_adam])
def test_half_steps_take_gradients_of_lower_precision(make_base):
    tx = make_base(0.1, 0.1, opaque_mode=False)
    players = PrimalDual(jnp.ones(2), jnp.ones(2))
    state = tx.init(players)
    for _ in range(4):
        F = PrimalDual(players.dual.astype(jnp.bfloat16), -players.primal.astype(jnp.bfloat16))
        updates, state = tx.update(F, state, players)
        players = optax.apply_updates(players, updates)
    assert players.primal.dtype == jnp.float32
    assert np.isfinite(players.primal).all()


COMPLEX = (
    "amsgrad_eg",
    "amsgrad_xeg",
    "amsgrad_eg_drd",
    "past_amsgrad_eg",
    "alex_gda",
    "oadagrad",
    "extra_adam",
    "tiada",
)


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_players_turn_with_their_phase(name):
    """f(x, y) = Re(x conj(y)) knows no phase, and a second moment of moduli keeps it so."""

    def play(phase):
        start = PrimalDual(jnp.array([1 + 0.5j, 2j]) * phase, jnp.array([-0.3 + 1j, 0.2]) * phase)
        return after(osj.OPTIMIZERS[name](0.1, 0.1), 6, field=turn, start=start)

    def turn(players):
        return PrimalDual(players.dual, -players.primal)

    phase = np.complex64(np.exp(2j))
    plain, turned = play(np.complex64(1)), play(phase)
    for a, b in zip(plain, turned, strict=True):
        np.testing.assert_allclose(a * phase, b, rtol=1e-4, atol=1e-5)
        assert np.abs(a).max() < 3


def test_acgd_refuses_complex_players():
    with pytest.raises(ValueError, match="acgd: expected real players"):
        osj.acgd(0.1, 0.1).init(PrimalDual(jnp.ones(2, complex), jnp.ones(2)))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def test_the_tables_cover_every_public_optimizer():
    wrappers = {"descent_ascent", "alternating", "extragradient", "extragradient_plus"}
    wrappers |= {"past_extragradient", "optimistic", "lookahead_minmax", "anchored", "consensus"}
    wrappers |= {"apply_if_finite", "with_player_keys"}
    wrappers |= {"nupi", "projected", "alternating_extrapolation"}
    others = {"dual_rate_decay", "check_hyperparameters", "iterate", "reset"}
    assert {n for n in osj.optimizers.__all__ if n[0].islower()} - others == wrappers | set(
        OPTIMIZERS
    )
    assert TREE.primal  # the table's own game
    assert set(WRAPPERS) | set(OPTIMIZERS) == set(EVERY)
