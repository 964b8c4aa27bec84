"""Losses, minibatch gradient norms and N[t] against the training step."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from onesided_jax.report._curves import MAX_LINES, log_limits, panel_heading, player_handles
from onesided_jax.report._section import PLAYERS, Cell, Section, evenly, median
from onesided_jax.report._style import (
    BOLD,
    MUTED,
    PLAYER_STYLE,
    PRIMAL,
    THIN,
    draw_legend,
    finish,
    heading,
    label_axes,
    log_axis,
    panels,
    step_axis,
)

_BINS = 200
_TAIL = 0.5  # percent of the values that an axis may cut off at each end


def _binned(records: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Averages neighbouring records into at most ``_BINS`` bins, for a readable line.

    Example:
      >>> records = np.arange(400.0)
      >>> x, y = _binned(records, np.where(records < 3, records, np.nan)[None])
      >>> x[:2], y[0, :3]
      (array([0.5, 2.5]), array([0.5, 2. , nan]))
    """
    if len(records) <= _BINS:
        return records, values
    starts = np.linspace(0, len(records), _BINS, endpoint=False).astype(int)
    finite = np.isfinite(values)
    total = np.add.reduceat(np.where(finite, values, 0), starts, axis=1)
    count = np.add.reduceat(finite.astype(float), starts, axis=1)
    size = np.diff(starts, append=len(records))
    count[count == 0] = np.nan
    return np.add.reduceat(records, starts) / size, total / count


def losses(section: Section, cells: list[Cell]) -> Figure | None:
    """Both players' training losses."""
    return _series(section, cells, "loss", "training loss", log=False)


def minibatch_gradient_norms(section: Section, cells: list[Cell]) -> Figure | None:
    """Norms of the minibatch gradients used in training, noise included."""
    return _series(section, cells, "minibatch_gradient_norm", "minibatch gradient norm", log=True)


def _series(
    section: Section, cells: list[Cell], name: str, ylabel: str, *, log: bool
) -> Figure | None:
    if name not in section.dataset or not cells:
        return None
    variable = section.dataset[name].transpose("optimizer", "player", "run", "record")
    records = np.asarray(section.dataset["record"].values, dtype=float)
    drawn, settled = [], []
    figure, axes = panels(len(cells))
    for cell, ax in zip(cells, axes, strict=True):
        panel_heading(ax, cell)
        ax.grid(axis="y")
        runs = cell.where[cell.shown.runs]
        diverged_at = cell.diverged_at[cell.shown.runs]
        gone = (diverged_at[:, None] >= 0) & (records[None] >= diverged_at[:, None])
        for player in PLAYERS:
            colour, dashes = PLAYER_STYLE[player]
            array = variable.sel(optimizer=cell.name, player=player).values.astype(float)[runs]
            x, values = _binned(records, np.where(gone, np.nan, array))
            drawn.append(values)
            settled.append(values[diverged_at < 0].ravel())
            if len(runs) > 1:
                ax.plot(x, values[:MAX_LINES].T, color=colour, linestyle=dashes, **THIN)
            ax.plot(x, median(values), color=colour, linestyle=dashes, linewidth=1.4)
    step_axis(axes)
    label_axes(axes, "training step", ylabel)
    calm = np.concatenate(settled)
    calm = calm[np.isfinite(calm)]
    if log:
        log_axis(axes[0], *log_limits(drawn, settled))
    elif calm.size:
        low, high = np.percentile(calm, [_TAIL, 100 - _TAIL])
        margin = 0.08 * (high - low) or 1.0
        axes[0].set_ylim(low - margin, high + margin)
    draw_legend(figure, player_handles(section.dataset, cells))
    return finish(figure)


def necessary(section: Section, cells: list[Cell]) -> Figure | None:
    """N[t]: the gradient norm at x* divided by the gradient norm on the trajectory."""
    ds = section.dataset
    if "necessary" not in ds or not cells:
        return None
    array = ds["necessary"].transpose("optimizer", "mvi_run", "column")
    values = {cell.name: array.sel(optimizer=cell.name).values.astype(float) for cell in cells}
    values = {name: lines for name, lines in values.items() if np.isfinite(lines).any()}
    if not values:
        return None
    steps = (ds["column_step"] if "column_step" in ds else ds["column"]).values
    figure, axes = panels(len(values), height=2.0, below=0.15)
    for ax, (name, lines) in zip(axes, values.items(), strict=True):
        heading(ax, name)
        ax.grid(axis="y")
        ax.axhline(1, color=MUTED, linewidth=0.8, linestyle=":")
        if len(lines) > 1:
            ax.plot(steps, evenly(lines, MAX_LINES).T, color=PRIMAL, **THIN)
        ax.plot(steps, median(lines), color=PRIMAL, **BOLD)
    finite = np.concatenate([lines[np.isfinite(lines)] for lines in values.values()])
    axes[0].set_ylim(0, max(1.15, 1.1 * float(np.percentile(finite, 100 - _TAIL))))
    step_axis(axes)
    label_axes(axes, "checkpoint t of the dual player", "N[t]")
    return finish(figure)
