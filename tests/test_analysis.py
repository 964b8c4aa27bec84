"""The analysis stage on games whose answer is known, and on what must not fool it."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import re
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import onesided_jax as osj
from onesided_jax import Criteria, GameSpec, OptimizerSpec, PrimalDual, Recipe, datasets, games
from onesided_jax.analysis import Mixture, quality_reference
from onesided_jax.analysis._sample_quality import find_data
from onesided_jax.analysis.measure import make_probe
from onesided_jax.analysis.source import from_result, from_run
from onesided_jax.analysis.stage import load_analysis

pytestmark = pytest.mark.usefixtures("quick_sweeps")

FIVE = tuple(range(5))
THEORY = {"b2": (0.99,), "eps": (0.5,)}


def analytic(game: str, *optimizers: OptimizerSpec, steps=20_000) -> Recipe:
    return Recipe(
        name=game,
        game=GameSpec(game),
        optimizers=optimizers,
        seeds=FIVE,
        steps=steps,
        checkpoint_every=steps // 40,
        record_every=steps // 40,
        precision="float64",
    )


def arm(name: str, primal: float, dual: float, **axes) -> OptimizerSpec:
    rates = {"primal_learning_rate": (primal,), "dual_learning_rate": (dual,)}
    return OptimizerSpec(name, axes={**rates, **THEORY, **axes})


CONVERGES, MVI = "only the primal player converges", "the one-sided MVI holds late in the run"


def verdicts(found) -> dict:
    return {(v.cell, v.claim): v for v in found.verdicts}


@pytest.fixture(scope="module")
def carousel(tmp_path_factory):
    recipe = analytic(
        "carousel",
        arm("amsgrad", 0.02, 2.0, b1=(0.0,)),
        arm("amsgrad_xeg", 0.02, 2.0),
        arm("amsgrad_eg_drd", 0.02, 2.0),
    )
    run = osj.run(recipe, tmp_path_factory.mktemp("carousel") / "run")
    return run, osj.analyze(run.path)  # from the directory alone


def test_the_carousel_is_answered_as_theory_says(carousel):
    _, found = carousel
    said = verdicts(found)
    assert said["amsgrad_xeg", CONVERGES].status == "supported"
    assert said["amsgrad_xeg", CONVERGES].effect < 1e-9
    assert said["amsgrad", CONVERGES].status != "supported"
    assert said["amsgrad_xeg", MVI].status == "supported"
    # Its primal gradient falls too, but under dual rate decay that is no evidence.
    decayed = said["amsgrad_eg_drd", CONVERGES]
    assert decayed.status == "undecided"
    assert decayed.effect < 0.1
    assert decayed.sentence.startswith("Undecided: a learning rate decays.")
    # The matrix itself: never negative, for x* = 0 is dominant.
    assert float(found.dataset["mvi_negative_mass"].max()) == 0.0
    assert found.dataset.attrs["x_star"] == "known"


@pytest.mark.parametrize("x64", [False, True])
def test_products_that_are_zero_are_so_in_single_precision(x64):
    """On the carousel's ring <x - x*, grad_x f> is 0: what is left is rounding, no violation."""
    with jax.enable_x64(x64):
        game = games.carousel()
        runs = osj.grid(seeds=5, primal_learning_rate=0.02, dual_learning_rate=2.0)
        result = osj.sweep(
            game, functools.partial(osj.amsgrad_xeg, b2=0.99, eps=0.5), runs,
            steps=4000, checkpoint_every=100,
        )  # fmt: skip
        found = osj.analyze(result, game)
    _, verdict = found.verdicts
    assert verdict.status == "supported"
    assert not (found.dataset.mvi_sign.values == -1).any()


