"""The HTML page shows what it is given and executes nothing of it."""

from __future__ import annotations

import dataclasses
import json
from html.parser import HTMLParser

import pytest

import onesided_jax as osj
from onesided_jax.cli import main

from .workload import recipe

EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "' onmouseover='alert(3)",
    "</style><svg onload=alert(4)>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(5)",
    "]]><!-- --><b>&lt;",
]


class Page(HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self):
        super().__init__()
        self.tags: set[str] = set()
        self.bad: list[tuple[str, str, str | None]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            remote = name in ("src", "href", "xlink:href") and not str(value).startswith("#")
            if name.startswith("on") or (remote and not str(value).startswith("data:")):
                self.bad.append((tag, name, value))

    handle_startendtag = handle_starttag


def check(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    assert page.bad == []
    assert page.tags.isdisjoint({"script", "img", "iframe", "object", "embed", "u", "base", "form"})
    return page


def test_the_parser_of_this_test_sees_what_is_not_escaped():
    for evil in EVIL[:2]:
        with pytest.raises(AssertionError):
            check(f"<p>{evil}</p>")
    with pytest.raises(AssertionError):
        check(f"<p title='{EVIL[2]}'>")


@pytest.mark.parametrize("i", range(len(EVIL)))
def test_names_descriptions_and_folders_are_escaped(i, tmp_path, undisturbed_analysis):
    run, analysis = undisturbed_analysis
    evil = EVIL[i]
    section = osj.report.Section(
        title=evil,
        dataset=analysis.dataset.assign_attrs(game_description=evil, game=evil, recipe_name=evil),
        verdicts=[
            {**v.to_json(), "sentence": evil, "numbers": {evil: evil, "x": [evil], "measure": evil}}
            for v in analysis.verdicts
        ],
        manifest={**run.manifest, "command": evil, "directory": evil, "versions": {evil: evil}},
    )
    page = osj.report.render([section], title=evil)
    check(page)
    assert "<" not in evil or evil not in page


@pytest.fixture(scope="module")
def undisturbed_analysis(tmp_path_factory):
    out = tmp_path_factory.mktemp("escaping") / "run"
    run = osj.run(recipe(game="carousel", steps=40, every=10, name=EVIL[0]), out)
    return run, osj.analyze(run)


def test_the_whole_way_from_a_recipe_to_the_page(tmp_path, capsys):
    """Through the command line, with markup wherever a user can write."""
    folder = tmp_path / "<svg onload=alert(6)>{{ 7 * 7 }}"
    folder.mkdir()
    evil = dataclasses.replace(
        recipe(game="carousel", steps=40, every=10),
        name="<b>[/]'\"",
        description=" ".join(EVIL),
    )
    path = folder / "<i>.json"
    path.write_text(evil.to_json())
    out = folder / "'\"<u>"
    for command in (
        ["sweep", str(path), "--out", str(out), "--set", "b1=0.5"],
        ["analyze", str(out)],
        ["report", str(out)],
        ["resume", str(out)],
    ):
        assert main(command) == 0
    said = capsys.readouterr()
    assert "<u>" in said.out.replace("\n", "")
    page = (out / "report.html").read_text("utf-8")
    check(page)
    assert "&lt;script&gt;alert(1)" in page
    assert json.loads((out / "manifest.json").read_text())["recipe"]["name"] == evil.name
