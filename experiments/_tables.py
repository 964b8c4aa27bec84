"""Tables of results as CSV files; writes are atomic, so no file is half written."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onesided_jax.runs.files import write_bytes_atomically


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], digits: int = 5) -> None:
    """Writes rows, with columns in order of appearance."""
    text = io.StringIO(newline="")
    columns = dict.fromkeys(itertools.chain.from_iterable(rows))
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _short(v, digits) for k, v in row.items()} for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, text.getvalue().encode())


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _short(value: Any, digits: int) -> Any:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return f"{float(value):.{digits}g}" if isinstance(value, float | np.floating) else value
