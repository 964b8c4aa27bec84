"""Recipes, checkpoints and run directories: round trips, damage, bad input."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onesided_jax as osj
from onesided_jax import GameSpec, OptimizerSpec, Recipe, processes, runs
from onesided_jax.runs import CheckpointStore, DamagedCheckpointError, manifest, pack, unpack
from onesided_jax.runs.directory import create_or_open, latest_valid, read_metrics, writing

RATES = {"primal_learning_rate": (0.1,), "dual_learning_rate": (0.1, 0.2)}


MANY = tuple(i / 2**10 for i in range(2**10))


def recipe(**changes) -> Recipe:
    fields = {
        "name": "tiny",
        "game": GameSpec("bilinear", {"dim": 2}),
        "optimizers": (OptimizerSpec("adam", axes=RATES),),
        "seeds": (0, 1),
        "steps": 20,
        "checkpoint_every": 10,
    }
    return Recipe(**{**fields, **changes})


@given(
    steps=st.integers(1, 50),
    chunks=st.integers(1, 4),
    seeds=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5, unique=True),
    rates=st.lists(st.floats(0, 1e3), min_size=1, max_size=4, unique=True),
    label=st.text(st.sampled_from("abc-_.1"), min_size=0, max_size=5).map(lambda s: "x" + s),
    description=st.text(max_size=20),
)
@settings(deadline=None, max_examples=50)
def test_recipe_round_trips_through_json(steps, chunks, seeds, rates, label, description):
    spec = OptimizerSpec("amsgrad_eg", label=label, axes={**RATES, "eps": tuple(rates)})
    original = recipe(
        optimizers=(spec,),
        seeds=tuple(seeds),
        steps=steps * chunks,
        checkpoint_every=steps,
        description=description,
    )
    assert Recipe.from_json(original.to_json()) == original
    (cell,) = runs.cells(original)
    assert len(cell.runs) == len(seeds) * len(rates) * 2
    assert set(zip(cell.runs.hyperparameters["eps"], cell.runs.seeds)) == {
        (e, s) for e in rates for s in seeds
    }


def test_a_number_on_an_axis_is_one_value():
    def of(axes):
        return recipe(optimizers=(OptimizerSpec("adam", axes=axes),))

    plain = of({"primal_learning_rate": 1, "dual_learning_rate": [0.1, 0.2], "b1": 0.0})
    assert plain == of(
        {"primal_learning_rate": (1,), "dual_learning_rate": (0.1, 0.2), "b1": (0.0,)}
    )
    assert Recipe.from_json(plain.to_json()) == plain
    content = json.loads(plain.to_json())
    content["optimizers"][0]["axes"] |= {"b1": 0.0, "primal_learning_rate": 1}
    assert Recipe.from_dict(content) == plain
    (cell,) = runs.cells(plain)
    assert cell.runs.hyperparameters["b1"].tolist() == [0.0] * 4


@pytest.mark.parametrize("name", sorted(runs.RECIPES))
def test_built_in_recipes_round_trip(name):
    assert Recipe.from_json(runs.RECIPES[name].to_json()) == runs.RECIPES[name]


@given(
    content=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([f.name for f in dataclasses.fields(Recipe)] + ["x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=10,
    )
)
@settings(deadline=None, max_examples=100)
def test_any_json_gives_a_recipe_or_one_value_error(content):
    with pytest.raises(ValueError, match=r"recipe|expected"):
        Recipe.from_json(json.dumps(content))


@given(
    overwrite=st.dictionaries(
        st.sampled_from([f.name for f in dataclasses.fields(Recipe)]),
        st.none()
        | st.booleans()
        | st.integers(-3, 30)
        | st.floats()
        | st.text(max_size=4)
        | st.lists(st.integers(-1, 3) | st.text(max_size=2), max_size=3),
        min_size=1,
        max_size=2,
    )
)
@settings(deadline=None, max_examples=150)
def test_a_corrupted_recipe_loads_or_says_one_thing(overwrite):
    content = {**json.loads(recipe().to_json()), **overwrite}
    with contextlib.suppress(ValueError):  # any other exception fails the test
        loaded = Recipe.from_dict(content)
        assert Recipe.from_json(loaded.to_json()) == loaded


BAD = {
    "unknown optimizer": (
        {"optimizers": (OptimizerSpec("adamm", axes=RATES),)},
        r"'adamm'.*did you mean 'adam'",
    ),
    "negative rate": (
        {"optimizers": (OptimizerSpec("adam", axes={**RATES, "dual_learning_rate": (-1.0,)}),)},
        r"dual_learning_rate=-1\.0: expected a finite number",
    ),
    "NaN rate": (
        {"optimizers": (OptimizerSpec("adam", axes={**RATES, "b1": (math.nan,)}),)},
        r"b1=nan: expected a finite number",
    ),
    "no hyperparameter": (
        {"optimizers": (OptimizerSpec("adam", axes={**RATES, "b22": (0.9,)}),)},
        r"'b22' is not a hyperparameter of adam.*did you mean 'b2'",
    ),
    "static option swept": (
        {"optimizers": (OptimizerSpec("amsgrad", axes={**RATES, "convention": (1.0,)}),)},
        r"'convention' of amsgrad is a static option and cannot be swept",
    ),
    "hyperparameter as an option": (
        {"optimizers": (OptimizerSpec("extra_adam", axes=RATES, options={"b1": 0.5}),)},
        r"'b1' of extra_adam is a hyperparameter, not a static option: move b1=0.5 to axes=",
    ),
    "bool as a value": (
        {"optimizers": (OptimizerSpec("adam", axes={**RATES, "b1": True}),)},
        r"b1=True: expected a number or a non-empty list of them",
    ),
    "text as a value": (
        {"optimizers": (OptimizerSpec("adam", axes={**RATES, "b1": ("0.5",)}),)},
        r"b1='0.5': expected a number",
    ),
    "no rates": ({"optimizers": (OptimizerSpec("adam"),)}, r"axes lack .*primal_learning_rate"),
    "same label twice": (
        {"optimizers": (OptimizerSpec("adam", axes=RATES),) * 2},
        r"'adam' occurs twice",
    ),
    "label with a slash": (
        {"optimizers": (OptimizerSpec("adam", label="../up", axes=RATES),)},
        r"optimizer label '../up'",
    ),
    "cadence": (
        {"steps": 25},
        r"steps=25: expected a multiple of checkpoint_every=10, .* 20 or 30",
    ),
    "zero steps": ({"steps": 0}, r"steps=0: expected an integer >= 1"),
    "seeds twice": ({"seeds": (1, 1)}, r"seeds=\[1, 1\]: expected distinct"),
    "value twice": (
        {"optimizers": (OptimizerSpec("adam", axes={**RATES, "b1": (0.02, 0.020, 0)}),)},
        r"b1=\[0.02, 0.02, 0\]: expected distinct values, such as \[0.02, 0\]",
    ),
    "label of dots": (
        {"optimizers": (OptimizerSpec("adam", label="..", axes=RATES),)},
        r"optimizer label '\.\.': .*not '\.' first",
    ),
    "endless label": (
        {"optimizers": (OptimizerSpec("adam", label="a" * 300, axes=RATES),)},
        r"at most 100 bytes",
    ),
    "name of another type": ({"name": 3}, r"name=3: expected printable text"),
    "name with a control character": ({"name": "a\x1b[2J"}, r"expected printable text"),
    "half a surrogate pair": ({"description": "\ud800"}, r"description=.*expected text"),
    "steps beyond int32": ({"steps": 10**12}, r"steps=1000000000000: expected at most"),
    "a rate that no float holds": (
        {"optimizers": (OptimizerSpec("adam", axes={**RATES, "eps": (10**400,)}),)},
        r"eps=an integer of more than 40 digits: expected a finite number",
    ),
    "too many runs": (
        {"optimizers": (OptimizerSpec("adam", axes={**RATES, "eps": MANY, "b2": MANY}),)},
        r"4,194,304 runs, expected at most 1,048,576",
    ),
    "option of another type": (
        {
            "optimizers": (
                OptimizerSpec("alternating_adam", axes=RATES, options={"dual_steps": "2"}),
            )
        },
        r"dual_steps='2': expected int",
    ),
    "game option that JSON has not": (
        {"game": GameSpec("bilinear", {"dim": math.inf})},
        r"game option dim=inf",
    ),
    "negative seed": ({"seeds": (-1,)}, r"seeds=\[-1\]"),
    "precision": ({"precision": "half"}, r"precision='half'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_recipes_name_value_and_expectation(case):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        recipe(**changes)


BAD_GAMES = {
    "unknown game": (GameSpec("carousell"), r"'carousell'.*did you mean 'carousel'"),
    "unknown option": (GameSpec("gan", {"widht": 3}), r"'widht'.*did you mean 'width'"),
    "unknown dataset": (GameSpec("gan", {"dataset": "mnist5"}), r"mnist5k"),
    "unknown network": (GameSpec("gan", {"dataset": "ring", "network": "dcgam"}), r"'dcgan'"),
    "unknown loss": (
        GameSpec("gan", {"dataset": "ring", "network": "mlp", "loss": "minmax"}),
        r"did you mean 'minimax'",
    ),
    "game parameter": (GameSpec("bilinear", {"dims": 3}), r"did you mean 'dim'"),
}


@pytest.mark.parametrize("case", BAD_GAMES)
def test_bad_games_are_refused_before_anything_is_written(case, tmp_path):
    spec, message = BAD_GAMES[case]
    with pytest.raises(ValueError, match=message):
        osj.run(recipe(game=spec), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("precision", "message"),
    [("float46", r"'float46'.*did you mean 'float64'"), ("float64", "jax_enable_x64")],
)
def test_a_game_in_a_precision_that_is_not_there_is_refused(precision, message):
    with pytest.raises(ValueError, match=message):
        osj.runs.build_game(GameSpec("gan", {"dataset": "absent"}), precision)


@given(
    seeds=st.integers(1, 4),
    axes=st.dictionaries(
        st.sampled_from("abc"), st.lists(st.floats(-1, 1), min_size=1, max_size=3), max_size=3
    ),
)
@settings(deadline=None)
def test_grid_is_the_product_with_seeds_fastest(seeds, axes):
    runs = osj.grid(seeds=seeds, **axes)
    flat_seeds, columns = runs.seeds, runs.hyperparameters
    size = seeds * math.prod(len(v) for v in axes.values())
    assert flat_seeds.shape == (size,)
    assert flat_seeds.tolist() == list(range(seeds)) * (size // seeds)
    rows = list(zip(*(columns[name].tolist() for name in axes))) if axes else [()] * size
    stride = seeds
    for i, name in reversed(list(enumerate(axes))):
        for r, row in enumerate(rows):
            assert row[i] == axes[name][(r // stride) % len(axes[name])]
        stride *= len(axes[name])


def test_grid_refuses_an_empty_axis():
    with pytest.raises(ValueError, match="rate: expected at least one value"):
        osj.grid(seeds=2, rate=())


def awkward_tree():
    params = {"w": jnp.arange(6.0).reshape(2, 3), "none": None, "empty": jnp.zeros((0, 2))}
    opt_state = osj.adam(0.1, 0.1).init(osj.PrimalDual(params, {"b": jnp.ones(2)}))
    keys = jax.random.split(jax.random.key(3), 2)
    return {
        "opt_state": opt_state,
        "key": keys,
        "step": jnp.int32(7),
        "half": jnp.ones(2, "bfloat16"),
    }


def test_pack_and_unpack_are_inverse_and_need_no_shared_memory():
    tree = awkward_tree()
    packed = pack(tree)
    back = unpack(packed, jax.eval_shape(lambda: tree))
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(back), strict=True):
        assert a.dtype == b.dtype
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_unpack_names_what_is_missing_or_of_another_shape():
    with pytest.raises(DamagedCheckpointError, match="b: not in the checkpoint"):
        unpack({"a": np.ones(2)}, {"b": jax.ShapeDtypeStruct((2,), "float64")})
    with pytest.raises(
        DamagedCheckpointError, match=r"a: expected float32\[3\], found float64\[2\]"
    ):
        unpack({"a": np.ones(2)}, {"a": jax.ShapeDtypeStruct((3,), "float32")})


def store_with(tmp_path, steps=(0, 10, 20)) -> CheckpointStore:
    store = CheckpointStore(tmp_path / "checkpoints")
    for step in steps:
        metrics = {} if step == 0 else {"loss": np.full((2, 5), float(step))}
        store.write(step, {"a": np.arange(50.0) + step, "metrics": metrics}, {"seconds": 1.5})
    return store


def test_checkpoints_come_back_as_written(tmp_path):
    store = store_with(tmp_path)
    assert store.steps() == [0, 10, 20]
    np.testing.assert_array_equal(store.read(10)["a"], np.arange(50.0) + 10)
    assert store.info(20) == {"seconds": 1.5}
    store.write(20, {"a": np.zeros(3)}, {"seconds": 2.0})  # replaces, e.g. a damaged one
    assert store.read(20)["a"].shape == (3,)
    assert [p.name for p in store.path.iterdir() if not p.name.isdigit()] == []


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "bit flip": flip_bit,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_any_file_is_found_and_the_last_good_checkpoint_used(tmp_path, damage):
    store = store_with(tmp_path)
    folder = store.path / "20"
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.stat().st_size]
    assert len(files) >= 5
    for path in files:
        before = path.read_bytes()
        DAMAGE[damage](path)
        with pytest.raises(DamagedCheckpointError, match="20"):
            store.read(20)
        (step, arrays), passed_over = latest_valid(store)
        assert step == 10
        assert arrays["a"][0] == 10
        assert len(passed_over) == 1
        path.write_bytes(before)
    store.read(20)


def test_if_every_checkpoint_is_damaged_each_is_named(tmp_path):
    store = store_with(tmp_path)
    for step in store.steps():
        flip_bit(store.path / str(step) / "SHA256SUMS")
    found, passed_over = latest_valid(store)
    assert found is None
    assert len(passed_over) == 3


def test_metrics_of_a_damaged_chunk_are_nan(tmp_path):
    store = store_with(tmp_path, steps=(0, 10, 20, 30))
    flip_bit(store.path / "20" / "SHA256SUMS")
    said = []
    segments = read_metrics(store, 30, 10, (2, 5), said.append)
    assert len(said) == 1
    assert "its metrics are shown as NaN" in said[0]
    losses = np.concatenate([s["loss"] for s in segments], axis=1)
    np.testing.assert_array_equal(losses[0, ::5], [10.0, np.nan, 30.0])


def test_a_step_without_a_checkpoint_and_an_unknown_cell_are_named(tmp_path):
    store = store_with(tmp_path)
    message = r"step 15; existing steps: \[0, 10, 20\]$"
    with pytest.raises(runs.MissingCheckpointError, match=message):
        store.read(15)
    with pytest.raises(runs.MissingCheckpointError, match=message):
        store.info(15)
    with pytest.raises(runs.MissingCheckpointError, match=r"step 0; existing steps: none"):
        CheckpointStore(tmp_path / "new").read(0)
    (store.path / "10" / "SHA256SUMS").unlink()
    with pytest.raises(DamagedCheckpointError, match="SHA256SUMS is missing"):
        store.read(10)

    cells = {"adam": {"seeds": [0], "hyperparameters": {}}}
    run = create_or_open(tmp_path / "run", plan={"cells": cells}, recipe=None)
    assert run.store("adam").steps() == []
    for read in (run.store, run.seeds, run.hyperparameters):
        with pytest.raises(ValueError, match=r"no cell 'adamm', .*\['adam'\] \(did you mean"):
            read("adamm")


def test_a_failed_write_leaves_no_trace(tmp_path, monkeypatch):
    store = store_with(tmp_path, steps=(0,))
    monkeypatch.setattr(runs.checkpoints, "flush", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.write(10, {"a": np.ones(2)}, {})
    assert [p.name for p in store.path.iterdir()] == ["0"]


def test_a_folder_with_something_else_is_left_alone(tmp_path, monkeypatch):
    plan = {"steps": 10, "cells": {}}
    create_or_open(tmp_path / "a", plan=plan, recipe=None)
    before = (tmp_path / "a" / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match=r"holds another run \(steps is 10 there and 5 here\)"):
        create_or_open(tmp_path / "a", plan={**plan, "steps": 5}, recipe=None)
    assert (tmp_path / "a" / "manifest.json").read_bytes() == before
    monkeypatch.setattr(processes, "first", lambda work: None)  # another process holds the lock
    with pytest.raises(ValueError, match=r"steps is 10 there and 20 here"):
        writing(tmp_path / "a", plan={**plan, "steps": 20}, recipe=None).__enter__()
    monkeypatch.undo()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and holds no run"):
        create_or_open(tmp_path / "b", plan=plan, recipe=None)
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("[]", "has format None"),
        ('{"format": true}', "has format True"),
        ('{"format": 99}', "was altered"),  # a version to come signs what it writes
        ('{"format": 1}', "missing"),
    ],
)
def test_a_damaged_manifest_is_one_clear_error(tmp_path, text, message):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        osj.open_run(tmp_path)


def test_a_newer_format_says_which_version_reads_it(tmp_path):
    content = {"format": 99, "versions": {"onesided-jax": "7.1"}}
    content["sha256"] = manifest._digest(content)
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"format 99, .* reads formats 1 to 2: install .* 7\.1"):
        osj.open_run(tmp_path)


def test_any_flipped_bit_of_a_manifest_is_found(tmp_path):
    plan = {"steps": 10, "cells": {"a": {"seeds": [0], "hyperparameters": {"rate": [0.1]}}}}
    whole = create_or_open(tmp_path, plan=plan, recipe=None)
    path = tmp_path / "manifest.json"
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            opened = osj.open_run(tmp_path)
        except ValueError:
            pass
        else:
            # White space may turn into other white space, and a letter's case in an escape.
            assert json.loads(flipped) == json.loads(content)
            assert opened.manifest == whole.manifest
    path.write_bytes(content[:-20])
    with pytest.raises(ValueError, match=r"manifest\.json' is damaged"):
        osj.open_run(tmp_path)
    with pytest.raises(ValueError, match=r"manifest\.json' is damaged"):
        create_or_open(tmp_path, plan=plan, recipe=None)
    assert path.read_bytes() == content[:-20]


def test_the_next_writer_clears_what_a_kill_left_of_a_manifest(tmp_path):
    plan = {"steps": 10, "cells": {}}
    create_or_open(tmp_path, plan=plan, recipe=None)
    for name in (".manifest.json.abc", ".manifest.copy.json.abc"):  # version 0.1 had a copy
        (tmp_path / name).write_text("{")
    create_or_open(tmp_path, plan=plan, recipe=None)
    assert {p.name for p in tmp_path.iterdir()} == {"manifest.json"}


def test_a_run_continued_elsewhere_says_so_once(tmp_path, monkeypatch):
    run = create_or_open(tmp_path, plan={"steps": 10, "cells": {}}, recipe=None)
    assert runs.record_session(run) == (run, "")
    here = manifest.origin()
    other = {**here, "versions": {**here["versions"], "jaxlib": "99"}}
    monkeypatch.setattr(manifest, "origin", lambda: other)
    run, said = runs.record_session(run)
    assert f"jaxlib {here['versions']['jaxlib']} before, 99 now" in said
    assert osj.open_run(tmp_path).manifest["sessions"][0]["versions"]["jaxlib"] == "99"
    assert runs.record_session(run) == (run, "")


def test_files_of_two_writers_are_never_seen_together(tmp_path):
    run = create_or_open(tmp_path, plan={"steps": 10, "cells": {}}, recipe=None)
    seen = []

    def write(content):
        with runs.replacing(run, "analysis", "z") as folder:
            for name in "za":
                (folder / name).write_text(content)
            with (
                pytest.raises(runs.LockedError, match="in use by process"),
                runs.replacing(run, "analysis", "z"),
            ):
                pass
            seen.append([(tmp_path / n).read_text() for n in "az" if (tmp_path / n).exists()])

    (tmp_path / ".analysis.left").mkdir()  # by a kill
    write("1")
    write("2")
    with pytest.raises(FileNotFoundError), runs.replacing(run, "analysis", "z") as folder:
        (folder / "a").rename(folder / "b")
    assert seen == [[], ["1", "1"]]
    assert [(tmp_path / n).read_text() for n in "az"] == ["2", "2"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a",
        "manifest.json",
        "z",
    ]
