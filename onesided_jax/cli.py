"""The command line: the only place that prints."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from tyro.conf import Positional, UseAppendAction, arg

from onesided_jax.runs import RECIPES, Recipe, Run, hyperparameters_of, open_run
from onesided_jax.runs._words import nearest

__all__ = ["main"]

_DEMO = (("carousel", "A game whose answer is known: the carousel"), ("demo", "MNIST digits"))
_USAGE_ERRORS = (ValueError, TypeError, ImportError, OSError)

_console = Console()
_errors = Console(stderr=True)

RunArgument = Annotated[Positional[Path], arg(help="A run directory.", metavar="RUN")]


def demo(out: Path = Path("demo"), open_page: bool = False) -> None:
    """Train, analyse and show the two demonstrations; a few minutes on two cores.

    The carousel (a game whose answer is known) and a DCGAN on MNIST digits, under adam, amsgrad_eg
    and its x-only form. Ends with OUT/report.html. Interrupted, it continues where it was.

    Args:
      out: Folder for the runs and the page.
      open_page: Open the page in a browser at the end.
    """
    for name, _ in _DEMO:
        _sweep(RECIPES[name], out / name)
        _analyze(open_run(out / name))
    page = _report([out / name for name, _ in _DEMO], out / "report.html", [t for _, t in _DEMO])
    if open_page:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


def sweep(
    recipe: Annotated[
        Positional[str], arg(help="A built-in name (see `onesided recipes`) or a .json file.")
    ],
    out: Path,
    steps: int | None = None,
    checkpoint_every: int | None = None,
    seeds: int | None = None,
    set: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(
            metavar="NAME=V1,V2",
            help="Values of a float hyperparameter, in every optimizer that has it; repeatable.",
        ),
    ] = (),
    width: int | None = None,
) -> None:
    """Train every optimizer x hyperparameters x seed of a recipe into a run directory.

    Example: onesided sweep mnist-dcgan --out runs/a --set primal_learning_rate=1e-4,2e-4 --seeds 5

    Args:
      out: The run directory: new, empty, or holding this very run (it is continued then).
      steps: Training steps, a multiple of the checkpoint cadence.
      checkpoint_every: Steps between checkpoints.
      seeds: How many seeds (0, 1, ...).
      width: Runs per dispatch; by default as many as fit in memory.
    """
    changed = _changed(_find_recipe(recipe), steps, checkpoint_every, seeds, set)
    if width is not None and width < 1:
        raise ValueError(f"width={width}: expected an integer >= 1")
    _sweep(changed, out, width)
    _console.print(f"Next: [bold]onesided analyze {out}[/]")


def resume(run: RunArgument) -> None:
    """Continue an interrupted run, bit for bit as if it had never stopped."""
    recipe = open_run(run).recipe
    if recipe is None:
        raise ValueError(f"{str(run)!r} was made in Python without a recipe: call sweep() again")
    _sweep(recipe, run)


def analyze(run: RunArgument) -> None:
    """Measure gradient norms and the one-sided MVI at every checkpoint, and give verdicts.

    Reads the run directory only; writes analysis.nc, verdict.json and CSV tables into it.
    """
    _analyze(open_run(run))
    _console.print(f"Next: [bold]onesided report {run}[/]")


def report(
    runs: Annotated[Positional[tuple[Path, ...]], arg(help="Run directories.", metavar="RUN")],
    out: Path | None = None,
) -> None:
    """Draw one self-contained HTML page (and every figure as SVG and PDF) of analysed runs.

    Args:
      out: The page; by default report.html in the first run directory.
    """
    if not runs:
        raise ValueError("report: expected at least one run directory")
    _report(list(runs), out or runs[0] / "report.html")


def sample(run: RunArgument, count: int = 64, seed: int = 0, out: Path | None = None) -> None:
    """Draw samples from every trained generator of a GAN run as PNG grids (points as CSV).

    Args:
      count: Samples per generator.
      seed: Seed of the latents.
      out: Folder; by default RUN/samples.
    """
    from onesided_jax.analysis import generate
    from onesided_jax.report import save_samples

    if count < 1:
        raise ValueError(f"count={count}: expected an integer >= 1")
    opened = open_run(run)
    folder = out or run / "samples"
    for label, run_index, step, samples in generate(opened, count=count, seed=seed):
        path = save_samples(samples, folder / f"{label}-run{run_index}-step{step}")
        _console.print(f"{label} run {run_index}, step {step}: {path}")


def recipes(name: Annotated[Positional[str | None], arg(help="Print this one as JSON.")] = None):
    """List the built-in recipes, or print one as JSON to edit and pass to `onesided sweep`."""
    if name is not None:
        sys.stdout.write(_find_recipe(name).to_json() + "\n")
        return
    table = Table("recipe", "game", "optimizers", "runs", "steps", "what")
    for recipe in RECIPES.values():
        table.add_row(
            recipe.name,
            recipe.game.options.get("dataset", recipe.game.name),
            ", ".join(spec.label or spec.name for spec in recipe.optimizers),
            str(_run_count(recipe)),
            str(recipe.steps),
            recipe.description,
        )
    _console.print(table)


def games():
    """List the analytic games: what is known of each, and which conditions hold."""
    from onesided_jax.games import GAMES

    table = Table("game", "one-sided MVI", "MVI", "monotone", "L_xx", "L_xy", "box", "what")
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
    _console.print(table)


def _summary(factory: Any) -> str:
    """First line of a docstring as plain text."""
    line = (inspect.getdoc(factory) or "").partition("\n")[0]
    return line.replace("`", "")


def main(arguments: list[str] | None = None) -> int:
    """The entry point; returns the exit code: 0 done, 2 bad input, 130 interrupted.

    Example:
      >>> from onesided_jax.cli import main
      >>> main(["analyze", "no/such/run"])
      2
    """
    commands = {
        f.__name__: f for f in (demo, sweep, resume, analyze, report, sample, recipes, games)
    }
    _use_compilation_cache()
    try:
        tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="onesided",
            description="Train, analyse and report sweeps of GANs and other min-max games.",
            args=arguments,
            config=(tyro.conf.OmitArgPrefixes,),
        )
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt:
        _errors.print("Interrupted. Every finished checkpoint is kept: `onesided resume RUN`.")
        return 130
    except _USAGE_ERRORS as error:
        if os.environ.get("ONESIDED_DEBUG"):
            raise
        _errors.print(f"[red]error:[/] {_escape(str(error))}", highlight=False, soft_wrap=True)
        return 2
    return 0


def _sweep(recipe: Recipe, out: Path, width: int | None = None) -> Run:
    from onesided_jax.sweeps import Progress as Chunk
    from onesided_jax.sweeps import run

    began, tasks = time.perf_counter(), {}
    with _progress() as progress:

        def on_chunk(label: str, chunk: Chunk) -> None:
            if label not in tasks:
                tasks[label] = progress.add_task(label, total=chunk.steps, note="")
            rate = chunk.runs * recipe.checkpoint_every / max(chunk.seconds, 1e-9)
            note = f"{rate:,.0f} run-steps/s" + (
                f", {chunk.diverged} of {chunk.runs} diverged" if chunk.diverged else ""
            )
            progress.update(tasks[label], completed=chunk.step, note=note)

        finished = run(
            recipe,
            out,
            on_chunk=on_chunk,
            on_damage=lambda message: progress.console.print(f"[yellow]{_escape(message)}[/]"),
            width=width,
        )
    table = Table("optimizer", "runs", "diverged", "primal |g|", "dual |g|", title=str(out))
    for label in finished.cells:
        last = finished.store(label).read(recipe.steps)
        table.add_row(
            label,
            str(len(last["diverged_at"])),
            str(int((last["diverged_at"] >= 0).sum())),
            _quartiles(last["metrics"]["gradient_norm_primal"][:, -1]),
            _quartiles(last["metrics"]["gradient_norm_dual"][:, -1]),
        )
    table.caption = (
        f"{_run_count(recipe)} runs x {recipe.steps} steps in {time.perf_counter() - began:.0f} s; "
        "last minibatch gradient norms, median \\[quartiles] over runs"
    )
    _console.print(table)
    return finished


def _analyze(run: Run) -> None:
    _need_extra("analysis", "xarray", "h5netcdf")
    from onesided_jax.analysis import analyze

    with _progress() as progress:
        tasks: dict[str, TaskID] = {}

        def tell(part: str, done: int, parts: int) -> None:
            if part not in tasks:
                tasks[part] = progress.add_task(part, total=parts, note="")
            progress.update(tasks[part], completed=done)

        found = analyze(run, on_progress=tell)
    for note in found.notes:
        _console.print(f"[yellow]{_escape(note)}[/]")
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for verdict in found.verdicts:
        row = counts.setdefault((verdict.claim, verdict.optimizer), {})
        row[str(verdict.holds)] = row.get(str(verdict.holds), 0) + 1
    table = Table(
        "claim", "optimizer", "holds", "does not", "inconclusive", title=f"{run.path}: verdicts"
    )
    for (claim, optimizer), row in counts.items():
        table.add_row(
            claim, optimizer, *(str(row.get(k, 0)) for k in ("True", "False", "inconclusive"))
        )
    table.caption = (
        "settings of the hyperparameters per verdict; each with its reason in verdict.json"
    )
    _console.print(table)


def _report(folders: list[Path], page: Path, titles: list[str] | None = None) -> Path:
    _need_extra("analysis", "xarray", "matplotlib", "jinja2")
    from onesided_jax.analysis import load_analysis
    from onesided_jax.report import Section, write_report

    sections = []
    for i, folder in enumerate(folders):
        run = open_run(folder)
        dataset, verdicts = load_analysis(run)
        title = (
            titles[i] if titles else str(run.manifest["recipe"]["name"] if run.recipe else folder)
        )
        manifest = {**run.manifest, "directory": str(folder), "seconds": _seconds(run)}
        sections.append(Section(title, dataset, verdicts, manifest))
    with _console.status("drawing figures"):
        write_report(sections, page, page.parent / "figures")
    _console.print(f"Report: [bold]{page}[/] (figures as SVG and PDF in {page.parent / 'figures'})")
    return page


def _seconds(run: Run) -> float:
    last = run.manifest["plan"]["steps"]
    stores = [run.store(cell) for cell in run.cells]
    return sum(store.info(last)["seconds"] for store in stores if last in store.steps())


def _find_recipe(name: str) -> Recipe:
    if name in RECIPES:
        return RECIPES[name]
    if name.endswith(".json") or Path(name).is_file():
        return Recipe.load(name)
    raise ValueError(
        f"recipe={name!r}: expected a .json file or one of {sorted(RECIPES)}"
        f"{nearest(name, RECIPES)}"
    )


def _changed(
    recipe: Recipe,
    steps: int | None,
    checkpoint_every: int | None,
    seeds: int | None,
    settings: tuple[str, ...],
) -> Recipe:
    """The recipe with the command line's changes; cadences follow a changed number of steps."""
    if seeds is not None and seeds < 1:
        raise ValueError(f"seeds={seeds}: expected an integer >= 1")
    new_steps = recipe.steps if steps is None else steps
    if checkpoint_every is None and steps is not None and steps >= 1:
        wanted = max(1, steps * recipe.checkpoint_every // recipe.steps)
        checkpoint_every = next(d for d in range(wanted, 0, -1) if steps % d == 0)
    every = recipe.checkpoint_every if checkpoint_every is None else checkpoint_every
    optimizers = recipe.optimizers
    for setting in settings:
        name, values = _parse_setting(setting)
        if not any(name in hyperparameters_of(spec.name)[0] for spec in optimizers):
            known = sorted({n for spec in optimizers for n in hyperparameters_of(spec.name)[0]})
            raise ValueError(
                f"--set {setting}: {name!r} is no float hyperparameter of this recipe's "
                f"optimizers, expected one of {known}{nearest(name, known)}"
            )
        optimizers = tuple(
            dataclasses.replace(spec, axes={**spec.axes, name: values})
            if name in hyperparameters_of(spec.name)[0]
            else spec
            for spec in optimizers
        )
    return dataclasses.replace(
        recipe,
        steps=new_steps,
        checkpoint_every=every,
        record_every=math.gcd(recipe.record_every, every) if every >= 1 else recipe.record_every,
        seeds=recipe.seeds if seeds is None else tuple(range(seeds)),
        optimizers=optimizers,
    )


def _parse_setting(setting: str) -> tuple[str, tuple[float, ...]]:
    name, equals, text = setting.partition("=")
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not equals or not values:
        raise ValueError(f"--set {setting}: expected NAME=V1,V2 with numbers, e.g. b2=0.9,0.99")
    return name.strip(), values


def _run_count(recipe: Recipe) -> int:
    per_seed = sum(math.prod(len(v) for v in spec.axes.values()) for spec in recipe.optimizers)
    return per_seed * len(recipe.seeds)


def _quartiles(values: Any) -> str:
    import numpy as np

    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return "-"
    low, middle, high = np.quantile(finite, [0.25, 0.5, 0.75])
    return f"{middle:.3g}" if finite.size == 1 else f"{middle:.3g} [{low:.3g}, {high:.3g}]"


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=_console) as progress:
        yield progress


def _need_extra(extra: str, *modules: str) -> None:
    import importlib.util

    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"{', '.join(missing)} missing: pip install 'onesided-jax[{extra}]'")


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


def _use_compilation_cache() -> None:
    """Compiled programs are kept between commands, unless the user already says where."""
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is None:
        base = os.environ.get("ONESIDED_CACHE") or os.environ.get("XDG_CACHE_HOME")
        folder = Path(base) if base else Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(folder / "onesided_jax" / "xla"))


if __name__ == "__main__":
    sys.exit(main())
