"""From committed tables to pages: the results, and a page per claim. Nothing is computed here."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from _tables import read_table
from matplotlib.figure import Figure

import onesided_jax as osj
from _registered.design import DATA, Scale, criteria
from _registered.judging import NAMES, NOT_RUN, Row, Tables, _gate, by_checkpoint, change_of
from onesided_jax.report import plane_axes, style, svg_bytes

TEMPLATES = Path(__file__).parent / "templates"
COLOURS = {"primal": "#0072b2", "dual": "#d55e00"}
TITLES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "bars": "bars, small size"}
ARM = "alternating_adam"
ARMS = {  # in words
    ARM: "",
    "frozen": "discriminator frozen half way",
    "adam": "simultaneous Adam",
    "amsgrad": "plain AMSGrad",
    "amsgrad_xeg": "looking ahead on x",
}
CLAIMS = {  # and what would change the result
    "1. Only the generator converges": "other architectures",
    "2. Looking ahead on x calms the generator": "steps that our theorem allows",
    "3. The one-sided MVI holds after training": "another $x^*$",
}
PICTURES = {
    "plane": "Late over early gradient norms, a dot per seed",
    "norms": "Both players' gradient norms along the runs",
    "samples": "Samples at the end, a row per seed",
}
WORDS = {
    "supported": "decided: yes",
    "refuted": "decided: no",
    "undecided": "not decided",
    "reported": "reported, not judged",
    "not run": "not run yet",
}
DECIDED = ("supported", "refuted")


def draw(results: Path, pages: Path, scale: Scale) -> None:
    """Writes ``results/*.md`` and ``figures/registered-*`` below ``pages``."""
    (pages / "results").mkdir(parents=True, exist_ok=True)
    (pages / "figures").mkdir(parents=True, exist_ok=True)
    path = results / "verdicts.csv"
    rows: list[Row] = list(read_table(path)) if path.exists() else []
    sets = sorted({row["data"] for row in rows}) or list(DATA)
    figures = {data: _figures(results, pages / "figures", data, scale) for data in sets}
    own = [[row for row in rows if row["claim"] == claim] for claim in "123"]
    main = dict(
        zip(
            CLAIMS,
            (
                [row for row in own[0] if row["arm"] == ARM],
                own[1][:1],
                [row for row in own[2] if row.get("what") in ("", None, "all forms")],
            ),
            strict=True,
        )
    )
    planned = [row for rows_of_claim in main.values() for row in rows_of_claim]
    planes = {data: {"plane": f["plane"]} for data, f in figures.items() if f}
    texts = {
        "index": {
            "progress": _progress(planned),
            "answers": _answers(main),
            "plane": _pictures(dict(list(planes.items())[:1])),
            "table": _table(main),
            "next": _next(planned),
        },
        "claim1": {
            "verdicts": _verdicts(own[0]),
            "pictures": _pictures(figures),
            "seeds": _per_seed(results, sets, scale),
            "sensitivity": _sensitivity(results / "sensitivity.csv"),
            "cost": _cost(results / "ledger.jsonl"),
        },
        "claim2": {"verdicts": _verdicts(own[1])},
        "claim3": {"verdicts": _verdicts(own[2])},
    }
    for page, parts in texts.items():
        target = pages / "results" / f"{page}.md"
        target.write_text(_fill(page, **parts), encoding="utf-8")


# ---- figures ----


def _figures(results: Path, out: Path, data: str, scale: Scale) -> dict[str, str]:
    """Plane, norm curves and sample sheet of claim 1 on a data set, by what they show."""
    norms, runs = Tables(results, "norms"), Tables(results, "runs")
    own = norms.columns(ARM, data)
    if not own:
        return {}
    made = {}
    for name, figure in (
        ("plane", _plane(norms, runs, data, scale)),
        ("norms", _curves(own)),
    ):
        made[name] = f"registered-{name}-{data}.svg"
        (out / made[name]).write_bytes(svg_bytes(figure))
    sheets = sorted(results.glob(f"{ARM}-{data}-*/samples.png"))
    if sheets:
        made["samples"] = f"registered-samples-{data}.png"
        shutil.copyfile(sheets[0], out / made["samples"])
    return made


def _plane(norms: Tables, runs: Tables, data: str, scale: Scale) -> Figure:
    """A dot per seed, filled if it passes the gate; the frozen control as stars."""
    rules = criteria(data, scale, 0)
    names = ("generator_falls", "discriminator_stays", "parting")
    boundaries = {name: getattr(rules, name) for name in names}
    with style():
        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        ax = figure.subplots()
        points = {
            arm: np.stack([change_of(columns, scale, player).ratio for player in COLOURS], 1)
            for arm in (ARM, "frozen")
            if (columns := norms.columns(arm, data))
        }
        every = np.concatenate([*points.values()])
        limits = min(0.1, every.min() / 1.5), max(3.0, 1.5 * every.max())
        plane_axes(ax, boundaries, NAMES._asdict(), limits)
        filled = _passes(runs.columns(ARM, data), rules)
        look: dict[str, Any] = {"ls": "", "color": COLOURS["primal"]}
        ax.plot(*points[ARM][filled].T, marker="o", label="passes the quality gate", **look)
        ax.plot(*points[ARM][~filled].T, marker="o", mfc="none", label="does not", **look)
        if "frozen" in points:
            label = "discriminator frozen half way"
            ax.plot(
                *points["frozen"].T, **{**look, "color": COLOURS["dual"]}, marker="*", label=label
            )
        ax.set_xlabel("generator: late / early norm")
        ax.set_ylabel("discriminator: late / early norm")
        figure.legend(loc="outside lower left", ncols=2)
        return figure


