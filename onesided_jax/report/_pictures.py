"""Figures of generated samples and of trajectories of small games."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from onesided_jax.report._section import Cell, Panel, Section, panel_columns, run_panels
from onesided_jax.report._style import (
    PRIMAL,
    draw_legend,
    finish,
    heading,
    label_axes,
    panels,
    step_axis,
)

_MAX_IMAGES = 64
_MAX_POINTS = 4000
_MAX_PATHS = 8
_ELONGATED = 3  # with a larger aspect ratio, trajectories are not drawn to scale


def _mosaic(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Tiles ``[n, height, width, channel]`` into one picture, with one pixel between images.

    Example:
      >>> _mosaic(np.zeros((4, 5, 5, 1), np.uint8)).shape
      (11, 11, 3)
    """
    count, height, width, channels = images.shape
    columns = columns or int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    out = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, 3), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = (i // columns) * (height + 1), (i % columns) * (width + 1)
        out[y : y + height, x : x + width] = image if channels == 3 else image[..., :1]
    return out


def save_samples(
    samples: ArrayLike, stem: str | os.PathLike[str], columns: int | None = None
) -> Path:
    """Writes generated samples: images as one PNG mosaic, anything else as CSV.

    Args:
      samples: ``[n, height, width, channel]`` in [-1, 1], or ``[n, ...]``.
      stem: path without suffix; its folder is created.
      columns: images per row of the mosaic; by default about the number of rows.

    Returns:
      The file that was written.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_samples(np.zeros((4, 5, 5, 1)), Path(folder) / "grey").name
      'grey.png'
    """
    samples, stem = np.asarray(samples), Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    if samples.ndim == 4 and samples.shape[-1] in (1, 3):
        path = stem.with_name(stem.name + ".png")
        pixels = np.clip((samples + 1) * 127.5, 0, 255).round().astype(np.uint8)
        imsave(path, _mosaic(pixels, columns))
        return path
    path = stem.with_name(stem.name + ".csv")
    np.savetxt(path, samples.reshape(len(samples), -1), delimiter=",")
    return path


def samples(section: Section, cells: list[Cell]) -> Figure | None:
    """Images drawn by the generators."""
    if "samples" not in section.dataset or not cells:
        return None
    array = section.dataset["samples"].transpose(
        "optimizer", "sample_run", "sample", "height", "width", "channel"
    )
    shown = _finite_panels(section, cells, array)
    if not shown:
        return None
    columns = panel_columns(cells, shown)
    figure, axes = panels(len(shown), square=0.2, below=0, columns=columns)
    for ax, panel in zip(axes, shown, strict=True):
        heading(ax, panel.optimizer, panel.title)
        images = array.sel(optimizer=panel.optimizer).isel(sample_run=panel.position).values
        picture = _mosaic(np.asarray(images[:_MAX_IMAGES], dtype=np.uint8))
        ax.imshow(picture, interpolation="nearest")
        ax.set_axis_off()
    return finish(figure)


def _finite_panels(section: Section, cells: list[Cell], array: xr.DataArray) -> list[Panel]:
    """Panels of the runs that have samples; a diverged run has none."""
    return [
        panel
        for panel in run_panels(section, cells, "sample_run")
        if np.isfinite(array.sel(optimizer=panel.optimizer).isel(sample_run=panel.position)).any()
    ]


def points(section: Section, cells: list[Cell]) -> Figure | None:
    """Points drawn by the generators, for two-dimensional data."""
    if "points" not in section.dataset or not cells:
        return None
    array = section.dataset["points"].transpose("optimizer", "sample_run", "sample", "coordinate")
    shown = _finite_panels(section, cells, array)
    if not shown:
        return None
    columns = panel_columns(cells, shown)
    figure, axes = panels(len(shown), square=0.8, below=0.3, columns=columns)
    for ax, panel in zip(axes, shown, strict=True):
        heading(ax, panel.optimizer, panel.title)
        cloud = array.sel(optimizer=panel.optimizer).isel(sample_run=panel.position).values
        x, y = cloud[:_MAX_POINTS, 0], cloud[:_MAX_POINTS, 1]
        ax.plot(x, y, ".", color=PRIMAL, ms=2.5, mew=0, alpha=0.5, rasterized=True)
        ax.set_aspect("equal", adjustable="box")
    label_axes(axes, "first coordinate", "second coordinate")
    return finish(figure)


def paths(section: Section, cells: list[Cell]) -> Figure | None:
    """The primal player's trajectory: two coordinates, or one coordinate against the step."""
    ds = section.dataset
    if "path" not in ds or not cells:
        return None
    plane = ds.sizes["primal_coordinate"] > 1
    array = ds["path"].transpose("optimizer", "path_run", "step", "primal_coordinate")
    figure, axes = panels(len(cells), square=0.8 if plane else None)
    for cell, ax in zip(cells, axes, strict=True):
        heading(ax, cell.name)
        ax.grid(axis="both" if plane else "y")
        for line in array.sel(optimizer=cell.name).values[:_MAX_PATHS].astype(float):
            finite = np.isfinite(line[:, :2]).all(axis=1)
            if not finite.any():
                continue
            x = line[finite, 0] if plane else ds["step"].values[finite]
            y = line[finite, 1] if plane else line[finite, 0]
            ax.plot(x, y, color=PRIMAL, linewidth=0.9, alpha=0.6)
            ax.plot(x[0], y[0], "o", color=PRIMAL, mfc="none", ms=4.5, mew=1)
            ax.plot(x[-1], y[-1], "o", color=PRIMAL, ms=4.5)
    if not plane:
        step_axis(axes)
    elif 1 / _ELONGATED < axes[0].get_data_ratio() < _ELONGATED:
        for ax in axes:
            ax.set_aspect("equal", adjustable="box")
    label_axes(axes, "x₁" if plane else "training step", "x₂" if plane else "x")
    handles: list[Artist] = [
        Line2D([], [], color=PRIMAL, marker="o", mfc="none", ls="", ms=5, label="start"),
        Line2D([], [], color=PRIMAL, marker="o", ls="", ms=5, label="last checkpoint"),
    ]
    draw_legend(figure, handles)
    return finish(figure)