def test_what_is_written_can_be_read_back_and_agrees(carousel):
    run, found = carousel
    dataset, said = load_analysis(run)
    xr.testing.assert_equal(dataset, found.dataset)
    assert said == [v.to_json() for v in found.verdicts]
    assert {v["claim"] for v in said} == {CONVERGES, MVI}
    with (run.path / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15
    with (run.path / "gradient_norms.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 15 * 41 * 2
    json.loads((run.path / "verdict.json").read_text(), parse_constant=lambda name: 1 / 0)


def test_gradient_norms_are_those_of_the_game(carousel):
    run, found = carousel
    with jax.enable_x64(True):
        game = games.carousel()
        step, i = 5_000, 3
        stored = run.store("amsgrad_xeg").read(step)["players"]
        F, _ = game.field(PrimalDual(stored["primal"][i], stored["dual"][i]), (), ())
        squares = [float(np.sum(np.asarray(part) ** 2)) for part in F]
    norms = found.dataset["gradient_norm_sq"].sel(optimizer="amsgrad_xeg", step=step).isel(run=i)
    np.testing.assert_allclose(norms, squares, rtol=1e-12)


@pytest.mark.parametrize(("game", "rate"), [("moving_target", 0.2), ("stick_slip", 2.0)])
def test_negative_controls_under_dual_rate_decay_fool_no_verdict(game, rate, tmp_path):
    """N1 and N2: the primal gradient falls without any one-sided MVI."""
    recipe = analytic(game, arm("amsgrad_eg_drd", 0.02, rate), arm("amsgrad_xeg", 0.02, rate))
    found = osj.analyze(osj.run(recipe, tmp_path / "run"))
    said = verdicts(found)
    for name in ("amsgrad_eg_drd", "amsgrad_xeg"):
        assert said[name, CONVERGES].status != "supported"
    # The trap is real: judged by the fall of the gradient alone, it would have passed.
    assert said["amsgrad_eg_drd", CONVERGES].effect < 0.5
    assert found.dataset.attrs["x_star"] == "end of the run"
    for name in ("amsgrad_eg_drd", "amsgrad_xeg"):
        assert said[name, MVI].status != "supported", said[name, MVI].sentence


def noise_game(dim: int = 200) -> osj.Game:
    """No game at all: every evaluation of the field is fresh noise."""

    def field(players, state, batch):
        zero = jnp.zeros(())
        return PrimalDual(batch[0], batch[1]), osj.GameInfo(PrimalDual(zero, zero), state)

    return osj.Game(
        init=lambda key: (PrimalDual(*jax.random.normal(key, (2, dim))), ()),
        sample=lambda key: jax.random.normal(key, (2, dim)),
        field=field,
    )


def test_pure_noise_passes_the_naive_test_and_not_ours():
    runs = osj.grid(seeds=5, rate=0.01)
    gradients = (lambda players: players.primal, lambda s, view: view.field.primal)
    game = noise_game()
    result = osj.sweep(
        game,
        lambda rate: osj.adam(rate, rate, b1=0.0),
        runs,
        steps=40,
        checkpoint_every=1,
        observers={"gradient": gradients},
    )
    steps = range(40)
    iterates = np.stack([result.checkpoints[s].players.primal[0] for s in [*steps, 40]])
    trained_on = np.stack([result.checkpoints[s + 1].observers["gradient"][0] for s in steps])
    fraction, total = osj.analysis.naive_mvi_test(
        iterates, np.concatenate([trained_on, trained_on[-1:]])
    )
    assert fraction > 0.8
    assert total > 0
    criteria = Criteria(mvi_samples=32, microbatches=8)
    said = verdicts(osj.analyze(result, game, criteria=criteria))
    assert said["sweep", MVI].status == "undecided"
    assert "noise alone would give" in said["sweep", MVI].sentence
    assert said["sweep", CONVERGES].status != "supported"


def test_bilinear_refutes_the_one_sided_mvi(tmp_path):
    """G1 has the two-sided MVI with equality; the one-sided one fails on half of the space."""
    recipe = analytic("bilinear", arm("amsgrad_eg", 0.01, 0.01), steps=2_000)
    said = verdicts(osj.analyze(osj.run(recipe, tmp_path / "run")))
    verdict = said["amsgrad_eg", MVI]
    assert verdict.status == "refuted"
    assert verdict.interval[0] > 0.1


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    options = {"dataset": "ring", "network": "mlp", "width": 16, "latent_dim": 4, "batch_size": 32}
    rates = {"primal_learning_rate": (1e-3,), "dual_learning_rate": (1e-3,)}
    recipe = Recipe(
        name="ring",
        game=GameSpec("gan", {**options, "loss": "wasserstein_gp"}),
        optimizers=(
            OptimizerSpec("adam", axes={**rates, "b1": (0.5,)}),
            OptimizerSpec("amsgrad_eg", label="wild", axes={**rates, "eps": (1e-3,)}),
        ),
        seeds=(0, 1),
        steps=60,
        checkpoint_every=2,
        criteria=Criteria(microbatches=4, mvi_samples=32, mvi_rows=4),
    )
    run = osj.run(recipe, tmp_path_factory.mktemp("ring") / "run")
    return run, osj.analyze(run)


def test_a_gan_gets_norms_matrix_controls_and_samples(ring):
    _, found = ring
    dataset = found.dataset
    assert dataset["gradient_norm_sq"].shape == (2, 2, 31, 2)
    assert float(dataset["gradient_norm_sq_se"].min()) > 0
    assert dataset["mvi_inner"].shape == (2, 2, 4, 4)
    assert dataset["row_step"].values.tolist() == [40, 46, 52, 58]  # the last third, not the end
    assert dataset["points"].shape == (2, 2, 512, 2)
    assert not dataset["mvi_control"].isnull().any()
    # Wasserstein: flipping the critic negates every entry exactly.
    flipped = dataset["mvi_control"].sel(control="flipped critic")
    np.testing.assert_allclose(flipped, 1 - dataset["mvi_negative_mass"], rtol=1e-3)
    assert {v.status for v in found.verdicts} == {"undecided"}
    assert {v.numbers["missing"] for v in found.verdicts} == {"2 seeds, 3 needed"}
    assert all(np.isfinite(v.effect) for v in found.verdicts)
    # The report reads what the verdict was made of.
    ratios = dataset["late_over_early"].sel(optimizer="adam", player="primal").values
    (verdict,) = (v for v in found.verdicts if (v.cell, v.claim[:4]) == ("adam", "only"))
    np.testing.assert_array_equal(verdict.numbers["primal_ratios"], ratios)
    assert verdict.claim == "only the generator converges"
    assert dataset.attrs["primal_player"] == "generator"


def test_cross_matrix_is_the_inner_product_with_the_expected_gradient(ring):
    run, _ = ring
    game = osj.runs.build_game(run.recipe.game)
    probe = make_probe(game, microbatches=4, samples=512)
    source = from_run(run, "adam", game)
    stored = [source.snapshot(step).players for step in (20, 40, 60)]
    primals, duals = jax.tree.map(lambda *a: np.stack([b[0] for b in a]), *stored)
    target = jax.tree.map(lambda a: a[-1], primals)
    state = PrimalDual((), ())
    matrix = probe.cross(primals, duals, state, target)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(2109_14213), 2), 16)
    for s, t in ((0, 0), (0, 2), (1, 0)):
        row = jax.tree.map(lambda a, s=s: a[s], primals)
        column = jax.tree.map(lambda a, t=t: a[t], duals)
        slopes = []
        for key in keys:
            F, _ = game.field(PrimalDual(row, column), state, game.sample(key))
            products = jax.tree.map(lambda x, x0, g: jnp.vdot(x - x0, g), row, target, F.primal)
            slopes.append(float(sum(jax.tree.leaves(products))))
        np.testing.assert_allclose(matrix[s, t].mean(), np.mean(slopes), rtol=2e-4)
    np.testing.assert_allclose(matrix[2], 0.0, atol=1e-6)  # x_s = x*


