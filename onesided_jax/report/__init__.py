"""Figures and one self-contained HTML page from the results of an analysis.

The input is an ``xarray.Dataset``, a list of verdicts and a manifest; no run directory is read.
Importing this package raises ImportError without the extra ``analysis``.

* :class:`Section` holds the results of one run directory.
* :func:`figures` draws all figures that the results allow; :func:`save_figures` writes SVG and PDF.
* :func:`render` returns the page; :func:`write_report` writes page and figures.
"""

from onesided_jax.extras import need

need("analysis", "onesided_jax.report", "xarray", "matplotlib", "jinja2")

from onesided_jax.report._figures import figures, save_figures  # noqa: E402
from onesided_jax.report._page import render, write_report  # noqa: E402
from onesided_jax.report._pictures import save_samples  # noqa: E402
from onesided_jax.report._plane import plane_axes  # noqa: E402
from onesided_jax.report._section import Section  # noqa: E402
from onesided_jax.report._style import style, svg_bytes  # noqa: E402

__all__ = [
    "Section",
    "figures",
    "plane_axes",
    "render",
    "save_figures",
    "save_samples",
    "style",
    "svg_bytes",
    "write_report",
]
