"""The page: one HTML file that holds everything it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from onesided_jax.report import _tables
from onesided_jax.report._figures import figures, save_figures, slug
from onesided_jax.report._quality import gate_column, quality_table
from onesided_jax.report._section import Section, cells
from onesided_jax.report._style import inline_svg, svg_bytes
from onesided_jax.runs.files import write_bytes_atomically

__all__ = ["render", "write_report"]

TITLE = "One-sided convergence: report"


class Chapter(NamedTuple):
    """A heading of a section and the figures under it."""

    title: str
    figures: tuple[str, ...]


CHAPTERS = {
    "plane": Chapter("Does only one player converge?", ("plane",)),
    "norms": Chapter("Gradient norms of both players", ("gradient_norms",)),
    "mvi": Chapter("The one-sided MVI", ("mvi", "mvi_controls", "necessary")),
    "grid": Chapter("Learning rates", ("grid",)),
    "output": Chapter("What the runs produced", ("samples", "points", "paths")),
    "losses": Chapter(
        "Losses and minibatch gradient norms", ("losses", "minibatch_gradient_norms")
    ),
}
CAPTIONS = {
    "plane": "Late over early gradient norm of both players, a dot per run, on logarithmic axes. "
    "The lines are the boundaries of the verdict. A dot beyond the axes sits on their edge.",
    "gradient_norms": "Gradient norms √U at the checkpoints, on a logarithmic axis. U is the "
    "unbiased estimate of the squared norm on fresh data. A line is interrupted where U cannot be "
    "told from zero, and ends where its run diverged.",
    "mvi": "Cosine of the angle between xₛ − x* and the primal gradient at (xₛ, yₜ), late in "
    "training, on fresh data. The one-sided MVI asks for no negative entry. Entries on the thin "
    "diagonal pair players of the same checkpoint and are left out of the verdict.",
    "mvi_controls": "Negative mass: the share of negative entries in the sum of all entries, in "
    "absolute values. The dashed line is the boundary of the verdict. The controls must lie above "
    "it, or the test has no power.",
    "necessary": "N[t] = ‖∇ₓf(x*, yₜ)‖ / ‖∇ₓf(xₜ, yₜ)‖. If the one-sided MVI held for every x "
    "near x*, N would be close to 0 at every t. At the dotted line the gradient at x* is as large "
    "as on the trajectory.",
    "grid": "Primal gradient norm late in training, median over seeds, for every pair of learning "
    "rates. The outlined cell is the setting "
    "shown in the other figures.",
    "samples": "Images drawn by the generator at the last checkpoint; not selected.",
    "points": "Points drawn by the generator at the last checkpoint; not selected.",
    "paths": "Trajectory of the primal player at the checkpoints.",
    "losses": "Training losses as recorded, averaged over neighbouring records. Extreme values "
    "(half a percent at either end) may lie outside the axis.",
    "minibatch_gradient_norms": "Norms of the minibatch gradients used in training. They include "
    "the sampling noise, and so overstate the gradient norm; the verdicts do not use them.",
}


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _chapters(drawn: Mapping[str, bytes], prefix: str) -> dict[str, dict[str, object]]:
    out: dict[str, dict[str, object]] = {}
    for key, chapter in CHAPTERS.items():
        shown = [
            {
                "id": f"{prefix}-{name}",
                "caption": CAPTIONS[name],
                # The only Markup of the page: matplotlib's own SVG, its text drawn as outlines.
                "svg": Markup(inline_svg(drawn[name], f"{prefix}-{name}", CAPTIONS[name])),
            }
            for name in chapter.figures
            if name in drawn
        ]
        out[key] = {"title": chapter.title, "figures": shown}
    return out


def _compose(sections: Sequence[Section], drawn: Sequence[Mapping[str, bytes]], title: str) -> str:
    shown = []
    for number, (section, figs) in enumerate(zip(sections, drawn, strict=True), start=1):
        runs = cells(section)
        shown.append(
            {
                "id": f"s{number}",
                "title": section.title,
                "description": section.dataset.attrs.get("game_description", ""),
                "notes": [*section.notes, *section.dataset.attrs.get("notes", "").splitlines()],
                "counts": _tables.counts(runs),
                "facts": _tables.facts(section),
                "claims": _tables.claims(section),
                "chapters": _chapters(figs, f"s{number}"),
                "summary": _tables.summary_table(runs),
                "quality": quality_table(section, runs),
                "runs": _tables.run_table(runs, gate_column(section, runs)),
                "origin": _tables.origin(section),
            }
        )
    template = _environment().get_template("report.html.jinja")
    page = template.render(title=title, sections=shown)
    return page.encode(errors="replace").decode()  # a file name may hold half a surrogate pair


def render(sections: Sequence[Section], *, title: str = TITLE) -> str:
    """The report as one HTML page that needs nothing but itself.

    Figures are inline SVG, styles are inline, there is no script; every name and sentence that
    comes from the results is escaped.

    Args:
      sections: results, one per run directory, in the order of the page.
      title: heading of the page.

    Returns:
      The HTML text.

    Raises:
      ValueError: if a verdict has an unknown status.

    Example:
      >>> import xarray as xr
      >>> from onesided_jax.report import Section
      >>> page = render([Section("<empty>", xr.Dataset(), [], {})])
      >>> page[:15], "&lt;empty&gt;" in page
      ('<!doctype html>', True)
    """
    drawn = [
        {name: svg_bytes(figure) for name, figure in figures(section).items()}
        for section in sections
    ]
    return _compose(sections, drawn, title)


def write_report(
    sections: Sequence[Section],
    out_html: Path | str,
    figures_folder: Path | str,
    *,
    title: str = TITLE,
) -> list[Path]:
    """Write the page, and every figure as SVG and PDF.

    Args:
      sections: results, one per run directory.
      out_html: the page's file.
      figures_folder: where the figures go; with several sections, into a folder each, named by
        the section's number and title.
      title: heading of the page.

    Returns:
      The files written, the page first.
    """
    out_html, folder = Path(out_html), Path(figures_folder)
    written, drawn = [out_html], []
    for number, section in enumerate(sections, start=1):
        own = folder if len(sections) == 1 else folder / f"{number}-{slug(section.title)}"
        files = save_figures(figures(section), own)
        written += files
        drawn.append({f.stem: f.read_bytes() for f in files if f.suffix == ".svg"})
    out_html.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(out_html, _compose(sections, drawn, title).encode())
    return written
