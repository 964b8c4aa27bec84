"""The results as a table of sentences and figures."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.accelerator.results import read
from benchmarks.accelerator.work import Row
from benchmarks.summary import number

FILE = "summary.csv"
NOT_YET = "not yet run on an accelerator"
ALIKE = 3.0  # mean losses of two sides lie within this factor
RUNS = 64
GOALS = {"eager": 20.0, "graph": 5.0, "ensemble": 2.0, "memory": 1.0, "busy": 0.95}


class Line(NamedTuple):
    """A row of the table; ``goal`` and ``met`` are empty without a goal."""

    section: str
    what: str
    figure: str
    goal: str = ""
    met: str = ""


def lines(content: dict[str, Any]) -> list[Line]:
    """The table of one device's results."""
    sections = content["sections"]
    rows = {
        name: {job: kept["rows"] for job, kept in section["jobs"].items()}
        for name, section in sections.items()
    }
    made = [*_facts(rows.get("facts", {})), *_right(rows.get("right", {}))]
    made += _fast(rows.get("fast", {}), _all(rows.get("facts", {})))
    for name, section in sections.items():
        for job, kept in section["jobs"].items():
            if kept["problem"]:
                made.append(Line(name, job, kept["problem"]))
    return made


def _all(jobs: dict[str, list[Row]]) -> list[Row]:
    return list(itertools.chain.from_iterable(jobs.values()))


def _said(met: bool) -> str:
    return "yes" if met else "no"


def _facts(jobs: dict[str, list[Row]]) -> Iterable[Line]:
    for row in _all(jobs):
        if row["what"] == "product":
            what = f"{row['size']} x {row['size']} product, {row['precision']}"
            yield Line("facts", what, f"{number(row['tflops'])} TFLOP/s")
        elif row["what"] == "bandwidth":
            yield Line("facts", "memory bandwidth", f"{number(row['gigabytes_per_second'])} GB/s")


def _right(jobs: dict[str, list[Row]]) -> Iterable[Line]:
    compared = [row for row in jobs.get("optimizers", []) if "primal" in row]
    if compared:
        worst = max(compared, key=lambda row: max(row["primal"], row["dual"]))
        what = f"{len(compared)} optimizers, device against CPU, worst: {worst['optimizer']}"
        yield _difference(what, worst, all(row["met"] for row in compared))
    for row in jobs.get("dcgan", []) + jobs.get("resume", []):
        if "primal" in row:
            yield _difference(row["what"], row, row["met"])
        else:
            yield Line("right", row["what"], "", "the same bits", _said(row["met"]))
    bits = {job: rows for job, rows in jobs.items() if job.startswith("bits")}
    for kind in dict.fromkeys(job.split(", ")[1] for job in bits):
        rows = [row for job, found in bits.items() if job.split(", ")[1] == kind for row in found]
        for game, conv in dict.fromkeys((row["game"], row["conv"]) for row in rows):
            own = [r["digests"] for r in rows if (r["game"], r["conv"]) == (game, conv)]
            within = _said(all(len(set(pair)) == 1 for pair in own))
            across = _said(len(set(itertools.chain(*own))) == 1) if len(own) > 1 else "not tried"
            what = f"the same bits twice, {game} {conv}, {kind}"
            yield Line("right", what, f"in one process: {within}; in two: {across}")


def _difference(what: str, row: Row, met: bool) -> Line:
    figure = f"primal {row['primal']:.1e}, dual {row['dual']:.1e}"
    return Line("right", what, figure, f"≤ {row['tolerance']:g}", _said(met))


def _fast(jobs: dict[str, list[Row]], facts: list[Row]) -> Iterable[Line]:
    rows = _all(jobs)
    peaks = {row["precision"]: row["tflops"] for row in facts if row["what"] == "product"}
    for row in rows:
        if "side" in row:
            yield Line("fast", _name(row), _speed(row, peaks))
    for game, dtype in dict.fromkeys((r["game"], r["dtype"]) for r in rows if "side" in r):
        own = [row for row in rows if (row["game"], row["dtype"]) == (game, dtype)]
        yield from _against(f"{game} {dtype}", [row for row in own if "side" in row])
    for row in rows:
        if "busy" in row:
            goal, met = f"≥ {GOALS['busy']}", _said(row["busy"] >= GOALS["busy"])
            what = f"device busy between chunks, {row['runs']} {row['game']}"
            yield Line("fast", what, f"{row['busy']:.3f}", goal, met)


