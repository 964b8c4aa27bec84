"""The command line: the only place that prints."""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape
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

from onesided_jax import configure_cpu, processes
from onesided_jax._arguments import changed, find_recipe, run_count, with_data
from onesided_jax.runs import (
    RECIPES,
    DamagedCheckpointError,
    Recipe,
    Run,
    WriteError,
    open_run,
)
from onesided_jax.runs._words import DISK_ERRORS, errno_of, write_json_atomically
from onesided_jax.runs.checkpoints import without_tracebacks

__all__ = ["main"]

_DEMO = (("carousel", "A game whose answer is known: the carousel"), ("demo", "MNIST digits"))
_INPUT_ERRORS = (ValueError, TypeError, ImportError, OSError)

_console = Console()
_errors = Console(stderr=True)

RunArgument = Annotated[Positional[Path], arg(help="A run directory.", metavar="RUN")]


def demo(out: Path = Path("demo"), open_page: bool = False) -> None:
    """Train, analyse and show the two demonstrations; about ten minutes on two cores.

    The carousel (a game whose answer is known) and a DCGAN on MNIST digits, under adam, amsgrad_eg
    and its x-only form. Ends with OUT/report.html. Interrupted, it continues where it was.

    Args:
      out: Folder for the runs and the page.
      open_page: Open the page in a browser at the end.
    """
    again = shlex.join(["onesided", "demo", "--out", str(out)])
    for name, _ in _DEMO:
        _sweep(RECIPES[name], out / name, again=again)
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
    devices: int | None = None,
    data_dir: Path | None = None,
    distributed: bool = False,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    connect_timeout: float = 300.0,
) -> None:
    """Train every optimizer x hyperparameters x seed of a recipe into a run directory.

    Example: onesided sweep mnist-dcgan --out runs/a --set primal_learning_rate=1e-4,2e-4 --seeds 5

    Args:
      out: The run directory: new, empty, or holding this very run (it is continued then).
      steps: Training steps, a multiple of the checkpoint cadence.
      checkpoint_every: Steps between checkpoints.
      seeds: How many seeds (0, 1, ...).
      width: Runs at a time on each device; by default as many as fit in memory or, in a sweep of
        minutes, the fastest of a few that are timed first. Bits depend on it, so it is recorded.
      devices: How many devices (on a CPU: cores) to use; by default all. No bit depends on it.
      data_dir: Directory with the official files of mnist, fashion_mnist or cifar10; recorded in
        the run. By default $ONESIDED_DATA is searched, and what is missing is downloaded.
      distributed: This is one of several processes of the same command, as Slurm, GKE, Open MPI or
        a TPU pod start them, which also tell it the following; OUT is a folder that all share.
      coordinator: HOST:PORT of process 0, to start processes by hand.
      num_processes: How many processes.
      process_id: Which one this is: 0, 1, ...
      connect_timeout: Seconds to wait for the other processes.
    """
    wanted = changed(find_recipe(recipe), steps, checkpoint_every, seeds, set)
    if data_dir is not None:
        wanted = with_data(wanted, data_dir)
    if width is not None and width < 1:
        raise ValueError(f"width={width}: expected an integer >= 1")
    _connect(distributed, coordinator, num_processes, process_id, connect_timeout)
    _sweep(wanted, out, width, _devices(devices))
    _console.print(f"Next: [bold]{_command('analyze', out)}[/]", soft_wrap=True)


def resume(
    run: RunArgument,
    devices: int | None = None,
    distributed: bool = False,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    connect_timeout: float = 300.0,
) -> None:
    """Continue an interrupted run, bit for bit as if it had never stopped.

    On any number of devices and processes, whatever it was begun on.

    Args:
      devices: How many devices (on a CPU: cores) to use; by default all.
      distributed: This is one of several processes of the same command, as Slurm, GKE, Open MPI or
        a TPU pod start them, which also tell it the following; OUT is a folder that all share.
      coordinator: HOST:PORT of process 0, to start processes by hand.
      num_processes: How many processes.
      process_id: Which one this is: 0, 1, ...
      connect_timeout: Seconds to wait for the other processes.
    """
    recipe = open_run(run).recipe
    if recipe is None:
        raise ValueError(f"{str(run)!r} was made in Python without a recipe: call sweep() again")
    _connect(distributed, coordinator, num_processes, process_id, connect_timeout)
    _sweep(recipe, run, devices=_devices(devices))