def test_without_per_sample_slopes_the_field_is_used(ring):
    run, _ = ring
    game = osj.runs.build_game(run.recipe.game)
    plain = dataclasses.replace(game, primal_slope=None)
    players, _ = jax.vmap(game.init)(jax.random.split(jax.random.key(0), 3))
    target = jax.tree.map(lambda a: a[0], players.primal)
    state = PrimalDual((), ())
    both = [
        make_probe(g, samples=n).cross(players.primal, players.dual, state, target)
        for g, n in ((game, 32 * 40), (plain, 40))
    ]
    assert both[0].shape == (3, 3, 1280)
    assert both[1].shape == (3, 3, 40)
    np.testing.assert_allclose(both[0].mean(-1), both[1].mean(-1), rtol=1e-3, atol=1e-5)


def _noisy_game() -> osj.Game:
    def field(players, state, batch):
        x, y = players
        F = PrimalDual(x + y + batch, y - x)
        return F, osj.GameInfo(PrimalDual(x @ y, -x @ y), state)

    return osj.Game(
        init=lambda key: (PrimalDual(jnp.ones(2), jnp.ones(2)), ()),
        sample=lambda key: jax.random.normal(key, (2,)),
        field=field,
    )


def test_the_second_analysis_of_a_game_compiles_nothing():
    game, compiled = _noisy_game(), []
    result = osj.sweep(
        game, osj.sgda,
        osj.grid(seeds=2, primal_learning_rate=0.1, dual_learning_rate=0.1),
        steps=12, checkpoint_every=1,
    )  # fmt: skip
    criteria = Criteria(mvi_rows=4, mvi_samples=8, microbatches=4)
    first = osj.analyze(result, game, criteria=criteria)

    def listen(event, *_, **__):
        compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        again = osj.analyze(result, game, criteria=criteria)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert "mvi_inner" in first.dataset
    xr.testing.assert_equal(first.dataset, again.dataset)
    assert not [event for event in compiled if "compile" in event]


