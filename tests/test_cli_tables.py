"""What `onesided analyze` prints: a line per optimizer and claim, however many settings."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from onesided_jax.analysis import Analysis, Verdict
from onesided_jax.cli._tables import explanations, verdict_table

CONVERGES, MVI = "only the primal player converges", "the one-sided MVI holds late in the run"
STATUSES = ["supported", "supported", "supported", "undecided", "supported", "refuted"]
STATUSES += ["supported", "refuted", "supported", "refuted"]


def verdict(claim, cell, status, effect, rate=0.01, interval=(np.nan, np.nan), missing=""):
    return Verdict(
        claim=claim, cell=cell, setting={"rate": rate}, status=status, effect=effect,
        interval=interval, sentence=f"{status} by {cell}.", numbers={"missing": missing},
    )  # fmt: skip


def printed(verdicts, width):
    found, out = Analysis(xr.Dataset(), verdicts, []), io.StringIO()
    console = Console(file=out, width=width)
    console.print(verdict_table(found, "runs/a: verdicts"))
    console.print("\n".join(explanations(found, Path("v.json"))), markup=False, highlight=False)
    return out.getvalue()


def grid(settings):
    """Six of ten settings supported by one optimizer, none by the other; their effects grow."""
    out = []
    for i in range(settings):
        span = (0.05 + i, 0.15 + i)
        mvi = "undecided" if i % 2 else "supported"
        out.append(verdict(CONVERGES, "amsgrad_eg", STATUSES[i % 10], 0.1 + i, i, span))
        out.append(verdict(MVI, "amsgrad_eg", mvi, 0.0, i))
        out.append(verdict(CONVERGES, "adam", "refuted", 0.1 + i, i, span))
    return out


@pytest.mark.parametrize("settings", [10, 10_000])
@pytest.mark.parametrize("width", [80, 120])
def test_any_number_of_settings_fits_a_screen(settings, width):
    text = printed(grid(settings), width)
    lines = text.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= width
    assert "\x1b" not in text  # a pipe gets no colours
    sixth, tenth = f"{6 * settings // 10:,}", f"{settings // 10:,}"
    words = " ".join(text.split())
    for status in (f"{sixth} supported", f"{tenth} undecided", f"{3 * settings // 10:,} refuted"):
        assert status.split()[0] in words
    if (settings, width) == (10, 120):
        (line,) = (line for line in lines if line.startswith("amsgrad_eg"))
        assert "6 supported, 1 undecided, 3 refuted" in line
        assert "0.1 [0.05, 0.15]" in line  # of the best setting
        assert "5 supported, 5 undecided" in text
        (line,) = (line for line in lines if line.startswith("adam"))
        assert "10 refuted" in line


def test_the_best_setting_is_a_supported_one():
    verdicts = [
        verdict(CONVERGES, "adam", "refuted", 0.1, 1, (0.1, 0.1)),
        verdict(CONVERGES, "adam", "supported", 0.3, 2, (0.2, 0.4)),
        verdict(CONVERGES, "adam", "supported", 0.2, 3, (0.1, 0.3)),
        verdict(CONVERGES, "adam", "undecided", np.nan, 4),
    ]
    text = printed(verdicts, 120)
    assert "0.2 [0.1, 0.3]" in text
    assert "supported first, then the smallest effect" in " ".join(text.split())


@pytest.mark.parametrize("width", [80, 120])
def test_a_single_setting_is_told_in_sentences(width):
    long = "past_amsgrad_eg"
    verdicts = [
        verdict(CONVERGES, long, "supported", 0.61, interval=(0.052, 1.17)),
        verdict(MVI, long, "undecided", np.nan),
    ]
    text = printed(verdicts, width)
    assert max(map(len, text.splitlines())) <= width
    assert "0.61 [0.052, 1.17]" in text
    assert "unknown" in text
    assert f"{long}: supported by {long}." in text
    assert "best setting" not in text
    assert text.endswith("All numbers and sentences: v.json\n")


def test_what_was_missing_is_told_once_with_its_count():
    many = [
        verdict(CONVERGES, "adam", "undecided", np.nan, i, missing=f"cause {min(i, 4)}")
        for i in range(9)
    ]
    text = printed(many, 120)
    assert "9 undecided" in text
    assert "Not judged: cause 4 (5 times); cause 0; cause 1; 2 other reasons.\n" in text


def test_without_verdicts_there_is_an_empty_table():
    assert "optimizer" in printed([], 80)
