"""Style of the figures (colours, fonts, panels, legends), and their conversion to bytes.

Figures do not use pyplot or change the caller's rcParams. In dark mode the page replaces the
colours in :data:`THEMED`, so elements that follow the theme must use exactly these colours.
"""

from __future__ import annotations

import html
import io
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from onesided_jax.report._text import compact, literal, number, power_of_ten

INK, MUTED, RULE = "#24292f", "#57606a", "#d8dee4"
PRIMAL, DUAL = "#0072b2", "#d55e00"  # Okabe and Ito's blue and vermillion
NEGATIVE, POSITIVE = "#762a83", "#1b7837"  # the ends of PRGn, distinct from the players' colours
VOID = "#b7bdc4"  # an empty cell of a heat map
ON_CELL = "#24292e"  # ink on a cell; not themed, because cells keep their colours
THEMED = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    PRIMAL: "--primal",
    DUAL: "--dual",
    NEGATIVE: "--negative",
    POSITIVE: "--positive",
}
THIN: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.45}
BOLD: dict[str, Any] = {"linewidth": 1.9}
PLAYER_STYLE: dict[str, tuple[str, Any]] = {"primal": (PRIMAL, "-"), "dual": (DUAL, (0, (4, 1.6)))}

_WIDTHS = {1: 5.6, 2: 8.4}  # columns to inches; with more columns _FULL
_FULL = 10.4
_HEADING = 0.45  # inches above a panel
_GUTTER = 0.45  # inches beside a panel
_BOLD_LETTER, _SMALL_LETTER = 0.092, 0.066  # inches, a little above the mean of English text
_LEADING = 11  # points
_LONG = 1e5  # a logarithmic axis with a larger range is labelled in powers of ten
_PIXELS_PER_POINT = 103 / 72  # the full width is that of the page's text column, 1072 pixels
_RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same everywhere
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 8.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.grid": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.solid_capstyle": "round",
    "lines.dash_capstyle": "butt",
    "svg.fonttype": "path",
    "svg.hashsalt": "onesided-jax",
    "pdf.fonttype": 3,  # outlines; embedding TrueType takes three times as long
    "savefig.dpi": 200,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.05,
}