def test_the_program_of_a_cross_matrix_does_not_grow_with_the_samples(monkeypatch):
    """Slices of every sample, put together again, took seconds to compile."""
    traced = []

    def jit(function):
        return lambda *a: traced.append(len(str(jax.make_jaxpr(function)(*a)))) or function(*a)

    monkeypatch.setattr(jax, "jit", jit)
    x = np.ones((2, 2), np.float32)
    for samples in (16, 256):
        matrix = make_probe(_noisy_game(), samples=samples).cross(x, x, (), 0 * x[0])
        assert matrix.shape == (2, 2, samples)
    assert traced[1] < 1.2 * traced[0]


def test_a_damaged_checkpoint_is_skipped_and_reported(ring, tmp_path):
    run, found = ring
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    sums = copy / "cells" / "adam" / "checkpoints" / "30" / "SHA256SUMS"
    sums.write_text(sums.read_text().replace("a", "b"))
    again = osj.analyze(copy)
    assert len(again.notes) == 1
    assert "30" in again.notes[0]
    norms = again.dataset["gradient_norm_sq"].sel(optimizer="adam")
    assert bool(norms.sel(step=30).isnull().all())
    xr.testing.assert_allclose(
        norms.drop_sel(step=30),
        found.dataset["gradient_norm_sq"].sel(optimizer="adam").drop_sel(step=30),
    )


def test_diverged_runs_are_left_out_of_the_matrix_and_counted():
    runs = osj.grid(seeds=2, rate=(0.01, 1e30))
    game = games.moving_target()
    result = osj.sweep(
        game,
        lambda rate: osj.extragradient(osj.descent_ascent(*[__import__("optax").sgd(rate)] * 2)),
        runs,
        steps=60,
        checkpoint_every=2,
    )
    assert (result.diverged_at[2:] > 0).all()
    found = osj.analyze(result, game, criteria=Criteria(mvi_rows=4))
    assert found.dataset["mvi_run"].values.tolist() == [0, 1]
    assert (found.dataset["diverged_at"].values[0, 2:] > 0).all()
    wild = [v for v in found.verdicts if v.setting["rate"] > 1]
    assert len(wild) == 2
    assert all(v.status == "undecided" for v in wild)
    assert all("0 seeds, 3 needed" in v.sentence for v in wild)


