"""The one-sided MVI: its matrix over pairs of checkpoints, and its negative mass."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from onesided_jax.report._section import (
    Cell,
    Panel,
    Section,
    evenly,
    median,
    panel_columns,
    run_panels,
)
from onesided_jax.report._style import (
    INK,
    MUTED,
    NEGATIVE,
    ON_CELL,
    RULE,
    VOID,
    draw_colorbar,
    draw_legend,
    finish,
    heading,
    label_axes,
    panels,
)
from onesided_jax.report._text import compact, literal

_DIVERGING = "PRGn"
_MAX_DOTS = 100  # small dots per row; with more runs, an even selection by size


def _matrix(ds: xr.Dataset, name: str, panel: Panel) -> np.ndarray | None:
    if name not in ds:
        return None
    chosen = ds[name].sel(optimizer=panel.optimizer).isel(mvi_run=panel.position)
    return chosen.transpose("row", "column").values.astype(float)


def _ticks(ax_ticks: np.ndarray) -> tuple[np.ndarray, list[str]]:
    where = np.unique(np.linspace(0, len(ax_ticks) - 1, min(5, len(ax_ticks))).round().astype(int))
    return where, [compact(float(ax_ticks[i])) for i in where]


def _steps(ds: xr.Dataset, dimension: str) -> np.ndarray:
    name = f"{dimension}_step"
    return np.asarray(ds[name if name in ds else dimension].values)


def mvi(section: Section, cells: list[Cell]) -> Figure | None:
    """Cosine of x_s - x* and the primal gradient at (x_s, y_t), over pairs of checkpoints."""
    ds = section.dataset
    if "mvi_cosine" not in ds or not cells:
        return None
    shown = []
    for panel in run_panels(section, cells, "mvi_run"):
        cosine = _matrix(ds, "mvi_cosine", panel)
        if cosine is None or not np.isfinite(cosine).any():
            continue
        sign, measured = _matrix(ds, "mvi_sign", panel), np.isfinite(cosine)
        unsure = np.zeros_like(measured) if sign is None else measured & (sign == 0)
        shown.append((panel, cosine, measured, unsure))
    if not shown:
        return None
    finite = np.concatenate([np.abs(c[m]) for _, c, m, _ in shown])
    reach = float(np.percentile(finite, 99)) if finite.size else 0.0
    colours = ScalarMappable(Normalize(-(reach or 1.0), reach or 1.0), mpl.colormaps[_DIVERGING])
    rows, columns = _steps(ds, "row"), _steps(ds, "column")
    columns_shown = panel_columns(cells, [panel for panel, *_ in shown])
    figure, axes = panels(len(shown), square=1.5, columns=columns_shown)
    for ax, (panel, cosine, measured, unsure) in zip(axes, shown, strict=True):
        heading(ax, panel.optimizer, panel.title)
        picture = np.array(colours.to_rgba(np.where(measured, cosine, 0)))[..., :3]
        picture[~measured] = to_rgb(VOID)
        ax.imshow(picture, origin="lower", aspect="equal", interpolation="nearest")
        s, t = np.nonzero(unsure)
        size = min(3.2, 36 / max(picture.shape[:2]))
        ax.plot(t, s, ".", color=ON_CELL, ms=size, mew=0, alpha=0.75)
        if np.array_equal(rows, columns):
            ends = (-0.5, len(rows) - 0.5)
            ax.plot(ends, ends, color=ON_CELL, linewidth=0.6, alpha=0.6)
        ax.set_xlim(-0.5, len(columns) - 0.5)
        ax.set_ylim(-0.5, len(rows) - 0.5)
        ax.set_xticks(*_ticks(columns))
        ax.set_yticks(*_ticks(rows))
        ax.spines[:].set_visible(False)
    label_axes(axes, "dual player's checkpoint t", "primal player's checkpoint s")
    draw_colorbar(figure, axes, colours, "cosine", extend="both")
    handles: list[Artist] = [
        Line2D([], [], color=INK, marker=".", ms=4, ls="", label="sign not significant")
    ]
    if not all(m.all() for _, _, m, _ in shown):
        handles.append(Patch(facecolor=VOID, label="gradient below its noise (U < 2 se)"))
    draw_legend(figure, handles)
    return finish(figure)


def mvi_controls(section: Section, cells: list[Cell]) -> Figure | None:
    """The negative mass of the matrix and of the controls, beside the verdict's boundary."""
    ds = section.dataset
    if "mvi_negative_mass" not in ds or not cells:
        return None
    rows = {"cross matrix": ds["mvi_negative_mass"]}
    for name in ds["control"].values if "mvi_control" in ds else ():
        values = ds["mvi_control"].sel(control=name)
        if np.isfinite(values).any():
            rows[f"control: {name}"] = values
    figure, axes = panels(len(cells), height=0.8 + 0.22 * len(rows))
    for ax, cell in zip(axes, cells, strict=True):
        heading(ax, cell.name)
        ax.grid(axis="x")
        ax.hlines(range(len(rows)), 0, 1, color=RULE, linewidth=0.6)
        if "negative_mass" in ds.attrs:
            ax.axvline(ds.attrs["negative_mass"], color=INK, linewidth=0.8, linestyle="--")
        for height, values in enumerate(rows.values()):
            if not _dots(ax, values.sel(optimizer=cell.name).values, height):
                ax.text(0.02, height, "not measured", fontsize=7.5, color=MUTED, va="center")
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    axes[0].set_xlim(-0.02, 1.02)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    axes[0].set_yticks(range(len(rows)), [literal(name) for name in rows])
    label_axes(axes, "negative mass", "")
    if ds.sizes["mvi_run"] > 1:
        words = "small: one run; large: median"
        dot = Line2D([], [], color=NEGATIVE, marker="o", ls="", ms=4, label=words)
        draw_legend(figure, [dot])
    return finish(figure)


def _dots(ax: Axes, values: np.ndarray, height: int) -> bool:
    """Draws the median, and small dots for the runs; returns False if there are no values."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return False
    style = {"color": NEGATIVE, "marker": "o", "ls": "", "clip_on": False}
    if finite.size > 1:
        small = evenly(np.sort(finite), _MAX_DOTS)
        ax.plot(small, np.full(small.size, height), ms=3, mew=0.7, alpha=0.5, **style)
    ax.plot(median(finite), height, ms=6, mew=1.3, zorder=3, **style)
    return True
