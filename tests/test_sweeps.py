"""Training steps and sweeps: what a trajectory may and may not depend on."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import onesided_jax as osj
from onesided_jax import Game, GameInfo, GameSpec, OptimizerSpec, PrimalDual, Recipe, games
from onesided_jax.analysis import generate
from onesided_jax.runs import build_game
from onesided_jax.sweeps.engine import Plan, Training, average, program
from onesided_jax.sweeps.layout import abstract_carry, choose_layout, compile_chunk
from onesided_jax.sweeps.memory import needed_bytes

pytestmark = pytest.mark.as_shipped


def noisy_game(calls: list | None = None) -> Game:
    """f(x, y) = x y plus noise on the field, and a state that counts evaluations 0."""

    def field(players, state, batch):
        if calls is not None:
            calls.append(1)
        noise = PrimalDual(batch[0], batch[1])
        F = PrimalDual(players.dual + noise.primal, -players.primal + noise.dual)
        f = jnp.sum(players.primal * players.dual)
        return F, GameInfo(PrimalDual(f, -f), state + 1)

    return Game(
        init=lambda key: (PrimalDual(*jax.random.normal(key, (2, 3))), jnp.zeros((), jnp.int32)),
        sample=lambda key: 0.1 * jax.random.normal(key, (2, 3)),
        field=field,
    )


def make_eg(primal_learning_rate, dual_learning_rate):
    return osj.amsgrad_eg(primal_learning_rate, dual_learning_rate, eps=0.5)


def eight_runs():
    return osj.grid(seeds=2, primal_learning_rate=(0.1, 0.2), dual_learning_rate=(0.1, 0.3))


def assert_same_bits(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.mark.parametrize("independent", [True, False])
def test_step_draws_the_minibatches_that_the_contract_states(independent):
    game = noisy_game()
    seen = []

    def spying():
        def update(updates, state, params, *, grad_fn):
            seen.append((updates, grad_fn(params, 0), grad_fn(params, 1)))
            return updates, state

        return optax.GradientTransformationExtraArgs(lambda p: (), update)

    init, step = osj.make_step(game, spying, independent_samples=independent)
    before = init(jax.random.key(0), {})
    after, info = step(before, {})
    step_key = jax.random.fold_in(before.key, 0)
    for evaluation, F in enumerate(seen[0]):
        batch = game.sample(jax.random.fold_in(step_key, evaluation if independent else 0))
        expected, _ = game.field(before.players, before.state, batch)
        assert_same_bits(F, expected)
    assert_same_bits(info.field, seen[0][0])
    assert int(after.state) == 1  # evaluation 0 only
    assert int(after.step) == 1
    assert_same_bits(after.players, optax.apply_updates(before.players, info.updates))


def test_sweep_equals_single_runs_in_a_loop():
    game = noisy_game()
    runs = eight_runs()
    result = osj.sweep(game, make_eg, runs, steps=12, checkpoint_every=4)
    init, step = osj.make_step(game, make_eg)
    step = jax.jit(step)
    for i, seed in enumerate(runs.seeds):
        h = {name: float(v[i]) for name, v in runs.hyperparameters.items()}
        train = init(jax.random.key(int(seed)), h)
        for k in range(12):
            train, info = step(train, h)
            np.testing.assert_allclose(
                result.metrics["loss_primal"][i, k], info.losses.primal, rtol=1e-5, atol=1e-6
            )
        np.testing.assert_allclose(result.players.primal[i], train.players.primal, rtol=1e-5)
    assert list(result.checkpoints) == [0, 4, 8, 12]
    assert_same_bits(result.checkpoints[12].players, result.players)
    assert (result.diverged_at == -1).all()


def test_slot_and_neighbours_and_padding_change_no_bit():
    game = noisy_game()
    runs = eight_runs()
    whole = osj.sweep(game, make_eg, runs, steps=10, width=3)
    order = np.random.default_rng(0).permutation(len(runs))
    shuffled = osj.sweep(
        game,
        make_eg,
        runs.take(order),
        steps=10,
        width=3,
    )
    assert_same_bits(jax.tree.map(lambda a: a[order], whole.players), shuffled.players)
    some = [5, 2]
    few = osj.sweep(
        game,
        make_eg,
        runs.take(some),
        steps=10,
        width=3,
    )
    assert_same_bits(jax.tree.map(lambda a: a[some], whole.players), few.players)


def test_an_integer_that_a_run_begins_with_is_its_own():
    """Counts are shared by all runs; what looks like one and was drawn from the seed is not."""

    def field(players, state, batch):
        return PrimalDual(players.primal - state, players.dual), GameInfo(
            PrimalDual(0.0, 0.0), state
        )

    game = Game(
        init=lambda key: (
            PrimalDual(jnp.zeros(()), jnp.zeros(())),
            jax.random.randint(key, (), 0, 99),
        ),
        sample=lambda key: (),
        field=field,
    )
    result = osj.sweep(game, make_sgd, osj.Runs([0, 1, 2], {"rate": [1.0] * 3}), steps=2)
    drawn = [int(game.init(jax.random.split(jax.random.key(seed))[0])[1]) for seed in range(3)]
    assert len(set(drawn)) == 3
    assert result.state.tolist() == drawn
    assert result.players.primal.tolist() == drawn


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 0}, "width=0: expected an integer >= 1"),
        ({"steps": None}, "steps=None: expected an integer >= 1"),
        ({"record_every": 1.5}, "record_every=1.5: expected an integer >= 1"),
        ({"devices": []}, "expected at least one"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_named(wrong, message, tmp_path):
    arguments = {"runs": osj.Runs([0], {"rate": [0.1]}), "steps": 2, **wrong}
    with pytest.raises(ValueError, match=re.escape(message)):
        osj.sweep(exploding_game(), make_sgd, out=tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_numpy_integers_are_integers(tmp_path):
    runs = osj.grid(seeds=np.int64(2), rate=0.1)
    osj.sweep(
        exploding_game(), make_sgd, runs, out=tmp_path / "run",
        steps=np.int64(2), checkpoint_every=np.int32(2), record_every=np.int64(1),
        width=np.int64(2), independent_samples=np.bool_(True),
    )  # fmt: skip
    assert osj.open_run(tmp_path / "run").finished()


@pytest.mark.parametrize("seeds", [(0.5, 1.5), 2.5, ["a"]], ids=str)
def test_seeds_that_are_no_integers_are_refused(seeds):
    with pytest.raises(ValueError, match="expected integers, or the number"):
        osj.grid(seeds=seeds, rate=0.1)


def exploding_game() -> Game:
    """f = x^4 / 4 - y^2 / 2: gradient descent overshoots to infinity at a large rate."""
    return Game(
        init=lambda key: (PrimalDual(*(1 + jax.random.uniform(key, (2, 2)))), ()),
        sample=lambda key: (),
        field=games.zero_sum_field(lambda x, y: jnp.sum(x**4) / 4 - jnp.sum(y**2) / 2),
    )


def make_sgd(rate):
    return osj.descent_ascent(optax.sgd(rate), optax.sgd(rate))


def test_a_diverging_run_is_frozen_dated_and_touches_no_neighbour():
    game = exploding_game()
    rates = np.array([0.01, 5.0, 0.02])
    seeds = np.array([0, 1, 2])
    bad = osj.sweep(game, make_sgd, osj.Runs(seeds, {"rate": rates}), steps=40, checkpoint_every=10)
    good = osj.sweep(
        game,
        make_sgd,
        osj.Runs(seeds, {"rate": [0.01, 0.015, 0.02]}),
        steps=40,
        checkpoint_every=10,
    )
    assert bad.diverged_at[[0, 2]].tolist() == [-1, -1]
    neighbours = lambda result: jax.tree.map(lambda a: a[[0, 2]], (result.players, result.metrics))  # noqa: E731
    assert_same_bits(neighbours(bad), neighbours(good))
    when = int(bad.diverged_at[1])
    assert 1 <= when <= 10
    # Replay by hand up to the last finite state.
    init, step = osj.make_step(game, make_sgd)
    train = init(jax.random.key(1), {"rate": 5.0})
    for _ in range(when - 1):
        train, _ = step(train, {"rate": 5.0})
        assert np.isfinite(train.players.primal).all()
    np.testing.assert_allclose(bad.players.primal[1], train.players.primal, rtol=1e-4)
    after, info = step(train, {"rate": 5.0})
    finite = [np.isfinite(a).all() for a in (*after.players, *info.field)]
    assert not all(finite)
    assert np.isfinite(bad.metrics["loss_primal"][1, : when - 1]).all()
    assert np.isnan(bad.metrics["loss_primal"][1, when - 1 :]).all()
    assert_same_bits(
        jax.tree.map(lambda a: a[1], bad.checkpoints[20].players),
        jax.tree.map(lambda a: a[1], bad.checkpoints[40].players),
    )


def test_a_midpoint_that_turns_non_finite_is_caught():
    def field(players, state, batch):
        # Infinite slope beyond 2: the first evaluation (at 1) is fine, the midpoint is not.
        slope = jnp.where(players.primal > 2, jnp.inf, -1.0)
        return PrimalDual(slope, 0 * players.dual), GameInfo(PrimalDual(0.0, 0.0), state)

    game = Game(
        init=lambda key: (PrimalDual(jnp.ones(1), jnp.ones(1)), ()),
        sample=lambda key: (),
        field=field,
    )
    make = lambda rate: osj.extragradient(optax.sgd(rate))  # noqa: E731
    result = osj.sweep(game, make, osj.Runs([0, 1], {"rate": [0.01, 2.0]}), steps=3)
    assert result.diverged_at.tolist() == [-1, 1]
    assert result.players.primal[1] == 1.0


def test_observers_see_every_step_and_are_checkpointed(tmp_path):
    def update(s, view):
        moved = jnp.sum(jnp.abs(view.after.primal - view.before.primal - view.updates.primal))
        return {
            "steps": s["steps"] + 1,
            "sum": s["sum"] + view.step * view.hyperparameters["primal_learning_rate"],
            "residual": s["residual"] + moved,
            "field": s["field"] + jnp.sum(view.field.dual),
        }

    zero = {"steps": jnp.int32(0), "sum": 0.0, "residual": 0.0, "field": 0.0}
    observer = (lambda players: jax.tree.map(jnp.asarray, zero), update)
    runs = eight_runs()

    def run(out):
        return osj.sweep(
            noisy_game(),
            make_eg,
            runs,
            steps=6,
            checkpoint_every=3,
            observers={"mine": observer},
            out=out,
        )

    result = run(None)
    seen = result.checkpoints[6].observers["mine"]
    assert seen["steps"].tolist() == [6] * 8
    np.testing.assert_allclose(
        seen["sum"], 21 * runs.hyperparameters["primal_learning_rate"], rtol=1e-6
    )
    np.testing.assert_allclose(seen["residual"], 0, atol=1e-5)
    stored = run(tmp_path / "run")
    assert_same_bits(stored.checkpoints[3].observers, result.checkpoints[3].observers)


def test_on_disk_and_in_memory_agree_and_a_second_call_continues(tmp_path):
    runs = eight_runs()
    arguments = {
        "runs": runs,
        "steps": 8,
        "checkpoint_every": 4,
        "record_every": 2,
    }
    game = noisy_game()
    memory = osj.sweep(game, make_eg, **arguments)
    chunks = []
    disk = osj.sweep(game, make_eg, **arguments, out=tmp_path / "run", on_chunk=chunks.append)
    assert [c.step for c in chunks] == [4, 8]
    assert chunks[0].runs == 8
    assert chunks[0].seconds > 0
    told = [chunk.metrics["loss_dual"] for chunk in chunks]
    assert_same_bits(np.concatenate(told, axis=1), disk.metrics["loss_dual"])
    assert memory.metrics["loss_dual"].shape == (8, 4)
    assert_same_bits((memory.players, memory.metrics), (disk.players, disk.metrics))
    assert_same_bits(memory.checkpoints[4], disk.checkpoints[4])
    with pytest.raises(KeyError):
        disk.checkpoints[5]
    again = osj.sweep(game, make_eg, **arguments, out=tmp_path / "run", on_chunk=chunks.append)
    assert len(chunks) == 2  # nothing left to do
    assert_same_bits((again.players, again.metrics), (disk.players, disk.metrics))
    # More steps go on from the last checkpoint, to the bits of one long sweep of the same width:
    # a run directory keeps the width of its first chunk.
    width = osj.open_run(tmp_path / "run").manifest["widths"]["sweep"]
    longer = {**arguments, "steps": 12}
    went_on = osj.sweep(
        game, make_eg, **longer, width=2 * width, out=tmp_path / "run", on_chunk=chunks.append
    )
    assert [c.step for c in chunks] == [4, 8, 12]
    assert osj.open_run(tmp_path / "run").manifest["widths"]["sweep"] == width
    whole = osj.sweep(game, make_eg, **longer, width=width)
    assert_same_bits((went_on.players, went_on.metrics), (whole.players, whole.metrics))
    message = r"\(steps is 12 there and 8 here\).*can be extended by steps"
    with pytest.raises(ValueError, match=message):
        osj.sweep(game, make_eg, **arguments, out=tmp_path / "run")


def test_the_moving_average_follows_the_primal_player_and_changes_nothing_else(tmp_path):
    arguments = {"runs": eight_runs(), "steps": 6, "checkpoint_every": 1, "width": 8}
    game = noisy_game()
    plain = osj.sweep(game, make_eg, **arguments)
    found = osj.sweep(game, make_eg, **arguments, ema=0.75)
    assert plain.ema is None
    assert plain.checkpoints[6].observers == {}
    assert_same_bits((plain.players, plain.metrics), (found.players, found.metrics))
    expected = plain.checkpoints[0].players.primal.astype(np.float64)
    for step in range(1, 7):
        expected = 0.75 * expected + 0.25 * plain.checkpoints[step].players.primal
        np.testing.assert_allclose(found.checkpoints[step].observers["ema"], expected, rtol=1e-5)
    assert_same_bits(found.ema, found.checkpoints[6].observers["ema"])

    def stop(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        osj.sweep(game, make_eg, **arguments, ema=0.75, out=out, on_chunk=stop)
    assert_same_bits(osj.sweep(game, make_eg, **arguments, ema=0.75, out=out).ema, found.ema)
    restored = osj.restore(out, "sweep", step=6, game=game, make_optimizer=make_eg)
    assert_same_bits(restored.observers["ema"], found.ema)
    with pytest.raises(ValueError, match=r"ema is 0\.75 there and missing here"):
        osj.sweep(game, make_eg, **arguments, out=out)


def test_a_moving_average_stops_where_its_run_diverges_and_keeps_integers():
    runs = osj.grid(seeds=1, rate=(1e30, 0.1))
    result = osj.sweep(
        osj.games.bilinear(), lambda rate: osj.sgda(rate, rate), runs, steps=9, ema=0.5
    )
    assert result.diverged_at[0] > 0
    assert np.isfinite(result.ema).all()
    primal = {"weight": jnp.zeros(2), "count": jnp.zeros((), jnp.int32)}
    after = {"weight": jnp.ones(2), "count": jnp.ones((), jnp.int32)}
    view = type("View", (), {"after": PrimalDual(after, ())})
    mean = average(0.9).update(primal, view)
    np.testing.assert_allclose(mean["weight"], 0.1, rtol=1e-6)
    assert (mean["count"].dtype, int(mean["count"])) == (jnp.int32, 1)


@pytest.mark.parametrize("ema", [1, -0.1, "0.9", True, np.nan])
def test_a_decay_out_of_range(ema):
    with pytest.raises(ValueError, match=r"ema=.*expected a number in \[0, 1\)"):
        osj.sweep(noisy_game(), make_eg, eight_runs(), steps=1, ema=ema)


def test_an_observer_cannot_take_the_averages_name():
    observers = {"ema": (lambda players: (), lambda s, view: s)}
    with pytest.raises(ValueError, match="observers='ema'"):
        osj.sweep(noisy_game(), make_eg, eight_runs(), steps=1, ema=0.9, observers=observers)


def test_a_damaged_newest_checkpoint_is_recomputed_bit_for_bit(tmp_path):
    rates = {"primal_learning_rate": (0.1, 0.2), "dual_learning_rate": (0.1,)}
    recipe = Recipe(
        name="tiny",
        game=GameSpec("carousel"),
        optimizers=(OptimizerSpec("amsgrad_eg", axes=rates), OptimizerSpec("adam", axes=rates)),
        seeds=(0, 1),
        steps=12,
        checkpoint_every=4,
    )
    run = osj.run(recipe, tmp_path / "run")
    assert run.finished()
    store = run.store("amsgrad_eg")
    before = store.read(12)
    blob = next(p for p in sorted((store.path / "12" / "arrays").rglob("*")) if "d/" in str(p))
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 4
    blob.write_bytes(content)
    said = []
    # Finished by name, but damaged: training continues from the last good checkpoint.
    osj.resume(tmp_path / "run", on_damage=said.append)
    assert_same_bits(before, store.read(12))
    assert len(said) == 1
    assert "continuing from step 8" in said[0]


def test_a_second_call_traces_nothing():
    calls: list = []
    game = noisy_game(calls)
    runs = eight_runs()

    def run(extra):
        return osj.sweep(game, make_eg, osj.Runs(runs.seeds + extra, runs.hyperparameters), steps=4)

    run(0)
    traced = len(calls)
    assert traced > 0
    run(10)
    assert len(calls) == traced


@pytest.mark.parametrize(("dtype", "x64"), [("bfloat16", False), ("float32", True)])
@pytest.mark.parametrize("name", osj.OPTIMIZERS)
def test_any_axis_of_players_narrower_than_itself_can_be_swept(name, dtype, x64):
    parameters = inspect.signature(osj.OPTIMIZERS[name]).parameters
    known = {"primal_learning_rate": 0.1, "dual_learning_rate": 0.1}
    known |= {k: p.default for k, p in parameters.items() if isinstance(p.default, float)}
    game = games.bilinear()

    def narrow(key):
        return jax.tree.map(lambda a: a.astype(dtype), game.init(key))

    with jax.enable_x64(x64):
        training = Training(dataclasses.replace(game, init=narrow), osj.OPTIMIZERS[name])
        carry, hyperparameters = abstract_carry(training, tuple(known), 2)
        advance = functools.partial(program(training).advance, 3)
        after, _ = jax.eval_shape(advance, carry, hyperparameters, ())
        assert after == carry
        assert {leaf.dtype for leaf in jax.tree.leaves(after.train.players)} == {np.dtype(dtype)}


def eight_planned(game=None) -> Plan:
    """A plan for eight runs of a game."""
    return Plan(Training(noisy_game() if game is None else game, make_eg), eight_runs(), 8, 4)


def test_width_follows_the_memory_that_the_compiled_program_needs():
    plan, device = eight_planned(), jax.devices()[:1]
    widest = choose_layout(plan, devices=device, memory=2**34)
    assert (widest.width, widest.blocks, widest.rows) == (8, 1, 8)
    assert choose_layout(plan, devices=device, memory=1).width == 1
    needed = needed_bytes(compile_chunk(plan, widest))
    assert choose_layout(plan, devices=device, memory=needed).width == 4


def test_runs_are_spread_over_the_devices_and_a_given_width_is_kept():
    devices = jax.devices()[:2]
    assert choose_layout(eight_planned(), devices=devices).width == 4
    chosen = choose_layout(eight_planned(), devices=devices, width=8)
    assert (chosen.width, len(chosen.devices)) == (8, 1)  # a second would have nothing to do
    chosen = choose_layout(eight_planned(), devices=devices, width=3)
    assert (chosen.blocks, chosen.rows) == (2, 12)


def test_large_networks_run_one_after_the_other_on_a_cpu():
    """Batches of many networks at once spill out of a CPU's caches."""
    generator, discriminator = osj.networks.mlp((2,), latent_dim=8, width=256)
    game = games.gan(
        generator=generator, discriminator=discriminator, loss="non_saturating",
        data=osj.datasets.load("ring"), batch_size=512, latent_dim=8,
    )  # fmt: skip
    assert choose_layout(eight_planned(game), devices=jax.devices()[:1]).width == 1


