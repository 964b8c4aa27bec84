"""The MVI check: its matrix over pairs of checkpoints, and its fractions beside the controls."""

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
    POSITIVE,
    RULE,
    VOID,
    draw_colorbar,
    draw_legend,
    finish,
    heading,
    label_axes,
    panels,
)
from onesided_jax.report._text import compact, label, literal

__all__ = ["mvi", "mvi_controls"]

_DIVERGING = "PRGn"


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
    if name in ds:
        return np.asarray(ds[name].values)
    return np.asarray(ds[dimension].values)


_MAX_DOTS = 100  # small ones in a row; of more runs some, from the least to the largest
_FADED = 0.4  # weight of the colour where an entry is shown but not judged


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
        valid, sign = _matrix(ds, "mvi_valid", panel), _matrix(ds, "mvi_sign", panel)
        measured = np.isfinite(cosine)
        judged = measured if valid is None else (valid == 1) & measured
        unsure = np.zeros_like(measured) if sign is None else measured & (sign == 0)
        shown.append((panel, cosine, measured, judged, unsure))
    if not shown:
        return None
    finite = np.concatenate([np.abs(c[m]) for _, c, m, *_ in shown])
    reach = float(np.percentile(finite, 99)) if finite.size else 0.0
    colours = ScalarMappable(Normalize(-(reach or 1.0), reach or 1.0), mpl.colormaps[_DIVERGING])
    rows, columns = _steps(ds, "row"), _steps(ds, "column")
    columns_shown = panel_columns(cells, [panel for panel, *_ in shown])
    figure, axes = panels(len(shown), square=1.5, columns=columns_shown)
    for ax, (panel, cosine, measured, judged, unsure) in zip(axes, shown, strict=True):
        heading(ax, panel.optimizer, panel.title)
        picture = np.array(colours.to_rgba(np.where(measured, cosine, 0)))[..., :3]
        left_out = measured & ~judged
        picture[left_out] = _FADED * picture[left_out] + (1 - _FADED) * np.array(to_rgb(VOID))
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
    if any((m & ~j).any() for _, _, m, j, _ in shown):
        handles.append(Patch(facecolor=VOID, alpha=0.6, label="faded: not judged, too close to x*"))
    if not all(m.all() for _, _, m, *_ in shown):
        handles.append(Patch(facecolor=VOID, label="gradient below its noise (U < 2 se)"))
    draw_legend(figure, handles)
    return finish(figure)


def mvi_controls(section: Section, cells: list[Cell]) -> Figure | None:
    """Fractions of significantly signed entries, by region of the matrix and for the controls."""
    ds = section.dataset
    rows: list[tuple[str, dict[str, np.ndarray], dict[str, np.ndarray]]] = []
    for variable, dimension in (("mvi_fraction_negative", "region"), ("mvi_control", "control")):
        if variable not in ds:
            continue
        for value in ds[dimension].values:
            pair = []
            for name in (variable, "mvi_fraction_positive"):
                if name not in ds or dimension not in ds[name].dims:
                    pair.append({})
                    continue
                chosen = ds[name].sel({dimension: value}).transpose("optimizer", "mvi_run")
                pair.append({c.name: chosen.sel(optimizer=c.name).values for c in cells})
            prefix = "" if dimension == "region" else "control: "
            rows.append((prefix + label(str(value)), *pair))
    if not rows or not cells:
        return None
    figure, axes = panels(len(cells), height=0.8 + 0.22 * len(rows))
    split = sum(not name.startswith("control: ") for name, _, _ in rows) - 0.5
    for ax, cell in zip(axes, cells, strict=True):
        heading(ax, cell.name)
        ax.grid(axis="x")
        ax.hlines(range(len(rows)), 0, 1, color=RULE, linewidth=0.6)
        if 0 < split < len(rows) - 1:
            ax.axhline(split, color=MUTED, linewidth=0.7)
        for height, (_, negative, positive) in enumerate(rows):
            _dots(ax, positive.get(cell.name), height, POSITIVE, "s")
            if not _dots(ax, negative.get(cell.name), height, NEGATIVE, "o"):
                ax.text(0.02, height, "not applicable", fontsize=7.5, color=MUTED, va="center")
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    axes[0].set_xlim(-0.02, 1.02)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    axes[0].set_yticks(range(len(rows)), [literal(name) for name, _, _ in rows])
    label_axes(axes, "fraction of matrix entries", "")
    handles: list[Artist] = [
        Line2D([], [], color=NEGATIVE, marker="o", ls="", ms=5.5, label="significantly negative"),
        Line2D(
            [],
            [],
            color=POSITIVE,
            marker="s",
            mfc="none",
            ls="",
            ms=5.5,
            mew=1.3,
            label="significantly positive",
        ),
    ]
    if ds.sizes["mvi_run"] > 1:
        handles.append(
            Line2D(
                [], [], color=MUTED, marker="o", ls="", ms=3, label="small: one run; large: median"
            )
        )
    draw_legend(figure, handles)
    return finish(figure)


def _dots(ax: Axes, values: np.ndarray | None, height: int, colour: str, marker: str) -> bool:
    """The median, and every run small behind it; False if there is nothing to show."""
    finite = np.zeros(0) if values is None else values[np.isfinite(values)]
    if not finite.size:
        return False
    face = colour if marker == "o" else "none"
    common = {"color": colour, "marker": marker, "ls": "", "mfc": face, "clip_on": False}
    if finite.size > 1:
        small = evenly(np.sort(finite), _MAX_DOTS)
        ax.plot(small, np.full(small.size, height), ms=3, mew=0.7, alpha=0.5, **common)
    ax.plot(median(finite), height, ms=6, mew=1.3, zorder=3, **common)
    return True