def test_rates_that_change_are_not_judged_in_sweeps_without_a_recipe():
    runs = osj.grid(seeds=5, primal_learning_rate=0.1)
    game = games.moving_target()
    result = osj.sweep(
        game,
        functools.partial(osj.amsgrad_eg_drd, dual_learning_rate=0.2),
        runs,
        steps=40,
        checkpoint_every=1,
    )
    found = osj.analyze(result, game, constant_rates=False)
    (verdict,) = (v for v in found.verdicts if v.claim == CONVERGES)
    assert verdict.status == "undecided"
    assert verdict.numbers["missing"] == "a learning rate decays"
    powers = {"power": np.array([0.0, 0.0, 0.5, 0.5, 1.0])}
    swept = from_result(result._replace(hyperparameters={**runs.hyperparameters, **powers}))
    assert swept.constant_rates.tolist() == [True, True, False, False, False]


def test_a_repeated_seed_counts_once():
    game, rates = games.bilinear(dim=2), (0.1, 0.1, 0.1, 0.1, 0.2)
    result = osj.sweep(
        game, osj.sgda,
        osj.Runs((0, 0, 1, 0, 0), {"primal_learning_rate": rates, "dual_learning_rate": rates}),
        steps=40, checkpoint_every=1,
    )  # fmt: skip
    found = osj.analyze(result, game, criteria=Criteria(mvi_rows=4, min_seeds=3))
    assert [v.numbers["runs"] for v in found.verdicts] == [2, 2, 1, 1]
    assert all("3 needed" in v.sentence for v in found.verdicts)
    (note,) = found.notes
    assert "2 of 5 runs repeat the seed and hyperparameters of another" in note


def test_too_few_checkpoints_are_said_with_the_effect():
    game = games.carousel()
    runs = osj.grid(seeds=3, primal_learning_rate=0.02, dual_learning_rate=2.0)
    result = osj.sweep(game, osj.adam, runs, steps=60, checkpoint_every=20)
    converges, mvi = osj.analyze(result, game).verdicts
    missing = "no checkpoint between 5% and 10% of the run"
    assert converges.sentence.startswith(f"Undecided: {missing}. The primal player's late")
    assert np.isfinite(converges.effect)
    assert mvi.sentence == "Undecided: too few checkpoints for the one-sided MVI."


def test_an_analysis_of_an_earlier_version_is_not_read(ring, tmp_path):
    run, _ = ring
    copy = shutil.copytree(run.path, tmp_path / "run")
    (copy / "verdict.json").write_text('[{"claim": "one_sided_mvi", "holds": true}]')
    with pytest.raises(ValueError, match="earlier version: run `onesided analyze"):
        load_analysis(osj.open_run(copy))


@pytest.mark.parametrize(
    ("thing", "message"),
    [("no/run", "holds no run"), ("own", "no recipe")],
)
def test_bad_input_is_one_clear_error(thing, message, tmp_path):
    runs = osj.grid(seeds=1, primal_learning_rate=0.1, dual_learning_rate=0.1)
    osj.sweep(games.carousel(), osj.adam, runs, steps=2, out=tmp_path / "own")
    argument = {"no/run": "no/run", "own": tmp_path / "own"}[thing]
    with pytest.raises(ValueError, match=message):
        osj.analyze(argument)


# ---------------------------------------------------------------- sample quality


RING = Mixture(datasets.ring_means(), 0.02)


def true_samples(players, state, key, n):
    return datasets.ring().sample(key, n)


def collapsed(players, state, key, n):
    return jnp.tile(jnp.asarray(RING.means[:1]), (n, 1))


