"""Draws and saves all figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.figure import Figure

from onesided_jax.report import _curves, _grid, _mvi, _pictures, _plane, _series
from onesided_jax.report._section import Cell, Section, cells
from onesided_jax.report._style import pdf_bytes, style, svg_bytes

FIGURES: dict[str, Callable[[Section, list[Cell]], Figure | None]] = {
    "plane": _plane.plane,
    "gradient_norms": _curves.gradient_norms,
    "mvi": _mvi.mvi,
    "mvi_controls": _mvi.mvi_controls,
    "necessary": _series.necessary,
    "grid": _grid.grid,
    "samples": _pictures.samples,
    "points": _pictures.points,
    "paths": _pictures.paths,
    "losses": _series.losses,
    "minibatch_gradient_norms": _series.minibatch_gradient_norms,
}
"""Name -> function; a function returns None if its variables are missing or empty."""


def figures(section: Section) -> dict[str, Figure]:
    """Draws every figure for which the section's dataset has the variables.

    Args:
      section: results of one run directory.

    Returns:
      Name -> figure, in the order of the page. The names are those of :data:`FIGURES`.

    Example:
      >>> import numpy as np, xarray as xr
      >>> from onesided_jax.report import Section
      >>> norms = 2.0 ** -np.arange(6.0).reshape(1, 1, 3, 2)
      >>> ds = xr.Dataset(
      ...     {"gradient_norm": (("optimizer", "run", "step", "player"), norms)},
      ...     {"optimizer": ["adam"], "step": [0, 10, 20], "player": ["primal", "dual"]},
      ... )
      >>> list(figures(Section("demo", ds, [], {})))
      ['gradient_norms']
    """
    with style():
        everything = cells(section)
        drawn = {name: draw(section, everything) for name, draw in FIGURES.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def save_figures(figs: Mapping[str, Figure], folder: Path | str) -> list[Path]:
    """Writes every figure as SVG and PDF; equal figures give equal bytes.

    Args:
      figs: name -> figure, as :func:`figures` returns them.
      folder: created if it does not exist.

    Returns:
      The files written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in figs.items():
        for suffix, draw in ((".svg", svg_bytes), (".pdf", pdf_bytes)):
            path = folder / f"{slug(name)}{suffix}"
            path.write_bytes(draw(figure))
            written.append(path)
    return written


def slug(text: str) -> str:
    """A file name or HTML identifier from any text.

    Example:
      >>> slug("MNIST 5k, adam/../x"), slug("<>")
      ('mnist-5k-adam-x', 'section')
    """
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-") or "section"