@contextmanager
def style() -> Iterator[None]:
    """Sets the report's rcParams for a block, and restores the caller's afterwards."""
    with mpl.rc_context(), warnings.catch_warnings():
        # A user's name may have a character that DejaVu lacks: draw a box without a warning.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def panels(
    count: int,
    *,
    height: float = 2.5,
    columns: int | None = None,
    share_y: bool = True,
    square: float | None = None,
    below: float = 0.5,
) -> tuple[Figure, list[Axes]]:
    """Makes a figure with ``count`` panels in reading order; returns it and its axes.

    Args:
      count: number of panels, >= 1.
      height: height of one row of panels, inches.
      columns: panels per row; by default the number that leaves the fewest gaps.
      share_y: whether all panels share the y axis.
      square: makes the panels square; inches of width for labels and colour bars.
      below: inches under the lowest row, for the legend.

    Example:
      >>> figure, axes = panels(5)
      >>> len(axes), float(figure.get_figwidth())
      (5, 10.4)
    """
    if columns is None:
        columns = count if count <= 4 else min((3, 4), key=lambda c: (-count % c, -c))
    rows = -(-count // columns)
    width = _WIDTHS.get(columns, _FULL)
    if square is not None:
        height = (width - square) / columns + _HEADING
    figure = Figure(figsize=(width, rows * height + below), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=share_y, squeeze=False)
    axes = list(grid.flat)
    for position, ax in enumerate(axes[:count]):
        if position + columns >= count:  # no panel below: keep the tick labels
            ax.tick_params(labelbottom=True)
    for ax in axes[count:]:
        ax.remove()
    return figure, axes[:count]


def heading(ax: Axes, title: str, *lines: str) -> None:
    """Writes a bold title and smaller lines above the axes, wrapped to their width."""
    place = ax.get_subplotspec()
    figure = ax.get_figure(root=True)
    columns = place.get_gridspec().ncols if place is not None else 1
    width = (figure.get_figwidth() if figure is not None else _FULL) / columns - _GUTTER
    small = [part for line in lines for part in _wrap(line, width / _SMALL_LETTER)]
    bold = "\n".join(_wrap(title, width / _BOLD_LETTER))
    ax.set_title(bold, loc="left", fontweight="bold", pad=5 + _LEADING * len(small))
    for position, line in enumerate(reversed(small)):
        ax.annotate(
            line,
            (0, 1),
            xytext=(0, 5 + _LEADING * position),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=8,
            color=MUTED,
        )


def _wrap(text: str, letters: float) -> list[str]:
    """Wraps text to at most three lines; breaks words that are too long."""
    clean = " ".join(str(text).split())
    parts = textwrap.wrap(clean, max(int(letters), 8), max_lines=3, placeholder="…")
    return [literal(part) for part in parts]


def label_axes(axes: Sequence[Axes], x: str, y: str) -> None:
    """Labels the outer axes of the panels."""
    columns = sum(_is_in(ax, "is_first_row") for ax in axes)
    for position, ax in enumerate(axes):
        if position + columns >= len(axes):
            ax.set_xlabel(x)
        if _is_in(ax, "is_first_col"):
            ax.set_ylabel(y)


def _is_in(ax: Axes, question: str) -> bool:
    place = ax.get_subplotspec()
    return place is None or bool(getattr(place, question)())


def step_axis(axes: Sequence[Axes]) -> None:
    """Formats axes of training steps: few ticks, such as 5k and 10k."""
    for ax in axes:
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        ax.xaxis.set_major_formatter(lambda value, _: compact(value))


def log_axis(ax: Axes, bottom: float, top: float) -> None:
    """Makes the y axis logarithmic, from ``bottom`` > 0, with few ticks."""
    ax.set_yscale("log", nonpositive="mask")
    ax.set_ylim(bottom, top)
    ax.yaxis.set_major_locator(LogLocator(numticks=6))
    ax.yaxis.set_minor_locator(NullLocator())
    if top / bottom < 30:  # there may be only one power of ten, so add ticks in between
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
    write = power_of_ten if top / bottom > _LONG else number
    ax.yaxis.set_major_formatter(lambda value, _: write(value))


def draw_legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """Draws one legend for all panels, under them."""
    columns = min(len(handles), 5 if figure.get_figwidth() == _FULL else 2)
    figure.legend(
        handles=list(handles),
        loc="outside lower left",
        ncols=columns,
        handlelength=2.4,
        columnspacing=1.6,
        borderpad=0.2,
    )


def draw_colorbar(
    figure: Figure, axes: list[Axes], colours: ScalarMappable, label: str, *, extend: str
) -> None:
    bar = figure.colorbar(
        colours, ax=axes, label=label, extend=extend, extendfrac=0.03, aspect=30, pad=0.015
    )
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(length=2)
    bar.ax.minorticks_off()
    low, high = colours.get_clim()
    write = power_of_ten if low and high and low > 0 and high / low > _LONG else number
    bar.formatter = FuncFormatter(lambda value, _: write(value))
    bar.update_ticks()
    if bar.solids is not None:
        bar.solids.set_rasterized(True)


def finish(figure: Figure) -> Figure:
    """Computes the layout once, so that drawing the figure again gives the same bytes."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine(None)  # not "none": with that placeholder, saving draws twice
    return figure


def svg_bytes(figure: Figure) -> bytes:
    """The figure as an SVG file; no date, fonts as outlines."""
    return _bytes(figure, "svg", {"Date": None})


def pdf_bytes(figure: Figure) -> bytes:
    """The figure as a PDF file; no date, fonts as outlines."""
    return _bytes(figure, "pdf", {"CreationDate": None})


def _bytes(figure: Figure, kind: str, metadata: dict[str, None]) -> bytes:
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


_STRIP = re.compile(
    r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>"
    r"|<defs>\s*<style[^>]*>.*?</style>\s*</defs>|\sxmlns(:\w+)?=\"[^\"]*\"",
    re.DOTALL,
)


def inline_svg(svg: bytes, prefix: str, description: str) -> str:
    """Converts an SVG file of :func:`svg_bytes` to an element of an HTML page.

    Identifiers get a prefix, because all figures of a page share one name space. Theme colours
    become CSS variables, the background is removed, and sizes become relative.

    Args:
      svg: the SVG file.
      prefix: unique on the page; letters, digits, hyphens.
      description: plain text for screen readers.
    """
    text = _STRIP.sub("", svg.decode()).strip()
    text = text.replace("xlink:href=", "href=")
    text = text.replace("fill: #ffffff", "fill: none", 1)  # the first patch is the background
    text = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    for colour, variable in THEMED.items():
        text = text.replace(colour, f"var({variable})")
    said = html.escape(description)

    def opening(match: re.Match[str]) -> str:
        points = float(match[2])
        size = f"width:{points * _PIXELS_PER_POINT:.0f}px"
        return f'<svg {match[1]} role="img" aria-label="{said}" style="{size}">'

    view = r'<svg\b[^>]*?(viewBox="\S+ \S+ (\S+) [^"]*")[^>]*>'
    return re.sub(view, opening, text, count=1)