ON_DEVICES = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", 8)
sys.path.insert(0, {tests!r})
import numpy as np
import onesided_jax as osj
from test_sweeps import assert_same_bits, eight_runs, make_eg, noisy_game
runs = eight_runs()
results = [
    osj.sweep(noisy_game(), make_eg, runs.take(slice(7)), steps=12, checkpoint_every=4, width=2,
              devices=jax.devices()[:count])
    for count in (1, 2, 3, 8)
]
for other in results[1:]:
    assert_same_bits(results[0].players, other.players)
    assert_same_bits(results[0].metrics, other.metrics)
    for step in (0, 4, 8, 12):
        assert_same_bits(results[0].checkpoints[step], other.checkpoints[step])
"""


def test_number_of_devices_changes_no_bit():
    """Seven runs, two at a time, on 1, 2, 3 and 8 devices."""
    script = ON_DEVICES.format(tests=str(Path(__file__).parent))
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, r"steps=0: expected an integer >= 1"),
        ({"steps": 10, "checkpoint_every": 4}, r"steps=10: expected a multiple"),
        ({"checkpoint_every": 4, "record_every": 3}, r"checkpoint_every=4: expected a multiple"),
    ],
)
def test_bad_arguments_name_value_and_expectation(changes, message, tmp_path):
    arguments = {"runs": osj.Runs([0, 1], {"rate": [0.1, 0.1]}), "steps": 8}
    with pytest.raises(ValueError, match=message):
        osj.sweep(exploding_game(), make_sgd, **{**arguments, **changes}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("seeds", "hyperparameters", "message"),
    [
        ([0, 1], {"rate": [0.1]}, "shape [1], expected [2] like seeds"),
        ([0, 1], {"rate": [0.1, np.nan]}, "expected finite numbers"),
        ([0.5, 1.0], {}, "expected int[R]"),
        ([-1, 1], {}, "integers in [0, 2**32)"),
        (2, {}, "seeds=2: expected int[R], one seed per run, such as [0]; grid(seeds="),
    ],
)
def test_runs_that_cannot_be_are_refused(seeds, hyperparameters, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        osj.Runs(seeds, hyperparameters)


def test_what_is_no_runs_or_no_hyperparameter_of_the_optimizer_is_one_error():
    with pytest.raises(TypeError, match=r"runs is of type list: expected grid"):
        osj.sweep(exploding_game(), make_sgd, [0, 1], steps=1)
    message = r"called with the hyperparameters \['rat'\] .* \(did you mean 'rate'\?\)"
    with pytest.raises(TypeError, match=message):
        osj.sweep(exploding_game(), make_sgd, osj.grid(seeds=1, rat=0.1), steps=1)


RING = {"dataset": "ring", "network": "mlp", "width": 4, "latent_dim": 2, "batch_size": 4}


@pytest.mark.parametrize("game", [GameSpec("carousel"), GameSpec("gan", RING)], ids=str)
def test_float64_recipes_train_in_float64_and_leave_jax_as_it_was(game, tmp_path):
    axes = {"primal_learning_rate": (0.1,), "dual_learning_rate": (0.1,), "b1": (0.5,)}
    recipe = Recipe(
        name="double",
        game=game,
        optimizers=(OptimizerSpec("adam", axes=axes),),
        seeds=(0,),
        steps=2,
        checkpoint_every=2,
        precision="float64",
    )
    run = osj.run(recipe, tmp_path / "run")
    stored = run.store("adam").read(2)
    for leaf in jax.tree.leaves((stored["players"], stored["opt_state"])):
        assert leaf.dtype in (np.float64, np.int32)
    assert any((leaf != np.float32(leaf)).any() for leaf in jax.tree.leaves(stored["players"]))
    if game.name == "gan":
        ((*_, samples),) = generate(run, count=2)
        assert samples.dtype == np.float64
    assert osj.resume(tmp_path / "run").finished()
    assert jnp.zeros(()).dtype == np.float32


def test_a_gan_in_float64_is_the_same_game_to_single_precision():
    spec = GameSpec("gan", {**RING, "loss": "wasserstein_gp"})

    def first(precision):
        game = build_game(spec, precision)
        players, state = game.init(jax.random.key(0))
        batch = game.sample(jax.random.key(1))
        return players, batch, *game.field(players, state, batch)

    single = jax.jit(first, static_argnums=0)("float32")
    with jax.enable_x64(True):
        double = jax.jit(first, static_argnums=0)("float64")
    for a, b in zip(jax.tree.leaves(single), jax.tree.leaves(double), strict=True):
        assert (a.dtype, b.dtype) == (np.float32, np.float64)
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_stopped_in_the_second_cell_and_resumed_gives_the_same_bits(tmp_path):
    rates = {"primal_learning_rate": (1e-3,), "dual_learning_rate": (1e-3, 2e-3)}
    recipe = osj.Recipe(
        name="stopped",
        game=osj.GameSpec("carousel", {}),
        optimizers=tuple(osj.OptimizerSpec(name, axes=rates) for name in ("adam", "amsgrad_eg")),
        seeds=(0, 1),
        steps=40,
        checkpoint_every=10,
    )
    reached = []
    stopped = osj.run(
        recipe,
        tmp_path / "stopped",
        on_chunk=lambda label, progress: reached.append((label, progress.step)),
        stop=lambda: ("amsgrad_eg", 20) in reached,
    )
    assert stopped.store("adam").steps() == [0, 10, 20, 30, 40]
    assert not stopped.finished()
    assert stopped.store("amsgrad_eg").steps()[:3] == [0, 10, 20]

    finished = osj.resume(tmp_path / "stopped")
    (width,) = set(finished.manifest["widths"].values())
    whole = osj.run(recipe, tmp_path / "whole", width=width)
    assert finished.finished()
    for cell in whole.cells:
        assert whole.store(cell).steps() == finished.store(cell).steps()
        for step in whole.store(cell).steps():
            assert_same_bits(whole.store(cell).read(step), finished.store(cell).read(step))


def test_a_finished_recipe_goes_on_to_the_bits_of_a_longer_one(tmp_path):
    rates = {"primal_learning_rate": (1e-3,), "dual_learning_rate": (1e-3, 2e-3)}
    adam = osj.OptimizerSpec("adam", axes=rates)
    recipe = osj.Recipe("short", osj.GameSpec("carousel"), (adam,), (0, 1), 20, 10, ema=0.9)
    first = osj.run(recipe, tmp_path / "run", width=4)
    assert first.finished()
    asked = []
    stopped = osj.resume(tmp_path / "run", steps=40, stop=lambda: asked.append(1) or len(asked) > 2)
    assert stopped.store("adam").steps() == [0, 10, 20, 30]
    assert stopped.recipe == dataclasses.replace(recipe, steps=40)
    finished = osj.resume(tmp_path / "run")  # to the 40 steps that it now has
    whole = osj.run(dataclasses.replace(recipe, steps=40), tmp_path / "whole", width=4)
    assert finished.finished()
    for step in whole.store("adam").steps():
        assert_same_bits(whole.store("adam").read(step), finished.store("adam").read(step))
    before = (tmp_path / "run" / "manifest.json").read_bytes()
    for steps, message in [(30, "expected at least 40"), (45, "multiple of checkpoint_every=10")]:
        with pytest.raises(ValueError, match=message):
            osj.resume(tmp_path / "run", steps=steps)
    with pytest.raises(ValueError, match=r"seeds: only here 2.*can be extended by steps"):
        osj.run(dataclasses.replace(recipe, steps=40, seeds=(0, 1, 2)), tmp_path / "run")
    assert (tmp_path / "run" / "manifest.json").read_bytes() == before


# ---- what a game and an optimizer have to be ----


def _with(**changed) -> Game:
    return dataclasses.replace(exploding_game(), **changed)


def _field_with(**changed):
    """A field of which one part is wrong."""

    def field(players, state, batch):
        parts = {"F": players, "losses": PrimalDual(jnp.zeros(()), jnp.zeros(())), "state": state}
        parts |= {name: make(parts[name]) for name, make in changed.items()}
        return parts["F"], GameInfo(parts["losses"], parts["state"])

    return _with(field=field)


NO_GAMES = [
    (_with(init=lambda key: PrimalDual(jnp.ones(2), jnp.ones(2))), TypeError,
     "game.init's result is of type PrimalDual: expected (players, state or ())"),
    (_with(init=lambda key: ({"x": jnp.ones(2), "y": jnp.ones(2)}, ())), TypeError,
     "game.init's players are of type dict: a Game's are PrimalDual(primal, dual)"),
    (_with(field=lambda players, state, batch: players), TypeError,
     "game.field's result is of type PrimalDual: expected (F, GameInfo(losses, state))"),
    (_with(field=lambda players, state, batch: (players, players)), TypeError,
     "game.field's second result is of type PrimalDual: expected GameInfo(losses, state)"),
    (_field_with(F=tuple), TypeError, "game.field's F is of type tuple: expected a PrimalDual"),
    (_field_with(losses=tuple), TypeError, "game.field's losses are of type tuple: expected a "),
    (_field_with(F=lambda F: F._replace(dual=F.dual[:1])), ValueError,
     "game.field's F differs from the players, .dual from [2] to [1]"),
    (_field_with(losses=lambda _: PrimalDual(jnp.ones(3), jnp.ones(()))), ValueError,
     "game.field's losses.primal has shape (3,): expected a scalar"),
    (_field_with(state=lambda _: {"count": jnp.ones(())}), ValueError,
     "game.field changes the game's state, ['count'] from nothing to float32[]"),
]  # fmt: skip


@pytest.mark.parametrize(("game", "error", "message"), NO_GAMES)
def test_what_is_no_game_is_one_error_before_any_work(game, error, message, tmp_path):
    with pytest.raises(error, match="^" + re.escape(message)):
        osj.sweep(
            game, make_sgd, osj.Runs([0], {"rate": [0.1]}), steps=2,
            out=tmp_path / "run",
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_what_is_no_maker_of_optimizers_is_one_error():
    arguments = {"runs": osj.Runs([0], {"rate": [0.1]}), "steps": 2}
    with pytest.raises(TypeError, match=r"^make_optimizer is an optimizer: expected a function"):
        osj.sweep(exploding_game(), osj.sgda(0.1, 0.1), **arguments)

    def growing(rate):
        sgd = make_sgd(rate)
        return optax.GradientTransformationExtraArgs(
            lambda params: jnp.zeros(1),
            lambda F, state, params, **extra: (sgd.update(F, sgd.init(F))[0], jnp.zeros(2)),
        )

    message = "^a step changes .opt_state from float32[1] to float32[2]: shapes and"
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        osj.sweep(exploding_game(), growing, **arguments)

    def another_kind(rate):  # cast back to an integer it would never move
        tx = growing(rate)
        return tx._replace(
            init=lambda params: jnp.zeros((), jnp.int32),
            update=lambda F, state, params, **extra: (F, 0.9 * state + 0.7),
        )

    with pytest.raises(ValueError, match=r"^a step changes .opt_state from int32\[\] to float32"):
        osj.sweep(exploding_game(), another_kind, **arguments)


def test_players_and_fields_may_be_pairs_of_ones_own():
    class XY(NamedTuple):
        primal: jax.Array
        dual: jax.Array

    def field(players, state, batch):
        F = XY(players.dual, -players.primal)
        f = jnp.sum(players.primal * players.dual)
        return [F, GameInfo(PrimalDual(f, -f), state)]

    game = Game(lambda key: [XY(jnp.ones(2), jnp.ones(2)), ()], lambda key: (), field)
    result = osj.sweep(game, make_sgd, osj.Runs([0], {"rate": [0.1]}), steps=1)
    np.testing.assert_allclose(result.players.primal, [[0.9, 0.9]])


def test_another_optimizer_does_not_continue_a_sweep(tmp_path):
    """What a checkpoint holds tells them apart; what a function computes is its caller's matter."""
    game, runs = exploding_game(), osj.grid(seeds=1, rate=0.01)

    def with_momentum(rate):
        return osj.descent_ascent(*[optax.sgd(rate, momentum=0.5)] * 2)

    osj.sweep(game, make_sgd, runs, steps=4, out=tmp_path / "run")
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match="holds another run, with another game"):
        osj.sweep(game, with_momentum, runs, steps=4, out=tmp_path / "run")
    observers = {"mine": (lambda players: 0, lambda s, view: s)}
    with pytest.raises(ValueError, match="holds another run"):
        osj.sweep(game, make_sgd, runs, steps=4, out=tmp_path / "run", observers=observers)
    record = {"mine": lambda view: view.step}
    with pytest.raises(ValueError, match="holds another run"):
        osj.sweep(game, make_sgd, runs, steps=4, out=tmp_path / "run", record=record)
    assert before == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}