def analyze(run: RunArgument, quality: bool = True, inception: Path | None = None) -> None:
    """Measure gradient norms and the one-sided MVI at every checkpoint, and give verdicts.

    Reads the run directory only (and the data set, for the quality of a GAN's samples); writes
    analysis.nc, verdict.json and CSV tables into it.

    Args:
      quality: Measure the samples of a GAN, and let only runs that pass the quality gate count as
        trained.
      inception: TorchScript file of the Inception network (inception-2015-12-05.pt), for the
        standard FID besides; needs torch.
    """
    _analyze(open_run(run), quality, inception)
    _console.print(f"Next: [bold]{_command('report', run)}[/]", soft_wrap=True)


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
        _console.print(f"{label} run {run_index}, step {step}: {escape(str(path))}")


def recipes(name: Annotated[Positional[str | None], arg(help="Print this one as JSON.")] = None):
    """List the built-in recipes, or print one as JSON to edit and pass to `onesided sweep`."""
    if name is not None:
        sys.stdout.write(find_recipe(name).to_json() + "\n")
        return
    table = Table("recipe", "game", "optimizers", "runs", "steps", "what")
    for recipe in RECIPES.values():
        table.add_row(
            recipe.name,
            recipe.game.options.get("dataset", recipe.game.name),
            ", ".join(spec.label or spec.name for spec in recipe.optimizers),
            str(run_count(recipe)),
            str(recipe.steps),
            recipe.description,
        )
    _console.print(table)


def compile(
    recipe: Annotated[
        Positional[str], arg(help="A built-in name (see `onesided recipes`) or a .json file.")
    ],
    topology: str = "v5e:1x1",
    runs: int | None = None,
    width: int | None = None,
    largest: bool = True,
    scaling: bool = False,
    json: Path | None = None,
) -> None:
    """Compile a recipe for a TPU, without one: does it fit, what does it move. Needs the extra tpu.

    Example: onesided compile ring --topology v5e:2x2 --runs 4096

    Args:
      topology: Chip and grid: v5e:1x1 (a Colab TPU), v5e:2x2, v6e:16x16, v5p:2x2x1, ...
      runs: Runs of each optimizer; by default the recipe's.
      width: Runs at a time on each chip; by default planned as a sweep does.
      largest: Look for the most runs that fit on one chip, too; a few compilations more.
      scaling: Instead, compile one program for 1, 4, 16, 64 and 256 chips with WIDTH runs on each.
      json: File for the same in machine-readable form.
    """
    import jax

    from onesided_jax.sweeps import CompiledCell, compile_for, weak_scaling

    wanted = find_recipe(recipe)
    if scaling and runs is not None:
        raise ValueError(f"--runs {runs}: with --scaling expected --width, the runs on each chip")
    with contextlib.suppress(RuntimeError):  # JAX has been computing: called from a program
        jax.config.update("jax_platforms", "cpu")  # no other device is needed, nor waited for
    with _console.status("compiling") as status:

        def tell(found: CompiledCell) -> None:
            status.update(f"compiling; {found.cell} on {found.topology}: {found.seconds:.0f} s")

        if scaling:
            found = weak_scaling(wanted, topology, width=width, on_cell=tell)
        else:
            options: dict[str, Any] = {"runs": runs, "width": width, "largest": largest}
            found = compile_for(wanted, topology, **options, on_cell=tell)
    if json is not None:
        write_json_atomically(json, [cell._asdict() for cell in found])
    _console.print(_compiled_table(found))


