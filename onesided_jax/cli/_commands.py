"""The commands, with their options and help texts."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated, NamedTuple

from rich.markup import escape
from tyro.conf import Positional, UseAppendAction, arg

from onesided_jax.cli._catalog import compile, games, recipes
from onesided_jax.cli._console import command, console, warn
from onesided_jax.cli._counts import Count, OptionalCount
from onesided_jax.extras import need

__all__ = ["COMMANDS"]

_DEMO = (
    ("carousel", "demo-carousel", "The carousel, a game with a known answer"),
    ("digits", "demo", "MNIST digits"),
)

RunArgument = Annotated[Positional[Path], arg(help="A run directory.", metavar="RUN")]
LogArgument = Annotated[
    UseAppendAction[tuple[str, ...]],
    arg(
        metavar="tensorboard:DIR|wandb:PROJECT|jsonl:FILE",
        help="Log every run during training.",
    ),
]
DataArgument = Annotated[Path | None, arg(metavar="FILE|FOLDER")]


class Processes(NamedTuple):
    """Options of a command that several processes share.

    Attributes:
      distributed: This is one of several processes that run the same command. Slurm, GKE, Open MPI
        and TPU pods set the options below. OUT must be a folder that all processes share.
      coordinator: HOST:PORT of process 0, if you start the processes by hand.
      num_processes: Number of processes.
      process_id: Number of this process: 0, 1, ...
      connect_timeout: Seconds to wait for the other processes.
    """

    distributed: bool = False
    coordinator: str | None = None
    num_processes: OptionalCount = None
    process_id: OptionalCount = None
    connect_timeout: float = 300.0


def demo(out: Path = Path("demo"), open_page: bool = False) -> None:
    """Train, analyse and show two examples.

    The first is the carousel, a game with a known answer. The second is a small DCGAN on MNIST
    digits. Writes OUT/report.html. If it is interrupted, repeat the command to continue.

    Args:
      out: Folder for the runs and the page.
      open_page: Open the page in a browser at the end.
    """
    from onesided_jax.cli._work import analyze_run, draw_report, train_recipe
    from onesided_jax.runs import RECIPES, open_run

    packages = ("scipy", "xarray", "h5netcdf", "matplotlib", "jinja2")
    need("analysis", "onesided demo", *packages)  # before any training
    again = shlex.join(["onesided", "demo", "--out", str(out)])
    for folder, recipe, _ in _DEMO:
        train_recipe(RECIPES[recipe], out / folder, again=again)
        analyze_run(open_run(out / folder))
    folders, titles = [out / folder for folder, _, _ in _DEMO], [title for *_, title in _DEMO]
    page = draw_report(folders, out / "report.html", titles)
    if open_page:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


def sweep(
    recipe: Annotated[
        Positional[str], arg(help="A built-in name (see `onesided recipes`) or a .json file.")
    ],
    out: Path,
    processes: Processes,
    steps: OptionalCount = None,
    checkpoint_every: OptionalCount = None,
    seeds: Annotated[str | None, arg(metavar="N|FIRST:END")] = None,
    set: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(
            metavar="NAME=V1,V2",
            help="Values of a float hyperparameter, in every optimizer that has it.",
        ),
    ] = (),
    ema: float | None = None,
    log: LogArgument = (),
    width: OptionalCount = None,
    devices: OptionalCount = None,
    data_dir: Path | None = None,
) -> None:
    """Train every optimizer x hyperparameters x seed of a recipe into a run directory.

    Example: onesided sweep mnist-dcgan --out runs/a --set primal_learning_rate=1e-4,2e-4 --seeds 5

    Args:
      out: The run directory: new or empty, or one with the same recipe, which is continued.
      steps: Training steps, a multiple of the checkpoint cadence.
      checkpoint_every: Steps between checkpoints.
      seeds: Number of seeds (0, 1, ...), or FIRST:END without END, such as 5:10.
      ema: Decay of a moving average of the generators, such as 0.999; samples come from it.
      width: Runs at a time on each device. By default as many as fit in memory, and on a CPU as
        suit its caches. Rounding depends on it, so the run records it.
      devices: Number of devices (on a CPU: cores) to use; by default all.
      data_dir: Folder of your images, or of the official files of mnist, fashion_mnist or cifar10;
        recorded in the run. By default, official files are taken from $ONESIDED_DATA or downloaded.
      processes: Options for several processes that share the work.
    """
    from onesided_jax.cli import _arguments as arguments
    from onesided_jax.cli._work import connect, first_devices, train_recipe
    from onesided_jax.runs import out_of_reach, place_data
    from onesided_jax.sweeps.live import as_loggers

    wanted = arguments.find_recipe(recipe)
    wanted = arguments.changed(wanted, steps, checkpoint_every, seeds, set)
    if ema is not None:
        wanted = dataclasses.replace(wanted, ema=ema)
    if data_dir is not None:
        wanted = place_data(wanted, data_dir)
    if width is not None and width < 1:
        raise ValueError(f"width={width}: expected an integer >= 1")
    loggers = as_loggers(log)
    connect(processes)
    for sentence in out_of_reach(wanted):
        warn(sentence)
    train_recipe(wanted, out, width, first_devices(devices), loggers=loggers)
    console.print(f"Next: [bold]{command('analyze', out)}[/]", soft_wrap=True)


def resume(
    run: RunArgument,
    processes: Processes,
    steps: OptionalCount = None,
    log: LogArgument = (),
    devices: OptionalCount = None,
    data: DataArgument = None,
) -> None:
    """Continue an interrupted run, bit for bit as if never stopped, or train a finished one longer.

    The number of devices and processes may differ from that of the first session.

    Args:
      steps: Total steps, to train longer than the recipe says.
      devices: Number of devices (on a CPU: cores) to use; by default all.
      data: New location of the run's data, if they have moved.
      processes: Options for several processes that share the work.
    """
    from onesided_jax.cli._work import connect, first_devices, train_recipe
    from onesided_jax.runs import open_run
    from onesided_jax.runs.recipe import lengthened
    from onesided_jax.sweeps.live import as_loggers

    recipe = open_run(run, data=data).recipe
    if recipe is None:
        raise ValueError(f"{str(run)!r} was made in Python without a recipe: call sweep() again")
    recipe = lengthened(recipe, steps)
    loggers = as_loggers(log)
    connect(processes)
    train_recipe(recipe, run, devices=first_devices(devices), loggers=loggers)


def join(
    runs: Annotated[
        Positional[tuple[Path, ...]], arg(help="Finished run directories.", metavar="RUN")
    ],
    out: Path,
) -> None:
    """Write several finished runs into one new run directory: more seeds, settings or optimizers.

    Example: onesided join runs/a runs/b --out runs/ab

    The runs may differ in seeds, in values of hyperparameters and in optimizers, in nothing else.
    The option --seeds 5:10 of `onesided sweep` trains seeds 5 to 9.

    Args:
      out: The new run directory. The others are only read.
    """
    from onesided_jax.runs import join as join_runs

    joined = join_runs(runs, out, on_damage=warn)
    rows = sum(len(joined.seeds(cell)) for cell in joined.cells)
    console.print(f"{rows} runs of {', '.join(joined.cells)}: {escape(str(out))}", soft_wrap=True)
    console.print(f"Next: [bold]{command('analyze', out)}[/]", soft_wrap=True)


def analyze(
    run: RunArgument,
    quality: bool = True,
    inception: Path | None = None,
    data: DataArgument = None,
) -> None:
    """Measure gradient norms and the one-sided MVI at every checkpoint, and give verdicts.

    Reads the run directory, and the data set if it measures the quality of a GAN's samples. Writes
    analysis.nc, verdict.json and CSV tables into the run directory.

    Args:
      quality: Measure the samples of a GAN, and count the runs that pass the quality gate.
      inception: TorchScript file of the Inception network (inception-2015-12-05.pt), to compute the
        standard FID as well; needs torch.
      data: New location of the run's data, if they have moved.
    """
    from onesided_jax.cli._work import analyze_run
    from onesided_jax.runs import open_run

    analyze_run(open_run(run, data=data), quality, inception)
    console.print(f"Next: [bold]{command('report', run)}[/]", soft_wrap=True)


def report(
    runs: Annotated[Positional[tuple[Path, ...]], arg(help="Run directories.", metavar="RUN")],
    out: Path | None = None,
) -> None:
    """Draw one self-contained HTML page (and every figure as SVG and PDF) of analysed runs.

    Args:
      out: The page; by default report.html in the first run directory.
    """
    from onesided_jax.cli._work import draw_report

    if not runs:
        raise ValueError("report: expected at least one run directory")
    draw_report(list(runs), out or runs[0] / "report.html")


def sample(
    run: RunArgument,
    count: Count = 64,
    seed: Count = 0,
    label: Annotated[OptionalCount, arg(name="class")] = None,
    out: Path | None = None,
    raw: bool = False,
    data: DataArgument = None,
) -> None:
    """Draw samples from every trained generator of a GAN run as PNG grids (points as CSV).

    The grid of a conditional GAN has one row per class, unless --class selects one.

    Args:
      count: Samples per generator. A conditional GAN draws the same number per class, at least one.
      label: The class to draw (conditional GANs only).
      seed: Seed of the latents.
      out: Folder; by default RUN/samples.
      raw: Sample the last iterates instead of the moving averages of a run with --ema.
      data: New location of the data; only needed for runs of version 0.1.
    """
    from onesided_jax.analysis import generate
    from onesided_jax.report import save_samples
    from onesided_jax.runs import open_run

    if count < 1:
        raise ValueError(f"count={count}: expected an integer >= 1")
    opened = open_run(run, data=data)
    folder = out or run / "samples"
    classes = opened.recipe.game.options.get("classes") if opened.recipe else None
    columns = max(count // classes, 1) if classes and label is None else None
    count = classes * columns if columns else count
    ending = "" if label is None else f"-class{label}"
    drawn = generate(opened, count=count, seed=seed, label=label, raw=raw)
    for cell, index, step, samples in drawn:
        stem = folder / f"{cell}-run{index}-step{step}{ending}"
        path = save_samples(samples, stem, columns)
        console.print(f"{cell} run {index}, step {step}: {escape(str(path))}")


def export(
    run: RunArgument,
    cell: str | None = None,
    index: Count = 0,
    out: Path | None = None,
    raw: bool = False,
) -> None:
    """Write a trained generator as a program (jax.export, any batch size) and its params (npz).

    Args:
      cell: Label of the optimizer; by default the first.
      index: Number of the run among the optimizer's runs, from 0.
      out: Folder; by default RUN/export.
      raw: Export the last iterate instead of the moving average of a run with --ema.
    """
    from onesided_jax.analysis import export_generator
    from onesided_jax.runs import open_run

    found = export_generator(open_run(run), out or run / "export", cell=cell, index=index, raw=raw)
    console.print(f"step {found.step}: {escape(str(found.program))}, {escape(str(found.params))}")


COMMANDS = {
    f.__name__: f
    for f in (demo, sweep, resume, join, analyze, report, sample, export, compile, recipes, games)
}