@pytest.mark.parametrize(
    ("generate", "passing"),
    [(true_samples, 5), (collapsed, 0), (lambda *a: true_samples(*a) * jnp.nan, 0)],
)
def test_a_converged_gradient_of_a_collapsed_generator_is_no_success(
    carousel, tmp_path, generate, passing
):
    """The same runs, whose primal gradients fall, with a generator that is good, bad or broken."""
    run, _ = carousel
    copy = shutil.copytree(run.path, tmp_path / "run")
    with jax.enable_x64(True):
        game = dataclasses.replace(games.carousel(), generate=generate)
    found = osj.analyze(copy, game, data=RING, criteria=Criteria(quality_samples=600))
    verdict = verdicts(found)["amsgrad_xeg", "only the generator converges"]
    assert verdict.status == "supported"
    assert verdict.numbers["passing"]["runs"] == passing
    assert verdict.numbers["passing"]["status"] == ("supported" if passing else "undecided")
    does = "counts" if passing else "does not count"
    assert f"{passing} of 5 runs pass the quality gate: training {does}" in verdict.sentence
    assert found.dataset["quality_gate"].sum() == 3 * passing  # three optimizers


def test_without_samples_there_is_no_gate(carousel):
    _, found = carousel
    verdict = verdicts(found)["amsgrad_xeg", CONVERGES]
    assert verdict.numbers["passing"] is None
    assert "gate" not in verdict.sentence
    assert not [name for name in found.dataset if "quality" in str(name)]
    assert found.notes == []


