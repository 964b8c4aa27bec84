"""The site says what the package does: its programs run, its reference is complete."""

import re
from pathlib import Path

import pytest

import onesided_jax as osj

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(
    path.name for path in DOCS.glob("*.md") if "```python" in path.read_text(encoding="utf-8")
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