def _name(row: Row) -> str:
    if "note" in row:
        return f"{row['side']}, {row['game']} {row['dtype']}"
    side = "ours" if row["side"] == "ours" else f"PyTorch {row['side']}"
    conv = f" {row['conv']}" if row["side"] == "ours" and "dcgan" in row["game"] else ""
    return f"{side}, {row['game']}{conv} {row['dtype']}, {row['runs']} runs"


def _speed(row: Row, peaks: dict[str, float]) -> str:
    if "run_steps_per_second" not in row:
        return row.get("problem") or row["note"]
    speed = row["run_steps_per_second"]["median"]
    told = f"{number(speed)} run-steps/s"
    if row.get("gigaflop_per_run_step") and row["dtype"] in peaks:
        share = speed * row["gigaflop_per_run_step"] / 1000 / peaks[row["dtype"]]
        told += f", {number(100 * share)} % of the peak"
    held = row.get("planned_bytes") or row.get("peak_bytes")
    return told + (f", {number(held / row['runs'] / 2**20)} MiB a run" if held else "")


def _against(what: str, rows: list[Row]) -> Iterable[Line]:
    """Ratios of our best form to each of PyTorch's ways; judged only at the goals' sizes."""
    measured = [row for row in rows if "run_steps_per_second" in row]
    ours = [row for row in measured if row["side"] == "ours"]
    theirs = [row for row in measured if row["side"] != "ours"]
    most = [row for row in ours if row["runs"] == RUNS] or ours[-1:]
    if not most:
        return
    best = max(most, key=_median)
    for row in theirs:
        kind = next((k for k in ("ensemble", "eager") if k in row["side"]), "graph")
        ratio, judged = _median(best) / _median(row), best["runs"] == RUNS and "dcgan" in what
        alike = all(1 / ALIKE <= a / b <= ALIKE for a, b in zip(best["losses"], row["losses"]))
        told = number(ratio) + ("" if alike else ", but the losses are not alike")
        goal = f"≥ {GOALS[kind]:g}" if judged else ""
        met = _said(alike and ratio >= GOALS[kind]) if judged else ""
        name = f"ours, {best['runs']} runs, {best['conv']} / PyTorch {row['side']}, {what}"
        yield Line("fast", name, told, goal, met)
        if kind == "ensemble" and row.get("peak_bytes"):
            ratio = best["planned_bytes"] / best["runs"] / (row["peak_bytes"] / row["runs"])
            met = _said(ratio <= GOALS["memory"]) if judged else ""
            goal = f"≤ {GOALS['memory']:g}" if judged else ""
            yield Line("fast", f"memory a run, {name}", number(ratio), goal, met)
    forms = {row["conv"]: _median(row) for row in most}
    if len(forms) == 2:
        fastest = max(forms, key=lambda form: forms[form])
        yield Line("fast", f"faster form, {best['runs']} runs, {what}", fastest)


def _median(row: Row) -> float:
    return row["run_steps_per_second"]["median"]


def text(made: Sequence[Line]) -> str:
    """The table for printing."""
    widths = [max([len(line[i]) for line in made], default=0) for i in range(len(Line._fields))]
    padded = ("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in made)
    return "\n".join(padded)


def write(out: Path) -> Path:
    """Writes the table of all devices of a folder, which docs/speed.md shows."""
    found = [read(path) for path in sorted(out.glob("*.json"))]
    with (out / FILE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["device", *Line._fields])
        for content in found:
            device = content["device"]
            name = f"{device['kind']}, JAX {device['jax']}, PyTorch {device['torch']}"
            writer.writerows((name, *line) for line in lines(content))
        if not found:
            writer.writerow(["none", "", NOT_YET, "", "", ""])
    return out / FILE