def _compiled_table(found: Sequence[Any]) -> Table:
    columns = ("optimizer", "chips", "runs", "MB", "most runs", "MFLOP", "MB moved", "sent", "s")
    chip = found[0].topology.partition(":")[0]
    table = Table(*columns, title=f"Compiled for {chip}, {found[0].memory / 1e6:,.0f} MB a chip")
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
        "runs, their MB, and the most that fit: on each chip at a time. MFLOP and MB moved: by one "
        "step of one run. Sent: operations between chips. s: to compile"
    )
    return table


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
    """The entry point; returns the exit code.

    0: done. 1: failed for want of disk, memory or another process; 2: bad input, nothing was done;
    128 + n: ended by signal n (130 by Ctrl-C, 143 by SIGTERM). After 1 and 128 + n the message says
    how to go on.

    Example:
      >>> from onesided_jax.cli import main
      >>> main(["analyze", "no/such/run"])
      2
    """
    from onesided_jax.sweeps.interrupt import Interrupted, interruptible
    from onesided_jax.sweeps.memory import is_out_of_memory

    commands = {
        f.__name__: f
        for f in (demo, sweep, resume, analyze, report, sample, compile, recipes, games)
    }
    _use_compilation_cache()
    with contextlib.suppress(RuntimeError):  # JAX has been computing: called from a program
        configure_cpu()
    try:
        with without_tracebacks(), interruptible():
            tyro.extras.subcommand_cli_from_dict(
                commands,
                prog="onesided",
                description="Train, analyse and report sweeps of GANs and other min-max games.",
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt as error:
        number = error.signal if isinstance(error, Interrupted) else int(signal.SIGINT)
        again = shlex.join(["onesided", *(sys.argv[1:] if arguments is None else arguments)])
        _say(f"Ended by {signal.Signals(number).name}.")
        _say("\n".join(getattr(error, "__notes__", [f"To do it again: {again}"])))
        return 128 + number
    except Exception as error:
        lost = isinstance(error, processes.LostProcessError)
        known = lost or isinstance(error, _INPUT_ERRORS) or is_out_of_memory(error)
        if not known or os.environ.get("ONESIDED_DEBUG"):
            raise
        _say(f"error: {str(error) or type(error).__name__}", "red")
        for note in getattr(error, "__notes__", []):
            _say(note)
        on_disk = isinstance(error, WriteError) or errno_of(error) in DISK_ERRORS
        code = 1 if lost or on_disk or is_out_of_memory(error) else 2
        if lost or isinstance(error, processes.NotJoinedError):
            os._exit(code)  # an orderly end would wait for the processes that are not there
        return code
    return 0


def _say(text: str, style: str | None = None) -> None:
    """One message on standard error, whatever characters it is made of."""
    _errors.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _command(name: str, path: Path) -> str:
    """A command to copy, safe for a shell and for rich."""
    return escape(shlex.join(["onesided", name, str(path)]))


def _connect(
    distributed: bool,
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    timeout: float,
) -> None:
    """Joins the other processes, if there are to be any; the first alone talks then."""
    by_hand = (coordinator, num_processes, process_id)
    if not distributed and by_hand == (None, None, None):
        return
    if timeout <= 0:
        raise ValueError(f"connect_timeout={timeout}: expected seconds, more than 0")
    with _errors.status("waiting for the other processes"):
        processes.connect(*by_hand, timeout=timeout)
    _console.quiet = not processes.is_first()


def _devices(count: int | None) -> list[Any] | None:
    """The first so many devices."""
    import jax

    if count is None:
        return None
    there = jax.local_devices()
    if not 1 <= count <= len(there):
        raise ValueError(f"devices={count}: expected 1 to {len(there)}, what this process has")
    return there[:count]


def _sweep(
    recipe: Recipe,
    out: Path,
    width: int | None = None,
    devices: list[Any] | None = None,
    again: str | None = None,
) -> Run:
    from onesided_jax.sweeps import Progress as Chunk
    from onesided_jax.sweeps import run
    from onesided_jax.sweeps.interrupt import Interrupted, stopping

    began, tasks = time.perf_counter(), {}
    go_on = f"To go on: {again or shlex.join(['onesided', 'resume', str(out)])}"

    def on_signal(number: int, now: bool) -> None:
        if now:
            _say(f"Ended. {go_on}")
            _console.show_cursor()
        else:
            name = signal.Signals(number).name
            _say(f"{name}: stopping after this chunk, which is saved. Again to stop at once.")

    with stopping(on_signal) as stop, _progress() as progress:

        def on_chunk(label: str, chunk: Chunk) -> None:
            if label not in tasks:
                tasks[label] = progress.add_task(label, total=chunk.steps, note="")
            rate = chunk.runs * recipe.checkpoint_every / max(chunk.seconds, 1e-9)
            note = f"{rate:,.0f} run-steps/s" + (
                f", {chunk.diverged} of {chunk.runs} diverged" if chunk.diverged else ""
            )
            progress.update(tasks[label], completed=chunk.step, note=note)

        try:
            finished = run(
                recipe,
                out,
                on_chunk=on_chunk,
                on_damage=lambda message: progress.console.print(
                    f"[yellow]{escape(message)}[/]", soft_wrap=True
                ),
                width=width,
                devices=devices,
                stop=stop,
            )
        except (WriteError, MemoryError, processes.LostProcessError) as error:
            error.add_note(f"What was saved before is whole. {go_on}")
            raise
    if number := processes.highest(stop()):
        ended = Interrupted(number)
        ended.add_note(f"{_saved(finished)} {go_on}")
        raise ended
    if _console.quiet:
        return finished
    columns = ("optimizer", "runs", "diverged", "primal |g|", "dual |g|")
    table = Table(*columns, title=escape(str(out)))
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
        f"{run_count(recipe)} runs x {recipe.steps} steps in {time.perf_counter() - began:.0f} s; "
        "last minibatch gradient norms, median \\[quartiles] over runs"
    )
    _console.print(table)
    return finished


