"""The late gradient norm of the primal player over the grid of learning rates."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from onesided_jax.report._section import Cell, Group, Section, median
from onesided_jax.report._style import (
    INK,
    MUTED,
    ON_CELL,
    VOID,
    draw_colorbar,
    draw_legend,
    finish,
    heading,
    label_axes,
    panels,
)
from onesided_jax.report._text import number, setting

_SEQUENTIAL = "cividis"
_SHORTEST = 1e-12  # smallest share of the largest norm on the colour scale
_MAX_TICKS = 12
_SPARSE = 4  # with more grid cells per setting than this, settings are drawn as points
_MAX_WRITTEN = 36  # cells per panel in which a number still fits


def _comparable(cell: Cell) -> dict[tuple[float, float], Group]:
    """Rates to group, for groups that differ from the shown one only in the learning rates."""
    rates = ("primal_learning_rate", "dual_learning_rate")

    def rest(group: Group) -> dict[str, str]:
        return {k: f"{v:.6g}" for k, v in group.hyperparameters.items() if k not in rates}

    def place(group: Group) -> tuple[float, float]:
        x, y = (group.hyperparameters.get(name, 0.0) for name in rates)  # 0 without such a rate
        return float(f"{x:.6g}"), float(f"{y:.6g}")

    return {place(g): g for g in cell.groups if rest(g) == rest(cell.shown)}


def grid(section: Section, cells: list[Cell]) -> Figure | None:
    """Late primal gradient norm over the two learning rates, one panel per optimizer."""
    if "norm_late" not in section.dataset:
        return None
    tables = [(cell, groups) for cell in cells if len(groups := _comparable(cell)) > 1]
    if not tables:
        return None
    norms = [float(median(c.late["primal"][g.runs])) for c, gs in tables for g in gs.values()]
    positive = np.array([value for value in norms if value > 0])
    low, high = (positive.min(), positive.max()) if positive.size else (0.1, 1.0)
    if low == high:
        low, high = low / 2, high * 2
    floor = max(low, high * _SHORTEST)
    colours = ScalarMappable(LogNorm(floor, high), mpl.colormaps[_SEQUENTIAL])
    ends = "min" if floor > low or any(value <= 0 for value in norms) else "neither"
    most = max(len({rates[1] for rates in groups}) for _, groups in tables)
    figure, axes = panels(len(tables), height=min(1.3 + 0.5 * most, 5.0), share_y=False)
    for ax, (cell, groups) in zip(axes, tables, strict=True):
        _table(ax, cell, groups, colours)
    label_axes(axes, "primal learning rate", "dual learning rate")
    draw_colorbar(figure, axes, colours, "late primal gradient norm", extend=ends)
    if any((cell.diverged_at >= 0).any() for cell, _ in tables):
        name = "2/5: two of five runs diverged; the number is the median of the others"
        cross = Line2D([], [], color=INK, marker="x", ms=5, ls="", label=name)
        draw_legend(figure, [Patch(facecolor=VOID, label="every run diverged"), cross])
    return finish(figure)


def _table(
    ax: Axes, cell: Cell, groups: dict[tuple[float, float], Group], colours: ScalarMappable
) -> None:
    heading(ax, cell.name, f"{len(cell.where)} runs")
    x = sorted({rates[0] for rates in groups})
    y = sorted({rates[1] for rates in groups})
    if len(x) * len(y) > _SPARSE * len(groups):
        _scatter(ax, cell, groups, colours)
        return
    picture = np.full((len(y), len(x), 3), to_rgb(VOID))
    columns, rows = ({value: i for i, value in enumerate(values)} for values in (x, y))
    write = len(x) * len(y) <= _MAX_WRITTEN
    crosses: list[tuple[int, int]] = []
    for rates, group in groups.items():
        column, row = columns[rates[0]], rows[rates[1]]
        words, root = _words(cell, group, colours)
        if root is not None:
            picture[row, column] = colours.to_rgba(root)[:3]
        ink = "#ffffff" if picture[row, column] @ (0.299, 0.587, 0.114) < 0.5 else ON_CELL
        if write:
            ax.text(
                column, row, "\n".join(words), ha="center", va="center", fontsize=7.5, color=ink
            )
        elif (cell.diverged_at[group.runs] >= 0).any():
            crosses.append((column, row))
        if group is cell.shown:
            ax.plot(
                column + np.array([-0.46, 0.46, 0.46, -0.46, -0.46]),
                row + np.array([-0.44, -0.44, 0.44, 0.44, -0.44]),
                color=ink,
                linewidth=1.3,
            )
    if crosses:
        ax.plot(*zip(*crosses, strict=True), "x", color=INK, ms=3, mew=0.7)
    ax.imshow(picture, origin="lower", aspect="auto", interpolation="nearest")
    ax.set_xticks(*_ticks(x))
    ax.set_yticks(*_ticks(y))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlim(-0.5, len(x) - 0.5)
    ax.set_ylim(-0.5, len(y) - 0.5)
    if len(x) > 5:
        ax.tick_params(axis="x", rotation=45, labelcolor=MUTED)


def _words(cell: Cell, group: Group, colours: ScalarMappable) -> tuple[list[str], Any]:
    """Text of a group's grid cell, and the norm for its colour; None if every run diverged."""
    value = float(median(cell.late["primal"][group.runs]))
    lost = int((cell.diverged_at[group.runs] >= 0).sum())
    finite = bool(np.isfinite(value))
    words = [number(value, digits=2).replace(" × ", "×")] if finite else []
    if lost:
        words.append(f"× {lost}/{len(group.runs)}")
    floor = float(colours.get_clim()[0] or 0)
    return words, max(value, floor) if finite else None


def _scatter(
    ax: Axes, cell: Cell, groups: dict[tuple[float, float], Group], colours: ScalarMappable
) -> None:
    """Draws one point per setting, for rates that form no grid (random search)."""
    finite = {rates: _words(cell, group, colours)[1] for rates, group in groups.items()}
    points = {
        rates: to_rgb(VOID) if root is None else colours.to_rgba(root)[:3]
        for rates, root in finite.items()
    }
    x, y = np.array(list(points)).T
    for scale, values in ((ax.set_xscale, x), (ax.set_yscale, y)):
        scale("log" if (values > 0).all() else "linear")
    ax.scatter(x, y, c=np.array(list(points.values())), s=14, linewidths=0, rasterized=True)
    lost = [r for r, group in groups.items() if (cell.diverged_at[group.runs] >= 0).any()]
    if lost:
        ax.plot(*zip(*lost, strict=True), "x", color=INK, ms=3, mew=0.7, rasterized=True)
    shown = next((rates for rates, group in groups.items() if group is cell.shown), None)
    if shown is not None:
        ax.plot(*shown, "o", mfc="none", color=INK, ms=7, mew=1.3)


def _ticks(values: list[float]) -> tuple[list[int], list[str]]:
    """Positions and labels of the ticks of a grid axis, at most ``_MAX_TICKS``."""
    chosen = range(0, len(values), -(-len(values) // _MAX_TICKS))
    return list(chosen), [setting(values[i]) for i in chosen]
