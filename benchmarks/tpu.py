"""Figures of the TPU's compiler for our programs; needs libtpu (extra ``tpu``), but no TPU.

    python -m benchmarks.tpu [capacity] [scaling] [convolutions] [batch] [--out FOLDER]

``capacity``: the built-in GAN recipes with their first optimizer, on one v5e chip. ``scaling``: one
program for 1 to 256 chips. ``convolutions``: a DCGAN's step with each form of convolution.
``batch``: one large run on the four chips of a v5e:2x2. Each writes one CSV file, row by
row. Compiling takes an hour on two cores.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import onesided_jax as osj
from onesided_jax.runs import RECIPES, build_game
from onesided_jax.sweeps import CompiledCell, compile_for, weak_scaling
from onesided_jax.sweeps.ahead import collectives
from onesided_jax.sweeps.topology import tpu_devices

RESULTS = Path(__file__).parent / "results" / "tpu"
CHIP = "v5e:1x1"
Row = dict[str, Any]


def _row(recipe: str, found: CompiledCell) -> Row:
    return {
        "recipe": recipe,
        "cell": found.cell,
        "topology": found.topology,
        "chips": found.chips,
        "runs per chip": found.width,
        "MB per chip": f"{found.needed / 1e6:.1f}",
        "GFLOP per run-step": f"{found.flops / 1e9:.4g}",
        "MB moved per run-step": f"{found.bytes_accessed / 1e6:.4g}",
        "collectives": sum(found.collectives.values()),
        "most runs per chip": found.largest or "",
        "seconds to compile": f"{found.seconds:.0f}",
    }


def capacity(write: Callable[[Row], None]) -> None:
    # Finding the most runs of a DCGAN would take many minutes of compiling.
    for name, largest in (("ring", True), ("mnist-dcgan", False)):
        tell = functools.partial(lambda name, found: write(_row(name, found)), name)
        compile_for(_first_cell(name), CHIP, largest=largest, on_cell=tell)


def scaling(write: Callable[[Row], None]) -> None:
    for name in ("ring", "mnist-dcgan"):
        tell = functools.partial(lambda name, found: write(_row(name, found)), name)
        weak_scaling(_first_cell(name), CHIP, on_cell=tell)


def convolutions(write: Callable[[Row], None]) -> None:
    recipe = _first_cell("mnist-dcgan")
    for form in ("gemm", "native", "auto"):
        game = dataclasses.replace(recipe.game, options={**recipe.game.options, "conv": form})
        other = dataclasses.replace(recipe, game=game)
        (found,) = compile_for(other, CHIP, width=8, largest=False)
        write({"form": form, **_row(recipe.name, found)})


def batch(write: Callable[[Row], None]) -> None:
    options = {**RECIPES["mnist-dcgan"].game.options, "batch_size": 1024, "width": 64}
    game = build_game(dataclasses.replace(RECIPES["mnist-dcgan"].game, options=options))
    devices = tpu_devices("v5e:2x2")
    for optimizer in ("adam", "extra_adam"):
        for count in (1, 4):
            mesh = Mesh(np.array(devices[:count]), ("batch",))
            split = osj.games.shard_batch(game, mesh)
            init, step = osj.make_step(split, lambda o=optimizer, **h: osj.OPTIMIZERS[o](**h))
            rates = {"primal_learning_rate": 1e-4, "dual_learning_rate": 1e-4}
            state = jax.eval_shape(init, jax.random.key(0), rates)
            whole = NamedSharding(mesh, PartitionSpec())
            compiled = jax.jit(step, in_shardings=whole).lower(state, rates).compile()
            memory: Any = compiled.memory_analysis()
            cost: Any = compiled.cost_analysis()
            write(
                {
                    "optimizer": optimizer,
                    "chips": count,
                    "MB of temporaries per chip": f"{memory.temp_size_in_bytes / 1e6:.1f}",
                    "GFLOP per chip": f"{cost['flops'] / 1e9:.4g}",
                    "MB moved per chip": f"{cost['bytes accessed'] / 1e6:.4g}",
                    "collectives": _words(collectives(compiled)),
                }
            )


def _words(found: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in found.items()) or "none"


def _first_cell(name: str) -> osj.Recipe:
    recipe = RECIPES[name]
    return dataclasses.replace(recipe, optimizers=recipe.optimizers[:1])


TABLES = {f.__name__: f for f in (capacity, scaling, convolutions, batch)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tpu")
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"any of {', '.join(TABLES)}")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    jax.config.update("jax_platforms", "cpu")
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.tables or TABLES:
        with (options.out / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            rows: list[Row] = []

            def write(row: Row, file=file, rows=rows) -> None:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                if not rows:
                    writer.writeheader()
                writer.writerow(row)
                file.flush()
                rows.append(row)
                print(row, flush=True)

            TABLES[name](write)


if __name__ == "__main__":
    main()
