"""Joining run directories: the same checkpoints as one run of all, and what cannot be joined."""

from __future__ import annotations

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

import onesided_jax as osj
from onesided_jax import GameSpec, OptimizerSpec, Recipe, games, open_run
from onesided_jax.cli import main
from onesided_jax.runs import join

RATES = {"primal_learning_rate": (0.1, 0.2), "dual_learning_rate": (0.1,)}
BOTH = Recipe(
    name="both",
    game=GameSpec("bilinear", {"dim": 2}),
    optimizers=(OptimizerSpec("adam", axes=RATES), OptimizerSpec("sgda", axes=RATES)),
    seeds=(3, 1, 2),
    steps=20,
    checkpoint_every=10,
)


def part(**changes) -> Recipe:
    return dataclasses.replace(BOTH, **changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """``made(**changes)``: a finished run of a part, trained once, for reading only."""
    found = {}

    def make(**changes):
        recipe = part(**changes)
        key = recipe.to_json()
        if key not in found:
            found[key] = osj.run(recipe, tmp_path_factory.mktemp("run"), width=2).path
        return found[key]

    return make


def at_rate(rate, *names):
    axes = {**RATES, "primal_learning_rate": (rate,)}
    return tuple(OptimizerSpec(name, axes=axes) for name in names)


def assert_same(found, expected):
    assert found.manifest["plan"] == expected.manifest["plan"]
    assert found.recipe == expected.recipe
    for cell in expected.cells:
        stores = found.store(cell), expected.store(cell)
        assert stores[0].steps() == stores[1].steps()
        for step in stores[1].steps():
            jax.tree.map(np.testing.assert_array_equal, *(s.read(step) for s in stores))


PARTS = {
    "seeds, one of them twice": [{"seeds": (3, 1)}, {"seeds": (1, 2)}],
    "everything": [
        {"seeds": (3, 1), "optimizers": at_rate(0.1, "adam")},
        {"seeds": (3, 1), "optimizers": at_rate(0.2, "adam")},
        {"seeds": (2,), "optimizers": BOTH.optimizers[:1]},
        {"optimizers": BOTH.optimizers[1:]},
    ],
}


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_joined_runs_are_one_run_of_all(parts, made, tmp_path):
    folders = [made(**changes) for changes in parts]
    joined = join(folders, tmp_path / "joined")
    assert_same(joined, open_run(made()))
    assert [entry["path"] for entry in joined.manifest["joined"]] == list(map(str, folders))


def test_joined_runs_train_further_to_the_same_bits(made, tmp_path):
    adam = {"optimizers": BOTH.optimizers[:1]}
    joined = join([made(seeds=(3,), **adam), made(seeds=(1, 2), **adam)], tmp_path / "joined")
    osj.resume(joined.path, steps=30)
    assert_same(open_run(joined.path), open_run(made(steps=30, **adam)))


def test_an_interrupted_joining_goes_on(made, tmp_path):
    runs = [made(seeds=(3, 1)), made(seeds=(1, 2))]
    joined = join(runs, tmp_path / "joined")
    kept = joined.store("adam").path / "10"
    before = kept.stat().st_mtime_ns
    shutil.rmtree(joined.store("sgda").path / "20")
    assert_same(join(runs, tmp_path / "joined"), open_run(made()))
    assert kept.stat().st_mtime_ns == before


def test_sweeps_of_python_are_joined_too(tmp_path):
    game = games.bilinear(dim=2)

    def sweep(seeds, out, steps=4):
        runs = osj.grid(seeds=seeds, primal_learning_rate=[0.1, 0.2], dual_learning_rate=0.1)
        return osj.sweep(game, osj.adam, runs, steps=steps, checkpoint_every=2, out=out, width=2)

    for name, seeds in {"a": [0, 1], "b": [2], "all": [0, 1, 2]}.items():
        sweep(seeds, tmp_path / name)
    joined = join([tmp_path / "a", tmp_path / "b"], tmp_path / "ab")
    assert_same(joined, open_run(tmp_path / "all"))
    ours, theirs = (sweep([0, 1, 2], tmp_path / name, steps=6) for name in ("ab", "all"))
    jax.tree.map(np.testing.assert_array_equal, ours.players, theirs.players)


def test_a_damaged_checkpoint_is_left_out_and_named(made, tmp_path):
    whole, damaged = made(seeds=(3, 1)), tmp_path / "damaged"
    shutil.copytree(made(seeds=(1, 2)), damaged)
    file = next((damaged / "cells/adam/checkpoints/10/arrays").glob("**/d/*"))
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    said = []
    joined = join([whole, damaged], tmp_path / "joined", on_damage=said.append)
    assert joined.store("adam").steps() == [0, 20]
    assert joined.store("sgda").steps() == [0, 10, 20]
    assert len(said) == 1
    assert "damaged/cells/adam/checkpoints/10" in said[0]
    assert said[0].endswith("; left out")


OTHER_RATE = (OptimizerSpec("adam", axes={**RATES, "b1": (0.5,)}),)
REFUSED = {
    "another game": ({"game": GameSpec("bilinear", {"dim": 3})}, "game.options.dim is 2 there"),
    "other steps": ({"steps": 30}, "steps is 20 there and 30 here"),
    "another cadence": ({"checkpoint_every": 20}, "checkpoint_every is 10 there and 20"),
    "other criteria": ({"criteria": osj.Criteria(min_seeds=2)}, "criteria.min_seeds"),
    "another optimizer under a label": (
        {"optimizers": (OptimizerSpec("amsgrad", label="adam", axes=RATES),)},
        "adam: amsgrad with {} in one run, adam with {} in another",
    ),
    "other hyperparameters": ({"optimizers": OTHER_RATE}, "expected the same hyperparameters"),
    "a hole in the grid": (
        {"seeds": (7,), "optimizers": at_rate(0.1, "adam", "sgda")},
        "adam: 1 of 8 combinations are in none of the runs, such as "
        "'primal_learning_rate=0.2, dual_learning_rate=0.1, seed=7': train these too",
    ),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_joined_is_refused(changes, message, made, tmp_path):
    runs = [made(), made(**changes)]
    with pytest.raises(ValueError) as error:
        join(runs, tmp_path / "joined")
    assert message in str(error.value)
    assert not (tmp_path / "joined").exists()


def test_other_data_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        images = np.random.default_rng(ord(name)).integers(0, 255, (8, 8, 8), np.uint8)
        np.savez(tmp_path / name / "images.npz", images=images)
    options = {"network": "mlp", "width": 2, "depth": 1, "latent_dim": 2, "batch_size": 2}
    for name in ("a", "b"):
        spec = GameSpec("gan", {**options, "dataset": f"npz:{tmp_path}/{name}/images.npz"})
        one = part(game=spec, optimizers=at_rate(0.1, "adam"), seeds=(ord(name),))
        osj.run(one, tmp_path / f"run-{name}")
    with pytest.raises(ValueError, match="SHA-256 of the data is"):
        join([tmp_path / "run-a", tmp_path / "run-b"], tmp_path / "joined")


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "both.json").write_text(json.dumps(dataclasses.asdict(BOTH)))
    for seeds, out in (("2", "a"), ("2:4", "b")):
        assert main(["sweep", "both.json", "--seeds", seeds, "--out", out, "--width", "2"]) == 0
    assert main(["join", "a", "b", "--out", "ab"]) == 0
    assert open_run("ab").recipe.seeds == (0, 1, 2, 3)
    assert "16 runs of adam, sgda: ab" in capsys.readouterr().out
    assert main(["analyze", "ab"]) == 0
    assert "Next: onesided report ab" in capsys.readouterr().out
    for arguments, message in {
        ("join", "a", "--out", "c"): "expected two or more to join",
        ("join", "a", "missing", "--out", "c"): "holds no run",
        ("join", "a", "b", "--out", "b"): "holds another run",
    }.items():
        assert main(list(arguments)) == 2
        assert message in capsys.readouterr().err
    assert main(["resume", "ab", "--steps", "40"]) == 0
    assert main(["join", "a", "ab", "--out", "c"]) == 2
    assert "steps is 20 there and 40 here" in capsys.readouterr().err


def test_an_unfinished_run_is_refused(made, tmp_path):
    begun = osj.run(BOTH, tmp_path / "b", stop=lambda: True)
    with pytest.raises(ValueError, match="is not finished: complete it first, with `onesided res"):
        join([made(), begun.path], tmp_path / "joined")
