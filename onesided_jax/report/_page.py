"""The page: one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from onesided_jax.report import _tables
from onesided_jax.report._figures import figures, save_figures, slug
from onesided_jax.report._quality import quality_table
from onesided_jax.report._section import Section, cells
from onesided_jax.report._style import inline_svg, svg_bytes
from onesided_jax.runs.files import write_bytes_atomically

TITLE = "One-sided convergence: report"


class Chapter(NamedTuple):
    """A heading of a section, the figures under it, and whether they are collapsed."""

    title: str
    figures: tuple[str, ...]
    folded: bool = False


CHAPTERS = (
    Chapter("Does only one player converge?", ("plane",)),
    Chapter("Gradient norms of both players", ("gradient_norms",)),
    Chapter("Samples and trajectories", ("samples", "points", "paths")),
    Chapter("Learning rates", ("grid",)),
    Chapter("How the one-sided MVI was measured", ("mvi", "mvi_controls", "necessary"), True),
    Chapter("Training metrics", ("losses", "minibatch_gradient_norms"), True),
)
CAPTIONS = {
    "plane": "Each dot is a run: late divided by early gradient norm of both players, on "
    "logarithmic axes. The grey lines are the boundaries of the verdict. Dots beyond the axes are "
    "drawn on their edge.",
    "gradient_norms": "Gradient norms on fresh data, without the bias of minibatch noise. A line "
    "has a gap if the norm cannot be distinguished from zero, and ends if its run diverged.",
    "mvi": "Cosine of the angle between xₛ − x* and the primal gradient at (xₛ, yₜ), late in "
    "training, on fresh data. The one-sided MVI requires that no entry is negative. The verdict "
    "leaves out the diagonal, where both players have the same checkpoint.",
    "mvi_controls": "Negative mass: the share of negative entries in the sum of all absolute "
    "values. The dashed line is the boundary of the verdict. The controls must lie above it; "
    "otherwise the test has no power.",
    "necessary": "N[t] = ‖∇ₓf(x*, yₜ)‖ / ‖∇ₓf(xₜ, yₜ)‖. If the one-sided MVI held for every x "
    "near x*, N would be close to 0. At the dotted line the gradient at x* is as large as on the "
    "trajectory.",
    "grid": "Primal gradient norm late in training, median over seeds, for every pair of learning "
    "rates. The other figures show the outlined setting.",
    "samples": "Images drawn by the generator at the last checkpoint; not selected.",
    "points": "Points drawn by the generator at the last checkpoint; not selected.",
    "paths": "Trajectory of the primal player at the checkpoints.",
    "minibatch_gradient_norms": "Norms of the minibatch gradients used in training. They include "
    "the sampling noise, so the verdicts do not use them.",
    "losses": "Training losses, averaged over neighbouring records. The most extreme values (half "
    "a percent at each end) may lie outside the axis.",
}


def _chapters(drawn: Mapping[str, bytes], prefix: str) -> list[dict[str, object]]:
    out: list[dict[str, object]] = []
    for chapter in CHAPTERS:
        shown = [
            {
                "id": f"{prefix}-{name}",
                "caption": CAPTIONS[name],
                # The only unescaped text of the page: matplotlib's SVG, with text as outlines.
                "svg": Markup(inline_svg(drawn[name], f"{prefix}-{name}", CAPTIONS[name])),
            }
            for name in chapter.figures
            if name in drawn
        ]
        if shown:
            out.append({"title": chapter.title, "folded": chapter.folded, "figures": shown})
    return out


def _compose(sections: Sequence[Section], drawn: Sequence[Mapping[str, bytes]], title: str) -> str:
    shown = []
    for number, (section, figs) in enumerate(zip(sections, drawn, strict=True), start=1):
        runs, attrs = cells(section), section.dataset.attrs
        shown.append(
            {
                "id": f"s{number}",
                "title": section.title,
                "description": attrs.get("game_description", ""),
                "notes": [*section.notes, *attrs.get("notes", "").splitlines()],
                "facts": _tables.facts(section, runs),
                "claims": _tables.claims(section),
                "chapters": _chapters(figs, f"s{number}"),
                "quality": quality_table(section, runs),
                "runs": _tables.run_table(runs),
                "origin": _tables.origin(section),
            }
        )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.jinja").render(title=title, sections=shown)
    return page.encode(errors="replace").decode()  # a file name may have a lone surrogate


def render(sections: Sequence[Section], *, title: str = TITLE) -> str:
    """The report as one HTML page that needs no other file.

    Figures and styles are inline, and there is no script. All names and sentences from the results
    are escaped.

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
