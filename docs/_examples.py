"""Runs the examples and writes their pages: ``python docs/_examples.py [NAME...]``.

An example is ``docs/examples/NAME.py``: cells that begin with ``# %%``, text in cells that begin
with ``# %% [markdown]``. Its page shows text, code, printed output and figures. The comment
``# small: VALUE`` behind an assignment gives the value with which the tests run it, and a line
with ``# not small`` is left out there.
"""

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

EXAMPLES = Path(__file__).parent / "examples"
SMALL = re.compile(r"^(\w+ = ).*?  # small: (.*)$", re.MULTILINE)
NOT_SMALL = re.compile(r"^.*  # not small$", re.MULTILINE)
COMMENT = re.compile(r"  # (small: .*|not small)$", re.MULTILINE)


def cells(text: str) -> Iterator[tuple[bool, str]]:
    """Whether it is text, and the source, of every cell; the text without its ``# ``."""
    for part in re.split(r"^# %%", text, flags=re.MULTILINE)[1:]:
        head, _, source = part.partition("\n")
        prose = "[markdown]" in head
        yield prose, (re.sub(r"^# ?", "", source, flags=re.MULTILINE) if prose else source).strip()


def shrunk(text: str) -> str:
    """The example at the size that the tests run."""
    return NOT_SMALL.sub("", SMALL.sub(r"\1\2", text))


def page(name: str) -> str:
    """Runs an example and returns its page; figures are saved beside it."""
    import matplotlib.pyplot as plt

    text = (EXAMPLES / f"{name}.py").read_text("utf-8")
    names: dict = {"__name__": name}
    parts = []
    for prose, source in cells(text):
        if prose:
            parts.append(source)
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, name, "exec"), names)
        parts.append(f"```py\n{COMMENT.sub('', source)}\n```")
        if printed.getvalue():
            parts.append(f"```text\n{printed.getvalue().rstrip()}\n```")
        for number in plt.get_fignums():
            figure = plt.figure(number)
            file = f"{name}-{len(parts)}.svg"
            figure.savefig(EXAMPLES / file, metadata={"Date": None}, bbox_inches="tight")
            parts.append(f"![{figure.get_suptitle() or name}]({file})")
        plt.close("all")
    command = f"python docs/_examples.py {name}"
    parts.append(f"*Made by `{command}` from `docs/examples/{name}.py`.*")
    return "\n\n".join(parts) + "\n"


def main(names: list[str]) -> None:
    """Writes the pages of the named examples, or of all."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "onesided-jax"
    for name in names or sorted(path.stem for path in EXAMPLES.glob("*.py")):
        (EXAMPLES / f"{name}.md").write_text(page(name), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
