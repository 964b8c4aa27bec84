"""How verdicts, intervals and ratios are shown."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from onesided_jax.report._style import DUAL, PRIMAL


def word(holds: Any) -> str:
    """A verdict as a word."""
    return {True: "supported", False: "refuted"}.get(holds, "inconclusive")


def ratio_axis(axes: Axes) -> None:
    """A logarithmic x axis for the ratios drawn so far, with plain numbers; 1 is drawn."""
    axes.axvline(1, color="#24292f", linewidth=0.7, zorder=0)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def legend_of_players(figure: Figure, **line: Any) -> None:
    """Generator and discriminator, above the axes."""
    handles = [
        Line2D([], [], color=colour, marker="o", markersize=4, label=label, **line)
        for colour, label in ((PRIMAL, "generator"), (DUAL, "discriminator"))
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=8)
