"""The commands that train nothing: what there is, and what it needs on a TPU."""

from __future__ import annotations

import contextlib
import inspect
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from rich.table import Column, Table
from tyro.conf import Positional, arg

from onesided_jax.cli._console import console, say
from onesided_jax.cli._counts import OptionalCount


def recipes(name: Annotated[Positional[str | None], arg(help="Print this one as JSON.")] = None):
    """List the built-in recipes, or print one as JSON to edit and pass to `onesided sweep`.

    The numbers of parameters go to standard error, so that standard output is pure JSON.
    """
    from onesided_jax.cli._arguments import find_recipe, parameters, run_count
    from onesided_jax.runs import RECIPES

    if name is not None:
        recipe = find_recipe(name)
        sys.stdout.write(recipe.to_json() + "\n")
        say(parameters(recipe))
        return
    table = Table(
        Column("recipe", no_wrap=True), "game", "optimizers", "runs", "steps", "description"
    )
    for recipe in RECIPES.values():
        table.add_row(
            recipe.name,
            recipe.game.options.get("dataset", recipe.game.name),
            ", ".join(spec.label or spec.name for spec in recipe.optimizers),
            str(run_count(recipe)),
            str(recipe.steps),
            recipe.description,
        )
    console.print(table)


def compile(
    recipe: Annotated[
        Positional[str], arg(help="A built-in name (see `onesided recipes`) or a .json file.")
    ],
    topology: str = "v5e:1x1",
    runs: OptionalCount = None,
    width: OptionalCount = None,
    largest: bool = True,
    scaling: bool = False,
    json: Path | None = None,
) -> None:
    """Compile a recipe for a TPU, without one, and report memory, operations and traffic.

    Needs the extra tpu.

    Example: onesided compile ring --topology v5e:2x2 --runs 4096

    Args:
      topology: Chip and grid: v5e:1x1 (a Colab TPU), v5e:2x2, v6e:16x16, v5p:2x2x1, ...
      runs: Runs of each optimizer; by default the recipe's.
      width: Runs at a time on each chip; by default chosen as in a sweep.
      largest: Also search for the most runs that fit on one chip, with a few more compilations.
      scaling: Instead, compile one program for 1, 4, 16, 64 and 256 chips with WIDTH runs on each.
      json: Also write the results to this file as JSON.
    """
    import jax

    from onesided_jax.cli._arguments import find_recipe
    from onesided_jax.runs.files import write_json_atomically
    from onesided_jax.sweeps import CompiledCell, compile_for, weak_scaling

    wanted = find_recipe(recipe)
    if scaling and runs is not None:
        raise ValueError(f"--runs {runs}: with --scaling expected --width, the runs on each chip")
    with contextlib.suppress(RuntimeError):  # JAX is already in use: main() was called in Python
        jax.config.update("jax_platforms", "cpu")  # do not wait for other devices
    with console.status("compiling") as status:

        def tell(found: CompiledCell) -> None:
            status.update(f"compiling; {found.cell} on {found.topology}: {found.seconds:.0f} s")

        if scaling:
            found = weak_scaling(wanted, topology, width=width, on_cell=tell)
        else:
            options: dict[str, Any] = {"runs": runs, "width": width, "largest": largest}
            found = compile_for(wanted, topology, **options, on_cell=tell)
    if json is not None:
        write_json_atomically(json, [cell._asdict() for cell in found])
    console.print(_compiled_table(found))


def _compiled_table(found: Sequence[Any]) -> Table:
    columns = ("optimizer", "chips", "runs", "MB", "most runs", "MFLOP", "MB moved", "sent", "s")
    chip = found[0].topology.partition(":")[0]
    table = Table(*columns, title=f"Compiled for {chip}, {found[0].memory / 1e6:,.0f} MB per chip")
    for cell in found:
        table.add_row(
            cell.cell,
            str(cell.chips),
            str(cell.width),
            f"{cell.needed / 1e6:,.0f}",
            str(cell.largest or "-"),
            f"{cell.flops / 1e6:,.1f}",
            f"{cell.bytes_accessed / 1e6:,.1f}",
            ", ".join(f"{n} {name}" for name, n in cell.collectives.items()) or "nothing",
            f"{cell.seconds:.0f}",
        )
    table.caption = (
        "runs, MB, most runs: per chip. MFLOP, MB moved: per step of one run. "
        "sent: operations between chips. s: compile time"
    )
    return table


def games():
    """List the analytic games, and the conditions that hold in each."""
    from onesided_jax.games import GAMES

    table = Table(
        Column("game", no_wrap=True),
        "one-sided MVI",
        "MVI",
        "monotone",
        "L_xx",
        "L_xy",
        "box",
        "description",
    )
    for name, factory in GAMES.items():
        facts = factory().facts
        assert facts is not None
        weak = f"weak, rho = {facts.weak_mvi:.3g}" if facts.weak_mvi else "-"
        table.add_row(
            name,
            "yes" if facts.one_sided_mvi else "-",
            "yes" if facts.mvi else weak,
            "yes" if facts.monotone else "-",
            f"{facts.lipschitz_xx:.3g}",
            f"{facts.lipschitz_xy:.3g}",
            "-" if math.isinf(facts.boxes.primal) else f"{facts.boxes.primal:g}",
            _summary(factory),
        )
    console.print(table)


def _summary(factory: Any) -> str:
    """First line of a docstring as plain text."""
    line = (inspect.getdoc(factory) or "").partition("\n")[0]
    return line.replace("`", "")
