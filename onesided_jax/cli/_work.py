"""The work behind the commands, with its progress bars and tables."""

from __future__ import annotations

import contextlib
import shlex
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.progress import TaskID
from rich.table import Table

from onesided_jax import processes
from onesided_jax.cli._arguments import run_count
from onesided_jax.cli._console import console, errors, progress_bars, say, warn
from onesided_jax.cli._interrupt import Interrupted, stopping
from onesided_jax.runs import DamagedCheckpointError, Recipe, Run, WriteError, open_run

if TYPE_CHECKING:
    from onesided_jax.cli._commands import Processes

__all__ = ["analyze_run", "connect", "draw_report", "first_devices", "train_recipe"]


def connect(wanted: Processes) -> None:
    """Joins the other processes, if requested; then only the first process prints."""
    by_hand = (wanted.coordinator, wanted.num_processes, wanted.process_id)
    if not wanted.distributed and by_hand == (None, None, None):
        return
    if wanted.connect_timeout <= 0:
        raise ValueError(f"connect_timeout={wanted.connect_timeout}: expected seconds above 0")
    with errors.status("waiting for the other processes"):
        processes.connect(*by_hand, timeout=wanted.connect_timeout)
    console.quiet = not processes.is_first()


def first_devices(count: int | None) -> list[Any] | None:
    """The first ``count`` devices; ``None`` for all."""
    import jax

    if count is None:
        return None
    local = jax.local_devices()
    if not 1 <= count <= len(local):
        raise ValueError(
            f"devices={count}: expected 1 to {len(local)}, the devices of this process"
        )
    return local[:count]


def train_recipe(
    recipe: Recipe,
    out: Path,
    width: int | None = None,
    devices: list[Any] | None = None,
    again: str | None = None,
    loggers: Any = (),
) -> Run:
    """Trains or continues a recipe, and prints a summary; ``again`` is the command to continue."""
    from onesided_jax.sweeps import Progress as Chunk
    from onesided_jax.sweeps import run

    began, tasks = time.perf_counter(), {}
    go_on = f"To continue: {again or shlex.join(['onesided', 'resume', str(out)])}"

    def on_signal(number: int, now: bool) -> None:
        if now:
            say(f"Ended. {go_on}")
            console.show_cursor()
        else:
            name = signal.Signals(number).name
            say(f"{name}: stopping after this chunk is saved. Repeat the signal to stop at once.")

    with stopping(on_signal) as stop, progress_bars() as progress:

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
                on_damage=warn,
                loggers=loggers,
                width=width,
                devices=devices,
                stop=stop,
            )
        except (WriteError, MemoryError, processes.LostProcessError) as error:
            error.add_note(f"Earlier checkpoints are intact. {go_on}")
            raise
    if number := processes.highest(stop()):
        ended = Interrupted(number)
        ended.add_note(f"{_saved(finished)} {go_on}")
        raise ended
    if not console.quiet:
        console.print(_summary(finished, recipe, out, time.perf_counter() - began))
    return finished


def _summary(run: Run, recipe: Recipe, out: Path, seconds: float) -> Table:
    """A line per optimizer: its runs, how many diverged, and its last gradient norms."""
    columns = ("optimizer", "runs", "diverged", "primal |g|", "dual |g|")
    table = Table(*columns, title=escape(str(out)))
    for label in run.cells:
        last = run.store(label).read(recipe.steps)
        table.add_row(
            label,
            str(len(last["diverged_at"])),
            str(int((last["diverged_at"] >= 0).sum())),
            _quartiles(last["metrics"]["gradient_norm_primal"][:, -1]),
            _quartiles(last["metrics"]["gradient_norm_dual"][:, -1]),
        )
    table.caption = (
        f"{run_count(recipe)} runs x {recipe.steps} steps in {seconds:.0f} s; "
        "last minibatch gradient norms, median \\[quartiles] over runs"
    )
    return table


def _saved(run: Run) -> str:
    """The last saved step of every cell, in one sentence."""
    steps = run.manifest["plan"]["steps"]
    done = {cell: max(run.store(cell).steps(), default=None) for cell in run.cells}
    parts = [f"{cell} to step {step}" for cell, step in done.items() if step is not None]
    return f"Saved: {', '.join(parts) or 'nothing yet'}, of {steps}."


def analyze_run(run: Run, quality: bool = True, inception: Path | None = None) -> None:
    """Analyses a run and prints its verdicts."""
    from onesided_jax.analysis import analyze
    from onesided_jax.cli._tables import explanations, verdict_table

    with progress_bars() as progress:
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
    for note in found.notes:
        warn(note)
    console.print(verdict_table(found, f"{run.path}: verdicts"))
    *legend, details = explanations(found, run.path / "verdict.json")
    console.print(escape("\n".join(legend)), highlight=False)
    console.print(escape(details), highlight=False, soft_wrap=True)


def draw_report(folders: list[Path], page: Path, titles: list[str] | None = None) -> Path:
    """Draws the page of analysed runs, one section per run."""
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
        sections.append(Section(title, dataset, verdicts, manifest, _gone_on(run, dataset)))
    with console.status("drawing figures"):
        write_report(sections, page, page.parent / "figures")
    figures = escape(str(page.parent / "figures"))
    console.print(f"Report: [bold]{escape(str(page))}[/] (figures as SVG and PDF in {figures})")
    return page


def _gone_on(run: Run, dataset: Any) -> tuple[str, ...]:
    """One sentence, also printed, if there are checkpoints newer than the analysis."""
    for cell in run.cells if "last_step" in dataset else ():
        seen, store = int(dataset["last_step"].sel(optimizer=cell)), run.store(cell)
        newest = max((s for s in store.steps() if s > seen and store.holds(s)), default=seen)
        if newest > seen:
            again = shlex.join(["onesided", "analyze", str(run.path)])
            note = (
                f"{cell}: the analysis ends at step {seen:,}, but the run has continued to "
                f"{newest:,}; analyze it again: {again}"
            )
            warn(note)
            return (note,)
    return ()


def _seconds(run: Run) -> float:
    """Seconds of training, without cells whose last checkpoint is damaged."""
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
