"""Build-time hooks of the site: TeX to MathML, reST docstrings to Markdown, CSV files to tables.

MathML needs no script and no network in the reader's browser. The docstrings keep the form that
optax's have, readable in ``help()``; mkdocstrings wants Markdown.
"""

import csv
import math
import re
import textwrap
from html import unescape
from pathlib import Path

import griffe
from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
CSV = re.compile(r"^<!-- table (\S+): (.+?) -->$", re.MULTILINE | re.DOTALL)
INTERVAL = re.compile(r"\[([^\s\[\],]+), ([^\s\[\],]+)\]")  # not to be torn apart in a narrow cell
CODE = re.compile(r"(^```.*?^```|`[^`\n]*`)", re.DOTALL | re.MULTILINE)
DISPLAY, INLINE = re.compile(r"\$\$(.+?)\$\$", re.DOTALL), re.compile(r"\$([^$\n]+?)\$")
BLOCK = re.compile(r"^( *)\.\. math::\n\n?((?:\1 +.*\n?|\n)+)", re.MULTILINE)
LITERAL = re.compile(r"^( *)(\S.*):(?::\n\n)((?:\1 +.*\n?|\n)+)", re.MULTILINE)
ROLE = re.compile(r":(?:func|class|data|mod|meth|attr):`~?\.?([^`]+)`")
LINK = re.compile(r"`([^`<]+?)\s+<(https?://[^>]+)>`_+", re.DOTALL)
RULER = re.compile(r"^ *=+( +=+)+ *$")


def mathml(tex: str, display: bool = False) -> str:
    """A placeholder for a formula: Markdown takes every <math> element for a block of its own."""
    tex = tex.strip().replace(r"\tfrac", r"\frac").replace(r"\dots", r"\ldots")
    if display and ("&" in tex or r"\\" in tex):
        tex = r"\begin{align*}" + tex + r"\end{align*}"
    element = convert(tex, display="block" if display else "inline").replace("\n", " ")
    return f"formula-{element.encode().hex()}-"


def csv_table(path: str, columns: str) -> str:
    """Some columns of a committed CSV file as a Markdown table.

    ``columns`` reads ``name, name = heading, ...``; numbers are shown with three digits, an
    infinite step as never. What a page shows of a measurement is thus what its script wrote.
    """
    names = [column.split("=", 1) for column in " ".join(columns.split()).split(", ")]
    with (ROOT / path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def show(cell: str) -> str:
        try:
            number = float(cell) + 0.0  # no -0
        except ValueError:
            return INTERVAL.sub("[\\1,\N{NO-BREAK SPACE}\\2]", cell.replace("|", r"\|"))
        if not math.isfinite(number):
            return "–" if math.isnan(number) else "never"
        return f"{number:,.0f}" if number.is_integer() and abs(number) < 1e9 else f"{number:.3g}"

    lines = [[name[-1].strip() for name in names], ["---"] * len(names)]
    lines += [[show(row[name[0].strip()]) for name in names] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def on_page_markdown(markdown: str, **_) -> str:
    """Mkdocs hook: the measured tables of a page, then the formulas outside its code."""
    markdown = CSV.sub(lambda m: csv_table(m[1], m[2]), markdown)

    def convert_text(text: str) -> str:
        text = DISPLAY.sub(lambda m: mathml(m[1], display=True), text)
        return INLINE.sub(lambda m: mathml(unescape(m[1])), text)

    parts = CODE.split(markdown)
    return "".join(part if i % 2 else convert_text(part) for i, part in enumerate(parts))


def on_files(files, config, **_):
    """Mkdocs hook: figures beside the tables of experiments, as ``results/NAME/*.svg``."""
    for path in sorted((ROOT / "experiments" / "results").glob("*/*.svg")):
        uri = f"results/{path.parent.name}/{path.name}"
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_content(html: str, **_) -> str:
    """Mkdocs hook: the formulas in the place of their placeholders."""
    return re.sub(r"formula-([0-9a-f]+)-", lambda m: bytes.fromhex(m[1]).decode(), html)


def table(lines: list[str]) -> list[str]:
    """A reST simple table as a Markdown one; ``lines`` start and end with a ruler."""
    starts = [m.start() for m in re.finditer(r"=+", lines[0])]
    bounds = list(zip(starts, [*starts[1:], None]))
    rows: list[list[str]] = []
    for line in lines:
        if RULER.match(line):
            continue
        cells = [line[a:b].strip() for a, b in bounds]
        if rows and not cells[0]:  # a row that goes on
            rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], cells)]
        else:
            rows.append(cells)
    if sum(map(bool, map(RULER.match, lines))) < 3:  # no header
        rows.insert(0, [" "] * len(starts))
    rows.insert(1, ["---"] * len(starts))
    return [f"| {' | '.join(row)} |" for row in rows]


def tables(text: str) -> str:
    """Every simple table of a docstring."""
    out, pending = [], []
    for line in text.split("\n"):
        if pending or RULER.match(line):
            pending.append(line)
            closed = len(pending) > 1 and RULER.match(line)
            if closed and (sum(map(bool, map(RULER.match, pending))) == 3 or not _header(pending)):
                out += table(textwrap.dedent("\n".join(pending)).split("\n"))
                pending = []
        else:
            out.append(line)
    return "\n".join(out + pending)


def _header(lines: list[str]) -> bool:
    """Whether the second ruler closes a header: then a third one ends the table."""
    return len(lines) == 3


def markdown(docstring: str) -> str:
    """A docstring's reST as Markdown."""
    text = BLOCK.sub(
        lambda m: f"{m[1]}{mathml(textwrap.dedent(m[2]), display=True)}\n\n", docstring
    )
    text = LITERAL.sub(lambda m: f"{m[1]}{m[2]}:\n\n{textwrap.indent(_fenced(m[3]), m[1])}\n", text)
    text = re.sub(
        r":math:`([^`]+)`", lambda m: mathml(re.sub(r"\s+", " ", m[1])), text, flags=re.DOTALL
    )
    text = ROLE.sub(r"`\1`", text)
    text = LINK.sub(lambda m: f"[{' '.join(m[1].split())}]({m[2]})", text)
    return re.sub(r"^Example:", "Examples:", tables(text), flags=re.MULTILINE)


def _fenced(code: str) -> str:
    """The literal block of a docstring as Python."""
    return f"```python\n{textwrap.dedent(code).strip()}\n```\n"


class Docstrings(griffe.Extension):
    """Griffe extension that rewrites every docstring before it is parsed."""

    def on_instance(self, *, obj, **_):
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
