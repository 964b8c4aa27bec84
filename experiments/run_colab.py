"""Executes colab.ipynb from top to bottom and keeps its outputs.

`make notebook` calls it. The tests call it at size "tiny".
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

NOTEBOOK = Path(__file__).with_name("colab.ipynb")
EXECUTED = "executed"
"""Key of the metadata that identifies the source of the outputs."""


def source_digest(notebook: nbformat.NotebookNode) -> str:
    """SHA-256 of the code cells, in order."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def shrink_figures(notebook: nbformat.NotebookNode) -> None:
    """Saves figures with a palette: a third of the bytes, no visible difference."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                figure = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
                small = io.BytesIO()
                figure.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
                    small, "PNG", optimize=True
                )
                data["image/png"] = base64.b64encode(small.getvalue()).decode()


def execute(notebook: nbformat.NotebookNode, size: str) -> None:
    """Runs all cells in a temporary folder and replaces the old outputs."""
    os.environ["ONESIDED_NOTEBOOK_SIZE"] = size
    metadata = dict(notebook.metadata)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=None,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    # Drop the kernel's metadata: it names a version, and a diff should show only results.
    notebook.metadata = nbformat.from_dict(
        {**metadata, EXECUTED: {"size": size, "sha256": source_digest(notebook)}}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="small", choices=("tiny", "small", "full"))
    parser.add_argument("--out", type=Path, default=NOTEBOOK)
    arguments = parser.parse_args()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    execute(notebook, arguments.size)
    shrink_figures(notebook)
    nbformat.write(notebook, arguments.out)


if __name__ == "__main__":
    main()