def test_metrics_of_ones_own_are_recorded_and_stored(tmp_path):
    record = {
        "step": lambda view: view.step,
        "moved": lambda view: optax.tree.norm(view.updates.primal),
        "rate": lambda view: view.hyperparameters["rate"],
    }
    runs = osj.Runs([0, 1], {"rate": [0.01, 5.0]})
    options = {"steps": 8, "checkpoint_every": 4, "record_every": 2, "record": record}
    result = osj.sweep(exploding_game(), make_sgd, runs, **options)
    assert result.metrics["step"][0].tolist() == [2, 4, 6, 8]
    assert result.metrics["rate"][0].tolist() == [np.float32(0.01)] * 4
    assert np.isnan(result.metrics["moved"][1, -1])  # diverged
    for _ in range(2):
        stored = osj.sweep(exploding_game(), make_sgd, runs, **options, out=tmp_path / "run")
        assert_same_bits(stored.metrics, result.metrics)


@pytest.mark.parametrize(
    ("record", "error", "message"),
    [
        (abs, TypeError, "record is of type builtin_function"),
        ({"mine": 1.0}, TypeError, r"record['mine'] is of type float: expected a function"),
        ({"loss_dual": abs}, ValueError, "record='loss_dual': this metric is recorded already"),
        ({"mine": lambda view: view.after.primal}, ValueError, "returns shape [2]: expected a"),
    ],
)
def test_metrics_that_cannot_be_are_one_error(record, error, message, tmp_path):
    with pytest.raises(error, match=re.escape(message)):
        osj.sweep(
            exploding_game(), make_sgd, osj.grid(seeds=1, rate=0.1), steps=1, record=record,
            out=tmp_path / "run",
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_a_partial_written_anew_traces_nothing():
    calls: list = []
    game, runs = noisy_game(calls), osj.grid(seeds=2, primal_learning_rate=0.1)

    def run(rate):
        make = functools.partial(osj.amsgrad_eg, dual_learning_rate=rate, eps=0.5)
        return osj.sweep(game, make, runs, steps=4)

    run(0.1)
    traced = len(calls)
    run(0.1)
    assert len(calls) == traced
    run(0.2)
    assert len(calls) > traced


def test_data_are_an_argument_of_the_program_and_no_constant():
    pixels = np.arange(4096, dtype=np.float32)
    objective = lambda x, y, batch: jnp.sum(x**2 - y**2 + batch)  # noqa: E731
    game = Game(
        init=lambda key: (PrimalDual(jnp.ones(2), jnp.ones(2)), ()),
        sample=lambda key, data: data[jax.random.randint(key, (), 0, len(data))],
        field=games.zero_sum_field(objective, takes_batch=True),
        data=pixels,
    )
    plan = Plan(Training(game, make_sgd), osj.grid(seeds=2, rate=0.1), 2, 2)
    compiled = compile_chunk(plan, choose_layout(plan))
    assert f"f32[{len(pixels)}]" in compiled.as_text().partition("\n")[0]  # of the parameters
    assert osj.sweep(game, make_sgd, plan.runs, steps=2).metrics["loss_primal"].max() > 100


@pytest.mark.parametrize(
    ("observer", "error", "message"),
    [
        (lambda players: 0, TypeError, r"^observers\['mine'\] is of type function: expected two"),
        ((1, 2), TypeError, r"^observers\['mine'\] is of type tuple: expected two functions"),
        (
            (lambda p: jnp.zeros(3), lambda s, view: 0.0),
            ValueError,
            r"update changes it from float",
        ),
        ((lambda p: {"n": 0}, lambda s, view: {"n": 0.5}), ValueError, r"update changes \['n'\]"),
        ((lambda p: {"n": 0}, lambda s, view: {}), ValueError, r"update changes \['n'\] from int"),
        (
            (lambda p: (0,), lambda s, view: [*s]),
            ValueError,
            r"update changes the tree from PyTree",
        ),
    ],
)
def test_observers_are_tried_before_any_work(observer, error, message):
    with pytest.raises(error, match=message):
        osj.sweep(
            exploding_game(), make_sgd, osj.Runs([0], {"rate": [0.1]}), steps=1,
            observers={"mine": observer},
        )  # fmt: skip


def test_what_a_game_counts_stops_where_a_run_does():
    def field(players, state, batch):
        F = PrimalDual(jnp.where(state["n"] < 3, 1.0, jnp.nan) * players.primal, players.dual)
        return F, GameInfo(PrimalDual(0.0, 0.0), jax.tree.map(lambda n: n + 1, state))

    state = {"n": jnp.zeros((), jnp.int32), "v": jnp.zeros(1, jnp.int32)}
    game = Game(lambda key: (PrimalDual(jnp.ones(2), jnp.ones(2)), state), lambda key: (), field)
    result = osj.sweep(game, make_sgd, osj.Runs([0], {"rate": [0.1]}), steps=8)
    assert result.diverged_at.tolist() == [4]
    assert result.state["n"].tolist() == [3]
    assert result.state["v"].tolist() == [[3]]


def _extra_sgd(rate):
    return osj.extra_sgd(rate, rate)


@pytest.mark.parametrize("form", ["object", "pair", "named", "wrapped"])
def test_steps_may_be_accumulated(form):
    """``optax.MultiSteps`` passes ``grad_fn`` on, though optax's own wrapper would keep it back."""

    def make(rate):
        tx = optax.MultiSteps(osj.extra_sgd(rate, rate), 2)
        if form == "pair":
            return tx.gradient_transformation()
        if form == "wrapped":
            return osj.apply_if_finite(tx, 3)

        def update(updates, state, params=None, *, grad_fn=None):
            return tx.update(updates, state, params, grad_fn=grad_fn)

        return tx if form == "object" else optax.GradientTransformation(tx.init, update)

    game, runs = games.bilinear(dim=2), osj.Runs([0], {"rate": [0.1]})
    every_second = osj.sweep(game, make, runs, steps=8)
    each = osj.sweep(game, _extra_sgd, runs, steps=4)
    np.testing.assert_allclose(every_second.players.primal, each.players.primal, rtol=1e-5)


def test_a_checkpoint_goes_on_in_a_loop_of_ones_own(tmp_path):
    rates = {"primal_learning_rate": (0.1, 0.2), "dual_learning_rate": (0.1,)}
    arms = (OptimizerSpec("amsgrad_eg", axes=rates), OptimizerSpec("adam", axes=rates))
    game = GameSpec("finite_sum_bilinear")
    recipe = Recipe("tiny", game, arms, seeds=(0, 1), steps=8, checkpoint_every=4)
    run = osj.run(recipe, tmp_path / "run")
    _, step, state, hyperparameters, _ = osj.sweeps.restore(run, "amsgrad_eg", step=4)
    for _ in range(4):
        state, _ = jax.jit(jax.vmap(step))(state, hyperparameters)
    end = osj.sweeps.restore(tmp_path / "run", "amsgrad_eg")
    assert end.state.step.tolist() == [8] * 4
    for a, b in zip(jax.tree.leaves(state.players), jax.tree.leaves(end.state.players)):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    for wrong, message in (
        ({"cell": "amsgrad"}, "no cell 'amsgrad', expected one of"),
        ({"cell": "adam", "step": 5}, "no checkpoint of step 5"),
    ):
        with pytest.raises(ValueError, match=message):
            osj.sweeps.restore(run, **wrong)

    arguments = {"runs": osj.Runs([3], {"rate": [0.01]}), "steps": 2}
    osj.sweep(exploding_game(), make_sgd, **arguments, out=tmp_path / "own")
    with pytest.raises(ValueError, match="pass its game and make_optimizer"):
        osj.sweeps.restore(tmp_path / "own", "sweep")
    own = osj.sweeps.restore(
        tmp_path / "own", "sweep", game=exploding_game(), make_optimizer=make_sgd
    )
    assert own.state.players.primal.shape == (1, 2)
    assert own.observers == {}

    total = osj.sweeps.Observer(
        lambda players: players, lambda s, view: optax.tree.add(s, view.after)
    )
    observers = {"total": total, "steps": (lambda players: 0, lambda s, view: s + 1)}
    osj.sweep(exploding_game(), make_sgd, **arguments, observers=observers, out=tmp_path / "seen")
    seen = osj.sweeps.restore(
        tmp_path / "seen", "sweep", step=2, game=exploding_game(), make_optimizer=make_sgd,
        observers={"total": total},
    )  # fmt: skip
    assert list(seen.observers) == ["total"]
    assert isinstance(seen.observers["total"], PrimalDual)
    assert seen.observers["total"].primal.shape == (1, 2)


def test_a_chunk_that_was_told_of_is_saved_when_the_caller_stops_there(tmp_path):
    def stop(progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    runs = osj.grid(seeds=2, primal_learning_rate=0.02, dual_learning_rate=0.2)
    with pytest.raises(KeyboardInterrupt):
        osj.sweep(
            osj.games.carousel(), osj.adam, runs,
            steps=8, checkpoint_every=2, out=tmp_path / "run", on_chunk=stop,
        )  # fmt: skip
    assert osj.open_run(tmp_path / "run").store("sweep").steps() == [0, 2, 4]