def _passes(runs: dict[str, np.ndarray], rules: osj.Criteria) -> np.ndarray:
    """``bool[R]``, which seeds pass the quality gate."""
    passes = _gate(runs, rules).passes
    assert passes is not None  # every data set has limits
    return passes


def _curves(norms: dict[str, np.ndarray]) -> Figure:
    """Both players' norms along the runs: the median over seeds, and every seed."""
    columns = by_checkpoint(norms)
    with style():
        figure = Figure(figsize=(5.6, 3.0), layout="constrained")
        ax = figure.subplots()
        for player, name in NAMES._asdict().items():
            values, steps = columns[player], columns["step"][0]
            values = np.sqrt(np.where(values > 0, values, np.nan))
            ax.plot(steps, values.T, color=COLOURS[player], alpha=0.25, linewidth=0.6)
            ax.plot(steps, np.median(values, axis=0), color=COLOURS[player], label=name)
        ax.set_yscale("log")
        ax.set_xlabel("step")
        ax.set_ylabel("norm of the expected gradient")
        ax.legend()
        return figure


# ---- text ----


def _fill(page: str, **parts: str) -> str:
    """A template with its parts; an empty part leaves no gap."""
    text = (TEMPLATES / f"{page}.md").read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"{{{{{name}}}}}\n", f"{part}\n" * bool(part))
    return re.sub(r"\n{3,}", "\n\n", text)


def _progress(rows: list[Row]) -> str:
    """How many of the planned tests have run, as the title of the box of answers."""
    run = sum(map(_has_run, rows))
    decided = sum(row["status"] in DECIDED for row in rows)
    return f'!!! abstract "{run} of {len(rows)} planned tests have run; {decided} decided"'


def _answers(claims: dict[str, list[Row]]) -> str:
    """An indented paragraph per claim."""
    lines = []
    for title, rows in claims.items():
        told = " ".join(f"*{_title(row)}*: {_answer(row)}" for row in rows if _has_run(row))
        lines.append(f"    **{title}.** {told or NOT_RUN}")
    return "\n\n".join(lines)


def _next(rows: list[Row]) -> str:
    """The planned tests that have not run; no text if all have."""
    left = ", ".join(f"{r['claim']} on {_title(r)}" for r in rows if not _has_run(r))
    return left and f"**Next.** Claims {left}; then eight more seeds each."


def _answer(row: Row) -> str:
    """Claim 1's three effects, or the first sentence of another verdict."""
    if not row.get("dual"):
        return f"{row['sentence'].split('. ')[0].rstrip('.')}."
    return (
        f"{WORDS[row['status']]}. Late over early gradient norm: generator {row['effect']}, "
        f"discriminator {row['dual']}, their ratio {row['parting']}. "
        f"{row['passing']} of {row['seeds']} seeds train well."
    )


def _has_run(row: Row) -> bool:
    return row["status"] != "not run"


def _table(claims: dict[str, list[Row]]) -> str:
    lines = ["| claim | data | what we saw | how sure | what would change it |", "| --- " * 5 + "|"]
    for title, rows in claims.items():
        for row in rows:
            effect, sure = row.get("effect") or "-", WORDS[row["status"]] + _seeds(row)
            claim = f"[{title[:1]}](claim{title[:1]}.md)"
            lines.append(f"| {claim} | {_title(row)} | {effect} | {sure} | {CLAIMS[title]} |")
    return "\n".join(lines)


def _title(row: Row) -> str:
    return TITLES[row["data"]]


def _seeds(row: Row) -> str:
    return f", {row['seeds']} seeds" if row.get("seeds") else ""


def _verdicts(rows: list[Row]) -> str:
    """A paragraph per verdict."""
    out = []
    for row in rows:
        name = ", ".join(n for n in (_title(row), ARMS[row["arm"]], row.get("what")) if n)
        out.append(f"**{name}.** {row['sentence']}")
    return "\n\n".join(out) or f"**{NOT_RUN}**"


def _pictures(figures: dict[str, dict[str, str]]) -> str:
    return "\n\n".join(
        f"![{PICTURES[name]}: {TITLES.get(data, data)}](../figures/{file})"
        for data, found in figures.items()
        for name, file in found.items()
    )


def _per_seed(results: Path, sets: list[str], scale: Scale) -> str:
    """A table with a row per seed: both ratios, and the quality of the samples at the end."""
    lines = [
        "| data | seed | generator | discriminator | Fréchet distance | gate |",
        "| --- " * 6 + "|",
    ]
    norms, runs = Tables(results, "norms"), Tables(results, "runs")
    for data in sets:
        own, ends = norms.columns(ARM, data), runs.columns(ARM, data)
        if not own:
            continue
        ratios = [change_of(own, scale, player).ratio for player in COLOURS]
        passes = _passes(ends, criteria(data, scale, 0))
        for i, seed in enumerate(ends["seed"].astype(int)):
            gate = "passed" if passes[i] else "failed"
            values = *(f"{ratio[i]:.2f}" for ratio in ratios), f"{ends['frechet'][i]:.4f}"
            lines.append(f"| {TITLES[data]} | {' | '.join([str(seed), *values, gate])} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _sensitivity(path: Path) -> str:
    if not path.exists():
        return ""
    lines = ["| data | registered beside the verdict | value |", "| --- | --- | --- |"]
    rows = read_table(path)
    return "\n".join([*lines, *(f"| {_title(r)} | {r['what']} | {r['value']} |" for r in rows)])


def _cost(path: Path) -> str:
    if not path.exists():
        return ""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    hours = sum(line["seconds"] for line in lines) / 3600
    devices = sorted({line["device"] for line in lines})
    return f"Cost of everything so far: {hours:.1f} hours on {', '.join(devices)} (`ledger.jsonl`)."
