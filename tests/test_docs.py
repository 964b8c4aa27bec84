"""The site says what the package does: its programs run, its reference is complete."""

import csv
import re
from pathlib import Path

import pytest

import onesided_jax as osj

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(
    path.name for path in DOCS.glob("*.md") if "```python" in path.read_text(encoding="utf-8")
)
RESULTS = DOCS.parent / "experiments" / "results"
QUOTING = (
    *sorted((DOCS / "results").glob("*.md")),
    DOCS.parent / "README.md",
)
ROOMS = ("optimizers", "games", "networks", "datasets", "runs", "sweeps", "analysis", "report")


@pytest.mark.parametrize("page", PAGES)
def test_the_programs_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    exec(compile("\n".join(blocks), page, "exec"), {"__name__": page})


@pytest.mark.parametrize("room", ROOMS)
def test_the_reference_has_every_public_name(room):
    reference = "\n".join(path.read_text("utf-8") for path in (DOCS / "api").glob("*.md"))
    listed = re.findall(rf"^::: onesided_jax\.{room}\.(?:\w+\.)?(\w+)$", reference, re.MULTILINE)
    assert sorted(listed) == sorted(getattr(osj, room).__all__)


def test_the_reference_shows_functions_where_modules_share_their_names():
    reference = "\n".join(path.read_text("utf-8") for path in (DOCS / "api").glob("*.md"))
    package = Path(osj.__file__).parent
    for room, name in re.findall(r"^::: onesided_jax\.(\w+)\.(\w+)$", reference, re.MULTILINE):
        assert not (package / room / f"{name}.py").exists(), f"write ...{name}.{name}"


def test_the_table_of_games_is_complete():
    table = re.findall(r"^\| \[`(\w+)`\]", (DOCS / "games.md").read_text("utf-8"), re.MULTILINE)
    assert table == list(osj.games.GAMES)
    facts = osj.games.GAMES[table[0]]().facts
    assert facts.monotone


def intervals(text):
    """``m [low, high]`` in a text, as written, and whether in per cent."""
    number = r"([−-]?[0-9.]+(?:e-?[0-9]+)?)( %)?"
    for m, percent, low, _, high, _ in re.findall(rf"{number}\s\[{number}, {number}\]", text):
        yield [part.replace("−", "-") for part in (m, low, high)], bool(percent)


def test_every_interval_that_a_page_quotes_is_in_a_table():
    measured = []
    for path in RESULTS.rglob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            cells = "\n".join(cell for row in csv.reader(file) for cell in row)
        measured += [[float(part) for part in parts] for parts, _ in intervals(cells)]
    quoted = 0
    for page in QUOTING:
        for parts, percent in intervals(page.read_text("utf-8")):
            digits = [len(part.partition(".")[2]) for part in parts]
            assert any(
                all(
                    abs(float(part) - (100 if percent else 1) * value) <= 0.5001 * 10**-places
                    for part, value, places in zip(parts, found, digits, strict=True)
                )
                for found in measured
            ), f"{page.name}: {parts} is in no table"
            quoted += 1
    assert quoted >= 3
