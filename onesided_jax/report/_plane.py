"""The plane: change of both players' gradient norms, one dot per seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from onesided_jax.report._curves import panel_heading
from onesided_jax.report._section import Cell, Section, evenly, player_names
from onesided_jax.report._style import (
    INK,
    MUTED,
    PRIMAL,
    draw_legend,
    finish,
    label_axes,
    panels,
)
from onesided_jax.report._text import number, power_of_ten

__all__ = ["plane", "plane_axes"]

_DECADES = 3.0  # of ratios, above and below 1; dots beyond are drawn on the edge
_MAX_OTHERS = 300  # faint dots of the other settings
_LONG = 1e3  # an axis with a larger range is labelled in powers of ten


def plane(section: Section, cells: list[Cell]) -> Figure | None:
    """Late over early gradient norm: the primal player's on x, the dual player's on y."""
    ds = section.dataset
    cells = [cell for cell in cells if np.isfinite(_points(cell, cell.shown.runs)).all(1).any()]
    if "late_over_early" not in ds or "generator_falls" not in ds.attrs or not cells:
        return None
    names = player_names(ds)
    figure, axes = panels(len(cells), square=0.9, below=0.75)
    shown = np.concatenate([_points(cell, cell.shown.runs) for cell in cells])
    low, high = _limits(shown[np.isfinite(shown).all(1)], ds.attrs)
    for ax, cell in zip(axes, cells, strict=True):
        panel_heading(ax, cell)
        plane_axes(ax, ds.attrs, names, (low, high))
        others = np.setdiff1d(np.arange(len(cell.where)), cell.shown.runs)
        faint = np.clip(_points(cell, evenly(others, _MAX_OTHERS)), low, high)
        ax.plot(*faint.T, ".", color=MUTED, ms=3, alpha=0.4, rasterized=True)
        dots = np.clip(_points(cell, cell.shown.runs), low, high)
        for passes, face in ((True, PRIMAL), (False, "none")):
            chosen = dots[(cell.passes[cell.shown.runs] == 1) == passes]
            if len(chosen):  # an empty line that is not clipped has its bounding box at the origin
                ax.plot(*chosen.T, "o", color=PRIMAL, mfc=face, ms=6, mew=1.3, clip_on=False)
    label_axes(axes, f"{names['primal']}: late / early norm", f"{names['dual']}: late / early norm")
    draw_legend(figure, _handles(cells, ds.attrs))
    return finish(figure)


def _points(cell: Cell, runs: Any) -> np.ndarray:
    """``[runs, 2]``."""
    return np.stack([cell.change[player][runs] for player in ("primal", "dual")], axis=-1)


def _limits(points: np.ndarray, attrs: dict[str, Any]) -> tuple[float, float]:
    """Limits of both axes: all dots within a few decades, and room for each quadrant's name."""
    reach = 10.0**_DECADES
    boundaries = [attrs["generator_falls"], attrs["discriminator_stays"], 1.0]
    values = [*np.clip(points, 1 / reach, reach).ravel(), *boundaries]
    low = min(min(values) / 1.5, 0.12)
    line = max(boundaries[:2])
    return low, max(1.5 * max(values), line * (line / low) ** 0.5)


def plane_axes(
    ax: Axes, attrs: Mapping[str, Any], names: Mapping[str, str], limits: tuple[float, float]
) -> None:
    """Draws log axes, the boundaries as lines, and the names of the quadrants.

    Args:
      ax: the axes.
      attrs: the boundaries ``generator_falls``, ``discriminator_stays`` and ``parting``.
      names: names of the ``primal`` and the ``dual`` player.
      limits: limits of both axes.
    """
    low, high = limits
    thin = {"color": MUTED, "linewidth": 0.8}
    ax.axvline(attrs["generator_falls"], **thin)
    ax.axhline(attrs["discriminator_stays"], **thin)
    ends = np.array([low, high])
    ax.plot(ends, ends, linestyle=":", **thin)
    ax.plot(ends, attrs["parting"] * ends, linestyle=(0, (4, 2)), **thin)
    for axis, scale, limit in (
        (ax.xaxis, ax.set_xscale, ax.set_xlim),
        (ax.yaxis, ax.set_yscale, ax.set_ylim),
    ):
        scale("log")
        limit(low, high)
        long = high / low > _LONG
        axis.set_major_locator(LogLocator(subs=(1,) if long else (1, 2, 5), numticks=7))
        axis.set_minor_locator(NullLocator())
        write = power_of_ten if long else number
        axis.set_major_formatter(lambda value, _, write=write: write(value))
    quadrants = {
        (0, 1): f"only the\n{names['primal']}\nfalls",
        (1, 1): "neither",
        (0, 0): "both",
        (1, 0): f"only the\n{names['dual']}\nfalls",
    }
    for (x, y), words in quadrants.items():  # below the diagonals, which meet two corners
        ax.annotate(
            words,
            (x, y),
            xytext={(0, 0): (16, 4), (1, 1): (-4, -34)}.get((x, y), (4 - 8 * x, 4 - 8 * y)),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right" if x else "left",
            va="top" if y else "bottom",
            fontsize=7,
            color=MUTED,
        )


def _handles(cells: list[Cell], attrs: dict[str, Any]) -> list[Line2D]:
    dot: dict[str, Any] = {"color": PRIMAL, "marker": "o", "ls": "", "ms": 6, "mew": 1.3}
    gated = any(np.isfinite(cell.passes).any() for cell in cells)
    one = "fails the quality gate" if gated else "one run"
    handles = [Line2D([], [], mfc="none", label=one, **dot)]
    if gated:
        handles.insert(0, Line2D([], [], label="passes the quality gate", **dot))
    if any(len(cell.where) > len(cell.shown.runs) for cell in cells):
        handles.append(Line2D([], [], color=MUTED, marker=".", ls="", label="other settings"))
    lines: dict[str, Any] = {"color": INK, "linewidth": 0.8}
    handles.append(Line2D([], [], linestyle=":", label="both change alike", **lines))
    parted = f"the players part: a factor {attrs['parting']:g}"
    handles.append(Line2D([], [], linestyle=(0, (4, 2)), label=parted, **lines))
    return handles
