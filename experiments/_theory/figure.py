"""The figure of all sections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _tables import read_table
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from .controls import CONTROLS
from .one_sided import ONE_SIDED, ONE_SIDED_ARMS
from .rates import POWERS

COLOURS = {  # Okabe and Ito
    "plain": "#000000",
    "EG": "#d55e00",
    "EG, slow dual": "#e69f00",
    "EG-DRD, p=0.25": "#56b4e9",
    "EG-DRD, p=0.5": "#0072b2",
    "EG-DRD, p=1": "#009e73",
    "XEG": "#cc79a7",
}
CONTROL_COLOURS = dict(
    zip(CONTROLS, ("#d55e00", "#0072b2", "#56b4e9", "#009e73", "#cc79a7", "#000000"), strict=True)
)


def draw(out: Path) -> Figure:
    figure = Figure(figsize=(10.4, 7.6), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # pyright: ignore[reportOptionalMemberAccess, reportCallIssue]
    panels = figure.subplots(2, 2).flat
    titles = {
        draw_carousel: "carousel: who converges\nrunning mean of |∇ₓf|², in the metric, against T",
        draw_rates: "dual rate decay: the rate it buys\nslope of the running mean over the last "
        "decade against p",
        draw_controls: "no one-sided MVI: the bound breaks\nlhs / rhs of Theorem 1 against T",
        draw_one_sided: "one-sided MVI: it never does\nworst lhs / rhs over all steps and draws",
    }
    for axes, (panel, title) in zip(panels, titles.items(), strict=True):
        head, note = title.split("\n")
        axes.set_title(f"{head}\n", fontsize=10, loc="left")
        axes.text(0, 1.015, note, transform=axes.transAxes, fontsize=8.5, color="#57606a")
        axes.tick_params(labelsize=8.5)
        axes.spines[["top", "right"]].set_visible(False)
        panel(axes, out)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
        columns = 2 if panel is draw_controls else 3
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13), "ncols": columns}
        if axes.get_legend_handles_labels()[0]:
            axes.legend(**below, fontsize=8, frameon=False)
    return figure


def read(path: Path) -> list[dict[str, str]]:
    """A table; empty if its section has not been run."""
    return read_table(path) if path.exists() else []


def draw_carousel(axes, out: Path) -> None:
    rows = read(out / "carousel_curve.csv")
    for arm, colour in COLOURS.items():
        mine = [row for row in rows if row["arm"] == arm]
        if not mine:
            continue
        T = [float(row["T"]) for row in mine]
        axes.loglog(T, [float(row["lhs"]) for row in mine], color=colour, label=arm, lw=1.5)
        if arm == "XEG":
            bound = [float(row["rhs"]) for row in mine]
            axes.loglog(T, bound, color=colour, ls="--", lw=1.2, label="bound of XEG")


def draw_rates(axes, out: Path) -> None:
    rows = read(out / "rates.csv")
    p = np.linspace(0, 1, 101)
    axes.plot(p, -np.minimum(2 * p, 1), color="#0072b2", lw=1.2, ls="--", label="−min(2p, 1): MVI")
    axes.plot(p, -p, color="#d55e00", lw=1.2, ls=":", label="−min(p, 1): freezing, no MVI")
    marks = {"carousel": ("#0072b2", "o", -0.008), "stick_slip": ("#d55e00", "s", 0.008)}
    for game, (colour, mark, shift) in marks.items():
        mine = [row for row in rows if row["game"] == game]
        if not mine:
            continue
        centre, low, high = (
            np.array([float(row[c]) for row in mine]) for c in ("slope", "slope min", "slope max")
        )
        axes.errorbar(
            [float(row["power"]) + shift for row in mine], centre,
            yerr=[centre - low, high - centre],
            color=colour, fmt=mark, ms=5.5, capsize=3, lw=1, label=game.replace("_", " "),
        )  # fmt: skip
    axes.set_xticks(POWERS)


def draw_controls(axes, out: Path) -> None:
    rows = read(out / "controls_curve.csv")
    axes.axhline(1, color="#57606a", lw=0.9)
    for arm, colour in CONTROL_COLOURS.items():
        mine = [row for row in rows if row["arm"] == arm]
        if not mine:
            continue
        ratio = [float(row["lhs"]) / float(row["rhs"]) for row in mine]
        axes.loglog(
            [float(row["T"]) for row in mine], ratio, color=colour, lw=1.5,
            label=arm.replace("_", " "),
        )  # fmt: skip


def draw_one_sided(axes, out: Path) -> None:
    rows = read(out / "one_sided.csv")
    games = [name for name in ONE_SIDED if any(row["game"] == name for row in rows)][::-1]
    for offset, arm in zip(np.linspace(0.26, -0.26, len(ONE_SIDED_ARMS)), ONE_SIDED_ARMS):
        mine = [row for row in rows if row["arm"] == arm]
        if not mine:
            continue
        axes.plot(
            [float(row["worst T1"]) for row in mine],
            [games.index(row["game"]) + offset for row in mine],
            "o", ms=5, color=COLOURS[arm], label=arm,
        )  # fmt: skip
    axes.axvline(1, color="#57606a", lw=0.9)
    axes.set_xscale("log")
    axes.set_yticks(range(len(games)), [name.replace("_", " ") for name in games])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.6, len(games) - 0.4)
