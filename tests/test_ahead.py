"""Compiling for a TPU: names, planning and reports everywhere, the compiler where libtpu is."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from onesided_jax.cli import main
from onesided_jax.runs import GameSpec, OptimizerSpec, Recipe
from onesided_jax.sweeps import CompiledCell, ahead, compile_for, topology, weak_scaling

RECIPE = Recipe(
    name="tiny",
    game=GameSpec("finite_sum_bilinear", {"dim": 32, "batch_size": 8}),
    optimizers=(
        OptimizerSpec(
            "adam", axes={"primal_learning_rate": (1e-3,), "dual_learning_rate": (1e-3, 2e-3)}
        ),
    ),
    seeds=(0, 1),
    steps=20,
    checkpoint_every=10,
    record_every=5,
)
without_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed"
)
with_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed (extra tpu)"
)


@pytest.fixture
def cpus(monkeypatch):
    """The CPU's compiler in the place of the TPU's."""
    monkeypatch.setattr(
        ahead, "tpu_devices", lambda name: jax.devices()[: 4 if "2x2" in name else 1]
    )
    monkeypatch.setattr(ahead, "SCALES", (1, 4))
    monkeypatch.setattr(ahead, "chips_like", lambda name, counts: ["v5e:1x1", "v5e:2x2"])


@pytest.mark.parametrize(
    ("name", "nearest"), [("v5e:2x3", "v5e:"), ("v5:2x2", "v5e:2x2"), ("v6e", ""), ("v7:1x1", "")]
)
def test_a_topology_that_does_not_exist_is_named_with_those_that_do(name, nearest):
    with pytest.raises(
        ValueError, match=f"topology='{name}': expected CHIP:GRID.*v6e: 1x1, 2x2"
    ) as e:
        topology.find_chip(name)
    assert f"did you mean '{nearest}" in str(e.value) or not nearest


def test_weak_scaling_takes_grids_of_the_same_chip():
    assert topology.chips_like("v6e:2x4", ahead.SCALES) == [
        "v6e:1x1", "v6e:2x2", "v6e:4x4", "v6e:8x8", "v6e:16x16"
    ]  # fmt: skip
    for name in topology.CHIPS:
        assert (
            len(topology.chips_like(f"{name}:{topology.CHIPS[name].grids[0]}", ahead.SCALES)) == 5
        )


@without_compiler
def test_without_the_compiler_the_message_says_what_to_install(capsys):
    assert main(["compile", "ring"]) == 2
    assert "pip install 'onesided-jax[tpu]'" in capsys.readouterr().err


def line(width, *, fixed=1_000, per_run=10, memory=100_000, refused=10**9):
    """A compiler whose account is a straight line."""
    if width >= refused:
        return None
    needed = fixed + per_run * width
    return CompiledCell("cell", "v5e:1x1", 1, width, 1.0, needed, memory, 0.0, 0.0, {})


@pytest.mark.parametrize(("refused", "low", "high"), [(10**9, 9_300, 9_900), (5_000, 4_000, 4_999)])
def test_the_most_runs_are_found_below_memory_and_refusals(refused, low, high):
    at = functools.partial(line, refused=refused)
    assert low <= ahead._largest(at) <= high


def test_the_report_of_a_cell_counts_one_step_of_one_run(cpus):
    told = []
    (four,) = compile_for(RECIPE, "v5e:1x1", largest=False, on_cell=told.append)
    (eight,) = compile_for(RECIPE, "v5e:1x1", runs=8, largest=False)
    assert told == [four]
    assert (four.width, eight.width, four.chips, four.collectives) == (4, 8, 1, {})
    assert 0 < four.needed < eight.needed < four.memory == topology.CHIPS["v5e"].memory
    assert four.flops == pytest.approx(eight.flops, rel=0.1)
    often = dataclasses.replace(RECIPE, record_every=1)
    assert compile_for(often, "v5e:1x1", largest=False)[0].flops == pytest.approx(
        four.flops, rel=0.1
    )


def test_runs_that_do_not_fit_are_refused_with_how_many_do(cpus, monkeypatch):
    monkeypatch.setattr(ahead, "_compile", lambda label, plan, layout, topology: line(layout.width))
    monkeypatch.setitem(topology.CHIPS, "v5e", topology.CHIPS["v5e"]._replace(memory=100_000))
    with pytest.raises(
        ValueError, match=r"width=20000: too many runs of 'adam'.*at most 9[67]\d\d$"
    ):
        compile_for(RECIPE, "v5e:1x1", width=20_000)


@pytest.mark.skipif(jax.device_count() < 2, reason="one device")
def test_a_program_for_all_chips_does_on_each_what_one_chip_does(monkeypatch):
    monkeypatch.setattr(ahead, "tpu_devices", lambda name: jax.devices()[: 2 if "2" in name else 1])
    monkeypatch.setattr(ahead, "chips_like", lambda name, counts: ["v5e:1x1", "v5e:2x2"])
    one, two = weak_scaling(RECIPE, "v5e:1x1", width=4)
    assert (one.chips, two.chips) == (1, 2)
    assert one.collectives == two.collectives == {}
    assert two.needed == pytest.approx(one.needed, rel=0.01)


def test_operations_between_devices_are_counted():
    mesh = Mesh(np.array(jax.devices()[:2]), ("x",))
    x = jax.ShapeDtypeStruct((4,), "float32", sharding=NamedSharding(mesh, PartitionSpec("x")))
    compiled = jax.jit(lambda x: x.sum()).lower(x).compile()
    assert ahead.collectives(compiled) == {"all-reduce": 1}


def test_the_command_prints_a_table_and_writes_json(cpus, monkeypatch, tmp_path, capsys):
    recipe, out = tmp_path / "tiny.json", tmp_path / "found.json"
    recipe.write_text(RECIPE.to_json())
    assert main(["compile", str(recipe), "--no-largest", "--json", str(out)]) == 0
    (row,) = json.loads(out.read_text())
    assert (row["cell"], row["width"], row["collectives"]) == ("adam", 4, {})
    assert "adam" in capsys.readouterr().out
    assert main(["compile", str(recipe), "--scaling", "--runs", "4"]) == 2
    assert main(["compile", str(recipe), "--width", "0"]) == 2


@with_compiler
def test_the_compiler_of_a_tpu_takes_the_program_of_a_sweep():
    (found,) = compile_for(RECIPE, "v5e:2x2", runs=8, largest=False)
    assert (found.width, found.collectives) == (2, {})
    assert 0 < found.needed < found.memory