def test_quality_of_every_run_is_measured_and_written(ring):
    run, found = ring
    dataset = found.dataset
    for name in ("quality_modes", "quality_high_quality"):
        assert dataset[name].dims == ("optimizer", "run", "evaluation")
        assert dataset[name].shape == (2, 2, 3)
        assert float(dataset[name].max()) <= 1
    assert dataset["quality_gate"].dims == ("optimizer", "run")
    assert not dataset["quality_gate"].any()  # 60 steps of a small network
    reasons = dataset["quality_gate_reason"].values.ravel()
    assert all("of the modes are covered, below 90%" in reason for reason in reasons)
    assert dataset.attrs["quality_samples"] == 10_000
    assert found.notes == []
    with (run.path / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["quality_gate"] for row in rows] == ["0.0"] * 4
    mean = dataset["quality_high_quality"].mean("evaluation").values.ravel()
    np.testing.assert_allclose([float(r["quality_high_quality"]) for r in rows], mean)
    assert [row["quality_gate_reason"] for row in rows] == reasons.tolist()
    stored, said = load_analysis(run)
    xr.testing.assert_identical(stored, dataset)
    mine = [v for v in said if v["claim"] == "only the generator converges"]
    assert all("0 of 2 runs pass the quality gate" in v["sentence"] for v in mine)


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A recipe of a small GAN on labelled images: bright, dark and half and half."""
    monkeypatch.setenv("ONESIDED_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    pixels = rng.integers(0, 60, (90, 8, 8))
    pixels[labels == 1] += 180
    pixels[labels == 2, :4] += 180
    path = tmp_path / "images.npz"
    np.savez(path, x_train=pixels.astype(np.uint8), y_train=labels)
    options = {"network": "mlp", "width": 16, "latent_dim": 4, "batch_size": 16}
    rates = {"primal_learning_rate": (1e-3, 1e30), "dual_learning_rate": (1e-3,)}
    recipe = Recipe(
        name="images",
        game=GameSpec("gan", {**options, "dataset": f"npz:{path}"}),
        optimizers=(OptimizerSpec("sgda", axes=rates),),
        seeds=(0, 1),
        steps=20,
        checkpoint_every=2,
        criteria=Criteria(
            microbatches=3, mvi_samples=16, mvi_rows=3, quality_samples=300, quality_seeds=2
        ),
    )  # fmt: skip
    return osj.run(recipe, tmp_path / "run"), path


def test_images_are_seen_through_a_classifier_of_their_own(images):
    run, _ = images
    parts = []
    found = osj.analyze(run, on_progress=lambda part, *_: parts.append(part))
    dataset = found.dataset
    assert dataset.attrs["quality_kind"] == "images"
    assert dataset.attrs["quality_classifier_accuracy"] > 0.9
    assert dataset.attrs["quality_classes"] == 3
    assert dataset.attrs["quality_gate_frechet"] == Criteria().gate_frechet
    assert parts[0] == "quality: real data"
    lost = dataset["diverged_at"].values[0] >= 0
    assert lost.tolist() == [False, False, True, True]
    frechet = dataset["quality_frechet"].values[0]
    assert frechet.shape == (4, 2)
    assert np.isfinite(frechet[:2]).all()
    assert np.isnan(frechet[2:]).all()
    assert frechet[:2].min() > 0.1  # 20 steps are not enough
    gate = dataset["quality_gate"].values[0]
    assert gate[2:].tolist() == [0, 0]
    assert dataset["quality_gate_reason"].values[0, 2] == "the run diverged"
    again = osj.analyze(run)  # from the cache
    xr.testing.assert_identical(again.dataset, dataset)


def test_quality_can_be_left_out(images):
    run, _ = images
    found = osj.analyze(run, quality=False)
    assert found.notes[0] == "quality gate not evaluated: it was switched off"
    assert not [name for name in found.dataset if "quality" in str(name)]
    assert "gate" not in found.verdicts[0].sentence
    assert found.dataset.attrs["quality_note"] == "it was switched off"


def test_unlabelled_images_leave_the_gate_out(images):
    run, path = images
    with np.load(path) as archive:
        pixels = archive["x_train"]
    np.savez(path, x_train=pixels)
    found = osj.analyze(run)
    assert found.notes[0] == f"quality gate not evaluated: npz:{path} has no labels"
    told = f"'{path}' is not the file that the run was begun with"
    assert found.dataset.attrs["notes"].startswith(told)
    # labels that came some other way will do
    data = datasets.from_array(pixels, labels=(pixels.mean((1, 2)) > 128).astype(int))
    assert "quality_gate" in osj.analyze(run, data=data).dataset


@pytest.mark.parametrize(
    ("size", "labels", "said"),
    [(40, np.zeros(40, int), "at least 2 classes"), (6, np.arange(6) % 2, "at least 10 images")],
    ids=["one class", "few"],
)
def test_data_that_train_no_classifier_leave_the_gate_out(size, labels, said, tmp_path):
    path = tmp_path / "images.npz"
    np.savez(path, x_train=np.zeros((size, 8, 8, 1), np.uint8), y_train=labels)
    recipe = analytic("carousel", arm("amsgrad", 0.1, 0.1))
    recipe = dataclasses.replace(recipe, game=GameSpec("gan", {"dataset": f"npz:{path}"}))
    game = dataclasses.replace(games.carousel(), generate=lambda players, state, key, n: None)
    data, why = find_data(game, recipe, None, None, True)
    assert data is None
    assert said in why
    data, why = find_data(game, recipe, None, "net.pt", True)  # which needs no labels
    assert data.labels is None
    assert said in why
    given, _ = find_data(game, recipe, datasets.load(f"npz:{path}"), None, True)
    with pytest.raises(ValueError, match=said):  # of data that were asked for
        quality_reference(given)


def test_inception_needs_no_classifier(images, monkeypatch):
    """Labels of one class leave the standard FID, and a note where the gate would be."""

    def colours(path, shape):
        return lambda images: images.mean((1, 2)).astype(float)

    module = sys.modules["onesided_jax.analysis.quality"]  # the package's is the function
    monkeypatch.setattr(module, "load_inception", colours)
    run, path = images
    with np.load(path) as archive:
        pixels = archive["x_train"]
    np.savez(path, x_train=pixels, y_train=np.zeros(90, int))
    found = osj.analyze(run, inception="net.pt")
    assert re.fullmatch(r"quality gate not .*images.npz: .*at least 2 classes.*", found.notes[0])
    measured = [str(name) for name in found.dataset if str(name).startswith("quality")]
    assert measured == ["quality_fid"]
    assert "at least 2 classes" in found.dataset.attrs["quality_note"]


def test_labels_too_uneven_for_the_gate_leave_it_out(images):
    run, path = images
    with np.load(path) as archive:
        pixels = archive["x_train"]
    np.savez(path, x_train=pixels, y_train=(np.arange(90) < 3).astype(int))
    found = osj.analyze(run)
    assert "the real data's own class entropy" in found.notes[0]
    assert "quality_gate" not in found.dataset
    assert "quality_frechet" in found.dataset


def test_a_sweep_in_memory_says_what_it_needs_for_a_gate():
    generator, discriminator = osj.networks.mlp((2,), latent_dim=2, width=4)
    game = games.gan(
        generator=generator,
        discriminator=discriminator,
        loss="non_saturating",
        data=datasets.ring(),
        batch_size=8,
        latent_dim=2,
    )
    result = osj.sweep(
        game,
        lambda r: osj.adam(r, r),
        osj.Runs([0, 1], {"r": [1e-3, 1e-3]}),
        steps=20,
        checkpoint_every=2,
    )
    criteria = Criteria(
        microbatches=3, mvi_samples=8, mvi_rows=3, quality_samples=100
    )  # fmt: skip
    found = osj.analyze(result, game, criteria=criteria)
    assert "the data are unknown; analyze(..., data=...) takes them" in found.notes[0]
    found = osj.analyze(result, game, criteria=criteria, data=RING)
    assert found.dataset["quality_modes"].shape == (1, 2, 3)
    wrong = Mixture(np.zeros((2, 3)), 1.0)
    with pytest.raises(ValueError, match=r"samples of shape \[3\], but the game generates \[2\]"):
        osj.analyze(result, game, criteria=criteria, data=wrong)


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_the_modes_of_a_recipes_mixture_are_known(name, ring):
    run, _ = ring
    game = osj.runs.build_game(run.recipe.game)
    spec = GameSpec("gan", {**run.recipe.game.options, "dataset": name})
    data, why_not = find_data(game, dataclasses.replace(run.recipe, game=spec), None, None, True)
    assert why_not == ""
    samples = np.asarray(datasets.load(name).sample(jax.random.key(0), 5000))
    distance = np.sqrt(((samples[:, None] - data.means) ** 2).sum(-1)).min(1)
    assert np.sqrt((distance**2).mean() / 2) == pytest.approx(data.std, rel=0.05)


def test_the_data_of_a_recipe_without_a_name_are_those_it_trains_on(ring):
    run, _ = ring
    default = dataclasses.replace(run.recipe, game=GameSpec("gan", {}))
    data, _ = find_data(osj.runs.build_game(default.game), default, None, None, True)
    assert data.name == "mnist5k"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": RING}, "data was given, but the game generates no samples"),
        ({"inception": "net.pt"}, "inception was given, but the game generates no samples"),
        ({"data": RING, "quality": False}, "data was given, but quality=False"),
    ],
)
def test_data_without_use_are_an_error(carousel, options, message):
    run, _ = carousel
    before = (run.path / "verdict.json").read_bytes()
    with pytest.raises(ValueError, match=message):
        osj.analyze(run, **options)
    assert (run.path / "verdict.json").read_bytes() == before


def test_criteria_are_those_fixed_before_the_run(ring):
    run, _ = ring
    assert run.recipe.criteria.mvi_rows == 4
    strict = dataclasses.replace(run.recipe.criteria, microbatches=3)
    again = osj.analyze(run, criteria=strict)
    assert again.dataset.attrs["microbatches"] == 3
