"""The figure of both players' gradient norms against the training step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from onesided_jax.report._section import PLAYERS, Cell, Section, median, player_names
from onesided_jax.report._style import (
    BOLD,
    INK,
    MUTED,
    PLAYER_STYLE,
    THIN,
    draw_legend,
    finish,
    heading,
    label_axes,
    log_axis,
    panels,
    step_axis,
)
from onesided_jax.report._text import count, setting

MAX_LINES = 24
"""Thin lines per panel and player; the median is over all runs."""
_DECADES = 12  # most decades of an axis, for games that converge to 1e-100
_HEADROOM = 3.0  # factor between the data and the edge of a log axis


class _Curve(NamedTuple):
    """One player's gradient norms in one panel.

    Attributes:
      norms: ``[runs, steps]``; NaN below the noise floor.
      limits: ``[runs, steps]``, upper limits of norms below the noise floor, else NaN.
      middle: ``[steps]``, the median over runs; 0 if most runs are below the floor.
      diverged: ``[runs]``.
    """

    norms: np.ndarray
    limits: np.ndarray
    middle: np.ndarray
    diverged: np.ndarray


def _curve(cell: Cell, player: str) -> _Curve:
    runs = cell.shown.runs
    norms, limits = cell.norm[player][runs], cell.limit[player][runs]
    floored = np.isnan(norms) & np.isfinite(limits)
    return _Curve(
        # A norm of exactly 0 is drawn as a line that leaves through the bottom of the log axis.
        np.where(norms == 0, np.finfo(float).tiny, norms),
        limits,
        median(np.where(floored, 0.0, norms)),
        cell.diverged_at[runs] >= 0,
    )


def panel_heading(ax: Axes, cell: Cell) -> None:
    """Writes the optimizer, the shown hyperparameters and the number of runs above a panel."""
    short = {"primal_learning_rate": "x rate", "dual_learning_rate": "y rate"}
    values = cell.shown.hyperparameters
    swept = [n for n in values if len({g.hyperparameters.get(n) for g in cell.groups}) > 1]
    names = [n for n in short if n in values] + [n for n in swept if n not in short]
    runs, total = len(cell.shown.runs), len(cell.where)
    rates = ", ".join(f"{short.get(n, n)} {setting(values[n])}" for n in names)
    words = count(runs, "run") + (f" of {total}" if total > runs else "")
    heading(ax, cell.name, *(line for line in (rates, words) if line))


def player_handles(dataset: xr.Dataset, cells: list[Cell]) -> list[Artist]:
    """Legend entries of the two players, and of single runs if there are several."""
    names = player_names(dataset)
    handles: list[Artist] = [
        Line2D([], [], color=colour, linestyle=dashes, label=names[player], **BOLD)
        for player, (colour, dashes) in PLAYER_STYLE.items()
    ]
    if any(len(cell.shown.runs) > 1 for cell in cells):
        handles.append(Line2D([], [], color=MUTED, label="thin: one run; bold: median", **THIN))
    return handles


def log_limits(drawn: list[np.ndarray], settled: list[np.ndarray]) -> tuple[float, float]:
    """Limits of a logarithmic axis; values far above those of ``settled`` runs are cut off.

    Example:
      >>> log_limits([np.array([1e-30, 1.0])], [np.array([1.0])])
      (1e-12, 3.0)
    """

    def positive(parts: list[np.ndarray]) -> np.ndarray:
        values = np.concatenate([part.ravel() for part in parts])
        return values[np.isfinite(values) & (values > 0)]

    values, calm = positive(drawn), positive(settled)
    if not values.size:
        return 0.1, 10.0
    top = min(float(values.max()), 10 * float(calm.max(initial=0.0)) or np.inf)
    return max(float(values.min()) / _HEADROOM, top * 10.0**-_DECADES), top * _HEADROOM


def _draw(ax: Axes, steps: np.ndarray, player: str, curve: _Curve, top: float) -> None:
    colour, dashes = PLAYER_STYLE[player]
    lines = curve.norms[:MAX_LINES]
    if len(curve.norms) > 1:
        ax.plot(steps, lines.T, color=colour, linestyle=dashes, **THIN)
    ax.plot(steps, curve.middle, color=colour, linestyle=dashes, **BOLD)
    ax.plot(steps, curve.limits[:MAX_LINES].T, "v", color=colour, mfc="none", ms=3.5, mew=0.8)
    for values, diverged in zip(lines, curve.diverged, strict=False):
        finite = np.flatnonzero(np.isfinite(values))
        if diverged and finite.size:
            end = finite[-1]
            height = min(float(values[end]), top)
            ax.plot(steps[end], height, "x", color=colour, ms=5.5, mew=1.4, clip_on=False)


def gradient_norms(section: Section, cells: list[Cell]) -> Figure | None:
    """Both players' gradient norms against the training step, a panel per optimizer."""
    if "gradient_norm" not in section.dataset or not cells:
        return None
    curves = [{player: _curve(cell, player) for player in PLAYERS} for cell in cells]
    flat = [curve for pair in curves for curve in pair.values()]
    drawn = [part for c in flat for part in (c.norms, c.limits)]
    bottom, top = log_limits(drawn, [c.norms[~c.diverged] for c in flat])
    figure, axes = panels(len(cells))
    log_axis(axes[0], bottom, top)
    step_axis(axes)
    label_axes(axes, "training step", "gradient norm")
    for cell, ax, pair in zip(cells, axes, curves, strict=True):
        panel_heading(ax, cell)
        ax.grid(axis="y")
        for player, curve in pair.items():
            _draw(ax, cell.steps, player, curve, top)
        if not any(np.isfinite([*c.norms.flat, *c.limits.flat]).any() for c in pair.values()):
            ax.text(0.5, 0.5, "no finite values", transform=ax.transAxes, ha="center", color=MUTED)

    handles = player_handles(section.dataset, cells)
    if any(np.isfinite(c.limits).any() for c in flat):
        name = "below its noise: upper limit"
        handles.append(Line2D([], [], color=INK, marker="v", mfc="none", ms=4, ls="", label=name))
    if any(c.diverged.any() for c in flat):
        name = "last point before divergence"
        handles.append(Line2D([], [], color=INK, marker="x", ms=5.5, mew=1.4, ls="", label=name))
    draw_legend(figure, handles)
    return finish(figure)
