"""Figures and one self-contained HTML page from the results of an analysis.

This room reads results only (an ``xarray.Dataset``, a list of verdicts, a manifest); it neither
trains nor analyses, and it never looks into a run directory.

* :class:`Section` is one run directory's results, the input of everything here.
* :func:`figures` draws what applies; :func:`save_figures` writes it as SVG and PDF.
* :func:`render` returns the page; :func:`write_report` writes page and figures.
"""

from onesided_jax.report._figures import figures, save_figures
from onesided_jax.report._page import render, write_report
from onesided_jax.report._pictures import save_samples
from onesided_jax.report._section import Section

__all__ = ["Section", "figures", "render", "save_figures", "save_samples", "write_report"]
