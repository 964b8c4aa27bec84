"""All results of a folder as one Markdown table and one figure."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

MET, MISSED, UNJUDGED = "#0072b2", "#d55e00", "#8c959f"  # Okabe and Ito, and a grey
INK = "#24292f"


def load(folder: Path, suites: Sequence[str]) -> list[dict[str, Any]]:
    """The existing results, in the order of ``suites``."""
    paths = [folder / f"{suite}.json" for suite in suites]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def write(folder: Path, suites: Sequence[str]) -> list[Path]:
    """Writes the table (``README.md``, ``benchmarks.csv``) and the figures of ``folder``."""
    import matplotlib as mpl

    results = load(folder, suites)
    table, rows = folder / "README.md", folder / "benchmarks.csv"
    table.write_text(markdown(results))
    with rows.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["what", "against", "ratio", "goal", "met"])
        writer.writerows(cells(row) for result in results for row in result["rows"])
    written = [table, rows]
    figures = {"benchmarks.svg": draw(results), "scaling.svg": draw_scaling(results)}
    for name, figure in figures.items():
        if figure is not None:
            with mpl.rc_context({"svg.hashsalt": name}):  # equal figures give equal bytes
                figure.savefig(folder / name, metadata={"Date": None})
            written.append(folder / name)
    return written


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table."""
    low, high = row["quartiles"]
    ratio = f"{number(row['ratio'])} [{number(low)}, {number(high)}]"
    verdict = {True: "yes", False: "no", None: ""}[row["met"]]
    return [row["what"], row["against"], ratio, goal_text(row), verdict]


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """The table of all rows, and the machines they were measured on."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `python -m benchmarks`. A ratio is the median over interleaved rounds, with",
        "its quartiles. Compilation and warm-up are timed separately. The JSON files have details.",
        "",
    ]
    if any(result["scale"] == "small" for result in results):
        lines += ["Results of `--scale small` show that the harness runs; goals do not apply.", ""]
    lines += ["| suite | what | against | ratio | goal | met |", "|---|---|---|---|---|---|"]
    for result in results:
        for row in result["rows"]:
            suite = result["suite"] + (" (small)" if result["scale"] == "small" else "")
            lines.append(
                "| " + " | ".join(c.replace("|", "\\|") for c in (suite, *cells(row))) + " |"
            )
    notes = [(row["what"], row["against"], row["note"]) for r in results for row in r["rows"]]
    told = [f"- {what}, against {against}: {note}" for what, against, note in notes if note]
    if told:
        lines += ["", "## How", "", *told]
    lines += ["", "## Machine", ""]
    for text in dict.fromkeys(machine_text(result["machine"]) for result in results):
        suites = [r["suite"] for r in results if machine_text(r["machine"]) == text]
        lines.append(f"- {', '.join(suites)}: {text}")
    return "\n".join(lines).rstrip() + "\n"


def goal_text(row: dict[str, Any]) -> str:
    if row["goal"] is None:
        return ""
    return ("≥ " if row["better"] == "higher" else "≤ ") + number(row["goal"])


def machine_text(facts: dict[str, Any]) -> str:
    peak = ", ".join(
        f"{value:.0f} in {name}" for name, value in facts["gemm_gflops"].items() if value
    )
    versions = ", ".join(f"{name} {facts[name]}" for name in ("jax", "torch") if facts[name])
    return f"{facts['cpu']}, {facts['cores']} cores, {versions}, GEMM GFLOP/s {peak}"


def number(value: float) -> str:
    """Three significant digits, thousands with a comma."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def draw(results: Sequence[dict[str, Any]]) -> Any:
    """A bar per row on a logarithmic axis, whiskers at the quartiles, a tick at the goal.

    Returns:
      A matplotlib ``Figure``; ``None`` without rows.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    rows = [(r["suite"], row) for r in results for row in r["rows"] if row["ratio"] > 0]
    if not rows:
        return None
    figure = Figure(figsize=(10.4, 0.34 * len(rows) + 1.3), layout="constrained")
    axes = figure.subplots()
    for position, (suite, row) in enumerate(reversed(rows)):
        colour = {True: MET, False: MISSED, None: UNJUDGED}[row["met"]]
        ratio, (low, high) = row["ratio"], row["quartiles"]
        axes.barh(position, ratio - 1, left=1, color=colour, height=0.62, label=suite)
        axes.hlines(position, low, high, color=INK, linewidth=1)
        if row["goal"] is not None:
            axes.vlines(row["goal"], position - 0.42, position + 0.42, color=INK, linewidth=1.8)
        end = max(1.0, high, row["goal"] or 0)
        axes.annotate(
            f"{number(ratio)}×", (end, position), (5, 0), textcoords="offset points",
            va="center", fontsize=8.5, color=INK,
        )  # fmt: skip
    axes.set_yticks(
        range(len(rows)),
        [f"{row['what']} / {row['against']}" for _, row in reversed(rows)],
        fontsize=8.5,
    )
    axes.set_xscale("log")
    ends = [
        value
        for _, row in rows
        for value in (row["ratio"], *row["quartiles"], row["goal"] or 1, 1)
        if value > 0
    ]
    axes.set_xlim(min(ends) / 1.25, max(ends) * (max(ends) / min(ends)) ** 0.12 * 1.1)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.axvline(1, color=INK, linewidth=0.7)
    axes.set_xlabel("ratio, median of interleaved rounds with quartiles", fontsize=8.5)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    named = {
        True: (MET, "goal met"),
        False: (MISSED, "goal missed"),
        None: (UNJUDGED, "not judged"),
    }
    present = {row["met"] for _, row in rows}
    handles: list[Any] = [Patch(color=c, label=name) for met, (c, name) in named.items()
                          if met in present]  # fmt: skip
    if any(row["goal"] is not None for _, row in rows):
        handles.append(Line2D([], [], color=INK, linewidth=1.8, label="goal"))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False,
        fontsize=8.5,
    )  # fmt: skip
    return figure


def draw_scaling(results: Sequence[dict[str, Any]]) -> Any:
    """Time per run-step along every axis of the suite ``scaling``; the base point is hollow.

    Returns:
      A matplotlib ``Figure``; ``None`` without that suite.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    lines = [line for r in results if r["suite"] == "scaling" for line in r["details"]["lines"]]
    axes_names = ("runs", "batch", "width", "steps", "devices")
    titles = ("runs", "minibatch", "width of the networks", "steps per dispatch", "devices")
    games = list(dict.fromkeys(line["game"] for line in lines))
    if not lines:
        return None
    figure = Figure(figsize=(10.4, 2.0 * len(games) + 0.5), layout="constrained")
    grid = figure.subplots(len(games), len(axes_names), sharey="row", squeeze=False)
    for axes, title in zip(grid[-1], titles, strict=True):
        axes.set_xlabel(title, fontsize=8)
    for row, game in zip(grid, games, strict=True):
        own = [line for line in lines if line["game"] == game]
        base = {name: own[0][name] for name in axes_names}
        for axes, name in zip(row, axes_names, strict=True):
            rest = {key: value for key, value in base.items() if key != name}
            shown = sorted(
                (line for line in own if all(line[k] == v for k, v in rest.items())),
                key=lambda line: line[name],
            )
            x = [line[name] for line in shown]
            low, middle, high = (
                np.array([line[key] for line in shown]) / 1000
                for key in ("lower_quartile", "microseconds_per_run_step", "upper_quartile")
            )
            axes.errorbar(x, middle, (middle - low, high - middle), fmt="o-", color=MET,
                          markersize=3.5, capsize=2, linewidth=1.2, elinewidth=0.8)  # fmt: skip
            at = x.index(base[name])
            axes.plot(
                x[at], middle[at], "o", color=MET, markerfacecolor="white", markersize=5, zorder=3
            )
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xticks(x, [str(v) for v in x], fontsize=7)
            axes.set_xticks([], minor=True)
            axes.tick_params(axis="y", labelsize=7)
            axes.grid(axis="y", color="0.9", linewidth=0.6)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
        y_axis = row[0].yaxis  # all axes of a row share one scale
        y_axis.set_major_locator(LogLocator(10, (1.0, 2.0, 5.0)))
        y_axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        y_axis.set_minor_locator(NullLocator())
        row[0].set_ylabel(f"{game}\nms per run-step", fontsize=8)
    return figure
