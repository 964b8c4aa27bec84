"""What `onesided analyze` prints: a line per optimizer, whatever the number of settings."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from onesided_jax.analysis import Analysis, Verdict
from onesided_jax.analysis.inference import Interval
from onesided_jax.cli._tables import explanations, verdict_table

NONE = Interval(np.nan, np.nan, np.nan)


def convergence(optimizer, holds, ratio, rate=0.01, passes=None, not_judged=""):
    details = {
        "P1": {"primal_ratio": ratio},
        "P2": {"dual_ratio": Interval(1.02, 0.913, 1.13)},
        "quality_gate": {"passes": passes},
        "not_judged": not_judged,
    }
    rates = {"primal_learning_rate": rate}
    return Verdict("one_sided_convergence", optimizer, holds, *ratio, 5, rates, "Why.", details)


def minty(optimizer, holds, rate=0.01):
    rates = {"primal_learning_rate": rate}
    details = {"not_judged": ""}
    return Verdict("one_sided_mvi", optimizer, holds, 0.0, 0.0, 0.0, 5, rates, "Why.", details)


def printed(dataset, verdicts, width):
    found, out = Analysis(dataset, verdicts, []), io.StringIO()
    console = Console(file=out, width=width)
    console.print(verdict_table(found, "runs/a: verdicts", width))
    console.print("\n".join(explanations(found, Path("v.json"))), markup=False, highlight=False)
    return out.getvalue()


def grid(settings):
    """Six of ten settings supported by one optimizer, none by the other; their ratios grow."""
    out = []
    for i in range(settings):
        ratio = Interval(0.1 + i, 0.05 + i, 0.15 + i)
        mvi = "inconclusive" if i % 2 else True
        holds = (True, True, True, "inconclusive", True, False, True, False, True, False)[i % 10]
        out += [convergence("amsgrad_eg", holds, ratio, i), minty("amsgrad_eg", mvi, i)]
        out.append(convergence("adam", False, ratio, i))
    return out


@pytest.mark.parametrize("settings", [10, 10_000])
@pytest.mark.parametrize("width", [80, 120])
def test_any_number_of_settings_fits_a_screen(settings, width):
    text = printed(xr.Dataset(), grid(settings), width)
    lines = text.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= width
    assert "\x1b" not in text  # a pipe gets no colours
    sixth, tenth = f"{6 * settings // 10:,}", f"{settings // 10:,}"
    statuses = (f"{sixth} supported", f"{tenth} undecided", f"{3 * settings // 10:,} refuted")
    assert all(status in text for status in statuses)
    if (settings, width) == (10, 120):
        (line,) = (line for line in lines if line.startswith("amsgrad_eg"))
        assert ", ".join(statuses) in line
        assert "0.1 [0.05, 0.15]" in line  # of the best setting
        assert "1.02 [0.913, 1.13]" in line
        assert "5 supported, 5 undecided" in line
        (line,) = (line for line in lines if line.startswith("adam"))
        assert "10 refuted" in line
        assert line.rstrip().endswith("not tested")


def test_the_best_setting_is_a_supported_one():
    verdicts = [
        convergence("adam", False, Interval(0.1, 0.1, 0.1), 1),
        convergence("adam", True, Interval(0.3, 0.2, 0.4), 2),
        convergence("adam", True, Interval(0.2, 0.1, 0.3), 3),
        convergence("adam", "inconclusive", NONE, 4),
    ]
    assert "0.2 [0.1, 0.3]" in printed(xr.Dataset(), verdicts, 120)


GATES = {  # passes of the seeds, and the words of the column
    "some": ([True, False, True, True, False], "3 of 5"),
    "from a file": (np.array([False, False]), "0 of 2"),
    "none": (None, "no gate"),
}


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("width", [80, 120])
def test_a_gan_has_a_column_of_its_samples(name, width):
    passes, words = GATES[name]
    long = "past_amsgrad_eg"
    verdicts = [convergence(long, True, Interval(0.61, 0.052, 1.17), passes=passes)]
    text = printed(xr.Dataset(attrs={"quality_note": "no labels"}), verdicts, width)
    assert words in text
    assert all(word in text for word in ("generator", "discriminator", "samples", long))
    assert max(map(len, text.splitlines())) <= width
    assert "[0.052, 1.17]" in text
    assert "samples" not in printed(xr.Dataset(), verdicts, width)


def test_what_was_not_judged_is_told_once_with_its_cause():
    one = [convergence("adam", "inconclusive", Interval(0.47, np.nan, np.nan), not_judged="1 seed")]
    text = printed(xr.Dataset(), one, 120)
    assert "not judged  0.47" in text
    assert "Not judged: 1 seed.\n" in text
    assert "best setting" not in text
    assert text.endswith("Details: every verdict's numbers and reason are in v.json\n")
    many = [
        convergence("adam", "inconclusive", NONE, i, not_judged=f"cause {min(i, 4)}")
        for i in range(9)
    ]
    text = printed(xr.Dataset(), many, 120)
    assert "9 not judged  unknown" in text
    assert "Not judged: cause 4 (5 times); cause 0; cause 1; 2 other reasons.\n" in text


def test_without_verdicts_there_is_an_empty_table():
    assert "optimizer" in printed(xr.Dataset(), [], 80)
