"""JAX's global settings, names, paths and threads change no number in silence."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import onesided_jax as osj
from onesided_jax.players import make_key
from onesided_jax.runs.packing import pack, unpack

RATES = {"primal_learning_rate": 0.01, "dual_learning_rate": 0.2}


def train(game=None, out=None, seeds=(0, 1), steps=4, rates=RATES, make=osj.extra_adam, **options):
    return osj.sweep(
        game or osj.games.carousel(),
        make,
        osj.grid(seeds=list(seeds), **rates),
        steps=steps,
        checkpoint_every=2,
        out=out,
        **options,
    )


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def small_gan():
    """With every source of randomness that a GAN has; little to compile."""
    generator, discriminator = osj.networks.mlp((2,), latent_dim=2, width=2, depth=1)
    return osj.games.gan(
        generator=generator,
        discriminator=discriminator,
        loss="wasserstein_gp",
        data=osj.datasets.load("ring"),
        batch_size=4,
        latent_dim=2,
    )


@contextlib.contextmanager
def setting(name, value):
    before = jax.config.values[name]
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


@contextlib.contextmanager
def another_generator():
    with setting("jax_default_prng_impl", "rbg"), setting("jax_threefry_partitionable", False):
        yield


def test_no_number_depends_on_the_random_generator_of_jax():
    def numbers():
        result = train(game := small_gan(), steps=8, make=osj.adam)
        criteria = osj.Criteria(microbatches=3, mvi_samples=4, mvi_rows=3)
        found = osj.analyze(result, game, criteria=criteria, quality=False).dataset
        return [*leaves(result.players), found["gradient_norm_sq"].values]

    expected = numbers()
    with another_generator():
        changed = numbers()
    for one, other in zip(expected, changed, strict=True):
        assert np.array_equal(one, other, equal_nan=True)


def test_neighbours_change_no_bit_under_rbg():
    game = small_gan()
    with setting("jax_default_prng_impl", "rbg"):
        first, second = (leaves(train(game, seeds=seeds).players) for seeds in ((0, 1), (7, 1)))
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one[1], other[1])


def test_a_run_goes_on_with_the_same_numbers_under_another_generator(tmp_path):
    game, stopped = small_gan(), KeyboardInterrupt()
    expected = train(game, steps=6)

    def stop(progress):
        if progress.step == 2:
            raise stopped

    with pytest.raises(KeyboardInterrupt):
        train(game, out=tmp_path / "run", steps=6, on_chunk=stop)
    with another_generator():
        found = train(game, out=tmp_path / "run", steps=6)
    for one, other in zip(leaves(expected.players), leaves(found.players), strict=True):
        assert np.array_equal(one, other)


def test_another_matmul_precision_is_told_once(tmp_path):
    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(out=tmp_path, steps=4, on_chunk=stop)
    with (
        setting("jax_default_matmul_precision", "highest"),
        pytest.warns(RuntimeWarning, match="matmul_precision None before, highest now"),
    ):
        train(out=tmp_path, steps=4)
    assert osj.open_run(tmp_path).manifest["settings"]["random_generator"] == "threefry2x32"


def test_another_precision_of_numbers_is_refused(tmp_path):
    train(out=tmp_path)
    with jax.enable_x64(True), pytest.raises(ValueError, match="holds another run"):
        train(out=tmp_path)


@pytest.mark.parametrize("implementation", ["rbg", "threefry2x32"])
def test_keys_of_a_game_keep_their_implementation(tmp_path, implementation):
    def field(players, state, batch):
        key, draw = jax.random.split(state["key"])
        noise = jax.random.normal(draw)
        F = osj.PrimalDual(players.dual + noise, -players.primal)
        return F, osj.GameInfo(osj.PrimalDual(noise, -noise), {"key": key})

    def init(key):
        return osj.PrimalDual(jnp.ones(()), jnp.ones(())), {
            "key": jax.random.key(3, impl=implementation)
        }

    game = osj.Game(init=init, sample=lambda key: (), field=field)
    expected = train(game, steps=6)

    def stop(progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(game, out=tmp_path, steps=6, on_chunk=stop)
    found = train(game, out=tmp_path, steps=6)
    assert jax.random.key_impl(found.state["key"]) == implementation
    assert np.array_equal(found.players.primal, expected.players.primal)
    make = osj.extra_adam
    there = osj.sweeps.restore(tmp_path, "sweep", game=game, make_optimizer=make)
    assert jax.random.key_impl(there.state.state["key"]) == implementation


def test_names_in_a_checkpoint_do_not_collide(tmp_path):
    observers = {
        "ema": (lambda players: players, lambda carried, view: view.after),
        "ema.primal": (lambda players: 0 * players.primal + 7, lambda carried, view: carried + 1),
        "ema/primal": (lambda players: 0 * players.primal + 9, lambda carried, view: carried),
        "": (lambda players: 0 * players.primal + 5, lambda carried, view: carried),
    }
    expected = train(observers=observers).checkpoints[4].observers
    found = train(observers=observers, out=tmp_path).checkpoints[4].observers
    assert jax.tree.structure(expected) == jax.tree.structure(found)
    for one, other in zip(leaves(expected), leaves(found), strict=True):
        assert np.array_equal(one, other)


@jax.tree_util.register_pytree_with_keys_class
class Mixed:
    """A node whose keys are no texts only."""

    KEYS = (1, "1", 1.0, True, "True", (1,), "a.b", "a%2Eb", "a", "-3", -3, "#", "%", "%!")

    def __init__(self, values):
        self.values = values

    def tree_flatten_with_keys(self):
        keys = map(jax.tree_util.DictKey, self.KEYS)
        return list(zip(keys, self.values, strict=True)), None

    @classmethod
    def tree_unflatten(cls, aux, values):
        return cls(list(values))


def test_pack_keeps_every_leaf():
    tree = {"m": Mixed([np.full(2, i) for i in range(len(Mixed.KEYS))])}
    packed = pack(tree)
    assert len(packed["m"]) == len(Mixed.KEYS)
    assert [leaf[0] for leaf in leaves(unpack(packed, tree))] == list(range(len(Mixed.KEYS)))


def test_paths_stay_where_they_were_given(tmp_path, monkeypatch):
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    monkeypatch.chdir(home)
    result = train(out="run", on_chunk=lambda progress: os.chdir(other))
    opened_here = None
    monkeypatch.chdir(home)
    opened_here = osj.open_run("run")
    monkeypatch.chdir(other)
    assert sorted(result.checkpoints) == [0, 2, 4]
    assert opened_here.store("sweep").steps() == [0, 2, 4]
    assert list(other.iterdir()) == []


BAD_AXES = {
    "b2": (1.5, "b2"),
    "dual_learning_rate": (-0.2, "sign lives in the field"),
    "eps": (-1.0, "eps"),
}


@pytest.mark.parametrize("name", BAD_AXES)
def test_the_axes_of_a_sweep_are_checked_like_plain_numbers(tmp_path, name):
    value, message = BAD_AXES[name]
    with pytest.raises(ValueError, match=message):
        train(rates={**RATES, name: value}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["lr/p", "", "a\nb", "\ud800", "x" * 101])
def test_names_that_an_analysis_cannot_hold_are_refused_before_any_work(tmp_path, name):
    rates = {**RATES, name: 0.5}
    with pytest.raises(ValueError, match="hyperparameter"):
        osj.sweep(
            osj.games.carousel(),
            osj.extra_adam,
            osj.Runs([0], {key: [value] for key, value in rates.items()}),
            steps=4,
            out=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


def test_odd_names_reach_the_analysis(tmp_path):
    rates = {**RATES, "seed": 0.5, "a.b": 0.25, "step": 0.125, "β": 1.0}
    result = osj.sweep(
        game := osj.games.carousel(),
        lambda primal_learning_rate, dual_learning_rate, **others: osj.extra_adam(
            primal_learning_rate, dual_learning_rate
        ),
        osj.Runs([0, 1], {key: [value] * 2 for key, value in rates.items()}),
        steps=4,
        checkpoint_every=2,
        out=tmp_path / "run",
    )
    assert sorted(result.checkpoints) == [0, 2, 4]
    osj.analyze(osj.open_run(tmp_path / "run"), game)
    dataset, _ = osj.analysis.load_analysis(osj.open_run(tmp_path / "run"))
    for name, value in rates.items():
        assert dataset[f"hp_{name}"].values.ravel().tolist() == [value] * 2


DIFFERENT = {
    "seeds": ({"seeds": (0, 2)}, r"seeds: only there 1; only here 2"),
    "a rate": ({"rates": {**RATES, "dual_learning_rate": 0.3}}, r"only there 0\.2; only here 0\.3"),
    "steps": ({"steps": 2}, r"steps is 4 there and 2 here"),
    "runs": ({"seeds": (0, 1, 2)}, r"only here 2; 2 values there and 3 here"),
    "order": ({"seeds": (1, 0)}, r"in another order from place 0 on"),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_another_run_is_told_by_what_differs(tmp_path, case):
    options, message = DIFFERENT[case]
    train(out=tmp_path)
    with pytest.raises(ValueError, match=message):
        train(out=tmp_path, **options)


def test_sweeps_in_threads_keep_their_files(tmp_path):
    game, threads = osj.games.carousel(), 4
    together = threading.Barrier(threads)

    def one(i):
        together.wait()
        return train(game, out=tmp_path / str(i), seeds=(i, i + 1), steps=20)

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(one, range(threads)))
    for i, result in enumerate(results):
        assert np.array_equal(
            result.players.primal, train(game, seeds=(i, i + 1), steps=20).players.primal
        )


def test_make_key_is_threefry():
    with setting("jax_default_prng_impl", "rbg"):
        assert jax.random.key_impl(make_key(0)) == "threefry2x32"


SWITCHES = {
    "jax_disable_jit": True,
    "jax_debug_nans": True,
    "jax_enable_checks": True,
    "jax_check_tracer_leaks": True,
    "jax_numpy_rank_promotion": "raise",
    "jax_log_compiles": True,
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", SWITCHES)
def test_a_sweep_runs_under_the_debugging_switches_of_jax(name, caplog):
    with setting(name, SWITCHES[name]):
        # Operation by operation a GAN would take minutes.
        eager = {"game": osj.games.bilinear(dim=1), "seeds": [0], "make": osj.sgda}
        options = eager if name == "jax_disable_jit" else {"game": small_gan()}
        result = train(**options, steps=2)
    assert np.isfinite(result.metrics["loss_primal"]).all()