def _saved(run: Run) -> str:
    """How far every cell has come."""
    steps = run.manifest["plan"]["steps"]
    done = {cell: max(run.store(cell).steps(), default=None) for cell in run.cells}
    parts = [f"{cell} to step {step}" for cell, step in done.items() if step is not None]
    return f"Saved: {', '.join(parts) or 'nothing yet'}, of {steps}."


def _analyze(run: Run, quality: bool = True, inception: Path | None = None) -> None:
    _need_extra("analysis", "xarray", "h5netcdf")
    from onesided_jax.analysis import analyze

    with _progress() as progress:
        tasks: dict[str, TaskID] = {}

        def tell(part: str, done: int, parts: int) -> None:
            if part not in tasks:
                tasks[part] = progress.add_task(part, total=parts, note="")
            progress.update(tasks[part], completed=done)

        try:
            found = analyze(run, quality=quality, inception=inception, on_progress=tell)
        except ValueError as error:
            last = run.manifest["plan"]["steps"]
            if not all(run.store(cell).holds(last) for cell in run.cells):
                command = shlex.join(["onesided", "resume", str(run.path)])
                error.add_note(f"The run is not complete. To complete it: {command}")
            raise
    for note in [*([run.damage] if run.damage else []), *found.notes]:
        _console.print(f"[yellow]{escape(note)}[/]", soft_wrap=True)
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for verdict in found.verdicts:
        row = counts.setdefault((verdict.claim, verdict.optimizer), {})
        row[str(verdict.holds)] = row.get(str(verdict.holds), 0) + 1
    table = Table(
        "claim",
        "optimizer",
        "holds",
        "does not",
        "inconclusive",
        title=f"{escape(str(run.path))}: verdicts",
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
    figures = escape(str(page.parent / "figures"))
    _console.print(f"Report: [bold]{escape(str(page))}[/] (figures as SVG and PDF in {figures})")
    return page


def _seconds(run: Run) -> float:
    """Seconds of training; what a damaged checkpoint would have told is left out."""
    last, seconds = run.manifest["plan"]["steps"], 0.0
    for store in map(run.store, run.cells):
        with contextlib.suppress(DamagedCheckpointError):
            seconds += store.info(last)["seconds"]
    return seconds


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


def _use_compilation_cache() -> None:
    """Compiled programs are kept between commands, unless the user already says where."""
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is None:
        base = os.environ.get("ONESIDED_CACHE") or os.environ.get("XDG_CACHE_HOME")
        folder = Path(base) if base else Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(folder / "onesided_jax" / "xla"))


if __name__ == "__main__":
    sys.exit(main())
