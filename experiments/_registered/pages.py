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
DATA_COLOURS = {"mnist": "#cc79a7", "fashion_mnist": "#009e73", "bars": "#009e73"}
ARM = "alternating_adam"
ARMS = {  # in words
    ARM: "",
    "frozen": "discriminator frozen half way",
    "adam": "simultaneous Adam",
    "amsgrad": "plain AMSGrad",
    "amsgrad_xeg": "looking ahead on x",
}
CLAIMS = {  # what is measured, and what would change the result
    "1. Only the generator converges": ("Late over early gradient norms.", "other architectures"),
    "2. Looking ahead on x calms the generator": ("", "steps that our theorem allows"),
    "3. The one-sided MVI holds after training": (
        "Share of gradients on x, by size, that lead away from $x^*$.",
        "another $x^*$",
    ),
}
FORMS = {  # of claim 3, in words: for the table, and for the figure
    "after trained": ("before a twin run's end", "before a\ntwin run's end"),
    "before": ("before half time", "before\nhalf time"),
    "after": ("past half time", "past\nhalf time"),
}
CONTROLS = {"x* = start": "control:\nx* = start", "flipped critic": "control:\nflipped critic"}
PICTURES = {
    "plane": "Late over early gradient norms, a dot per seed",
    "mvi": "Share of negative entries, a dot per seed",
    "norms": "Both players' gradient norms along the runs",
    "samples": "Samples at the end, a row per seed",
}
WORDS = {
    "supported": "yes",
    "refuted": "no",
    "undecided": "undecided",
    "reported": "reported, not judged",
    "not run": "not run yet",
}
DECIDED = ("supported", "refuted")
Forms = dict[tuple[str, str | None], Row]  # claim 3's rows, by data set and form


def draw(results: Path, pages: Path, scale: Scale) -> None:
    """Writes ``results/*.md`` and ``figures/registered-*`` below ``pages``."""
    (pages / "results").mkdir(parents=True, exist_ok=True)
    (pages / "figures").mkdir(parents=True, exist_ok=True)
    path = results / "verdicts.csv"
    rows: list[Row] = list(read_table(path)) if path.exists() else []
    sets = sorted({row["data"] for row in rows}) or list(DATA)
    plane, mvi = _of_all(results, pages / "figures", sets, scale)
    figures = {data: _figures(results, pages / "figures", data) for data in sets}
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
    forms = {(row["data"], row.get("what")): row for row in own[2]}
    texts = {
        "index": {
            "progress": _progress(planned),
            "answers": _answers(main, forms),
            "plane": plane,
            "table": _table(main),
            "next": _next(planned),
        },
        "claim1": {
            "verdicts": _verdicts(own[0]),
            "plane": plane,
            "pictures": _pictures(figures),
            "seeds": _per_seed(results, sets, scale),
            "sensitivity": _sensitivity(results / "sensitivity.csv"),
            "cost": _cost(results / "ledger.jsonl"),
        },
        "claim2": {"verdicts": _verdicts(own[1])},
        "claim3": {"answers": _claim_3(main, forms), "picture": mvi, "table": _forms(own[2])},
    }
    for page, parts in texts.items():
        target = pages / "results" / f"{page}.md"
        target.write_text(_fill(page, **parts), encoding="utf-8")


# ---- figures ----


def _of_all(results: Path, out: Path, sets: list[str], scale: Scale) -> tuple[str, str]:
    """Draws the plane of claim 1 and the entries of claim 3: their lines of Markdown."""
    lines = []
    for name, figure in (
        ("plane", _plane(Tables(results, "norms"), Tables(results, "runs"), sets, scale)),
        ("mvi", _entries(Tables(results, "mvi"), sets, scale)),
    ):
        file = f"registered-{name}.svg"
        if figure:
            (out / file).write_bytes(svg_bytes(figure))
        lines.append(f"![{PICTURES[name]}](../figures/{file})" if figure else "")
    return lines[0], lines[1]


def _figures(results: Path, out: Path, data: str) -> dict[str, str]:
    """Norm curves and sample sheet of claim 1 on a data set, by what they show."""
    own = Tables(results, "norms").columns(ARM, data)
    if not own:
        return {}
    made = {"norms": f"registered-norms-{data}.svg"}
    (out / made["norms"]).write_bytes(svg_bytes(_curves(own)))
    sheets = sorted(results.glob(f"{ARM}-{data}-*/samples.png"))
    if sheets:
        made["samples"] = f"registered-samples-{data}.png"
        shutil.copyfile(sheets[0], out / made["samples"])
    return made


def _plane(norms: Tables, runs: Tables, sets: list[str], scale: Scale) -> Figure | None:
    """A dot per seed, filled if it passes the gate; the frozen control as stars."""
    points = {
        (data, arm): np.stack([change_of(columns, scale, player).ratio for player in COLOURS])
        for data in sets
        for arm in (ARM, "frozen")
        if (columns := norms.columns(arm, data))
    }
    if not points:
        return None
    rules = criteria(sets[0], scale, 0)
    names = ("generator_falls", "discriminator_stays", "parting")
    boundaries = {name: getattr(rules, name) for name in names}
    with style():
        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        ax = figure.subplots()
        every = np.concatenate([*points.values()], axis=1)
        limits = min(0.1, every.min() / 1.5), max(3.0, 1.5 * every.max())
        plane_axes(ax, boundaries, NAMES._asdict(), limits)
        for (data, arm), (across, up) in points.items():
            look: dict[str, Any] = {"ls": "", "color": DATA_COLOURS[data]}
            if arm == ARM:
                filled = _passes(runs.columns(ARM, data), criteria(data, scale, 0))
                ax.plot(across[filled], up[filled], marker="o", label=TITLES[data], **look)
                ax.plot(across[~filled], up[~filled], marker="o", mfc="none", **look)
            else:
                label = f"{TITLES[data]}, {ARMS[arm]}"
                ax.plot(across, up, marker="*", markersize=9, label=label, **look)
        ax.set_xlabel("generator: late / early norm")
        ax.set_ylabel("discriminator: late / early norm")
        figure.legend(loc="outside lower left", ncols=2)
        return figure


def _entries(tables: Tables, sets: list[str], scale: Scale) -> Figure | None:
    """Claim 3's share of negative entries in each form, and in the controls of all forms."""
    found = {data: columns for data in sets if (columns := tables.columns(ARM, data))}
    if not found:
        return None
    with style():
        figure = Figure(figsize=(5.6, 3.2), layout="constrained")
        ax = figure.subplots()
        for i, (data, columns) in enumerate(found.items()):
            shares = [columns["negative_mass"][columns["form"] == form] for form in FORMS]
            shares += [columns[name] for name in CONTROLS]
            middle = (i + 0.5) / len(found) - 0.5
            for place, values in enumerate(shares):
                across = place + 0.6 * (middle + np.linspace(-0.3, 0.3, len(values)) / len(found))
                label = "" if place else TITLES[data]
                ax.plot(across, values, "o", ms=4, color=DATA_COLOURS[data], label=label)
        boundary = criteria(next(iter(found)), scale, 0).negative_mass
        ax.axhline(boundary, color="0.4", linestyle="--", linewidth=0.8, label="boundary")
        words = [*(figure_words for _, figure_words in FORMS.values()), *CONTROLS.values()]
        ax.set_xticks(range(len(words)), words)
        ax.set_ylim(-0.03, 1.03)
        ax.set_ylabel("share of negative entries")
        figure.legend(loc="outside lower left", ncols=3)
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


def _answers(claims: dict[str, list[Row]], forms: Forms) -> str:
    """An indented paragraph per claim."""
    lines = []
    for title, rows in claims.items():
        told = [f"*{_title(row)}*: {_answer(row, forms)}" for row in rows if _has_run(row)]
        measured, _ = CLAIMS[title]
        text = " ".join([measured, *told] if told else [NOT_RUN]).strip()
        lines.append(f"    **{title}.** {text}")
    return "\n\n".join(lines)


def _next(rows: list[Row]) -> str:
    """The planned tests that have not run; no text if all have."""
    left = ", ".join(f"{r['claim']} on {_title(r)}" for r in rows if not _has_run(r))
    return left and f"**Next.** Claims {left}; then eight more seeds each."


def _answer(row: Row, forms: Forms) -> str:
    """The three effects of claim 1 or 3, or the first sentence of another verdict."""
    if row["claim"] == "3":
        shares = [_percent(forms[row["data"], form]).split()[0] for form in FORMS]
        parts = [f"{share} {words}" for share, (words, _) in zip(shares, FORMS.values())]
        return f"{WORDS[row['status']]}; {', '.join(parts)}."
    if not row.get("dual"):
        return f"{row['sentence'].split('. ')[0].rstrip('.')}."
    return (
        f"{WORDS[row['status']]}; generator {row['effect']}, discriminator {row['dual']}, "
        f"ratio {row['parting']}; {row['passing']} of {row['seeds']} seeds train well."
    )


def _percent(row: Row) -> str:
    """An effect of claim 3, ``0.82 [0.63, 1]``, as ``82% [63%, 100%]``."""
    return re.sub(r"[\d.e+-]+", lambda found: _share(found[0]), row["effect"])


def _share(number: str) -> str:
    """A share in percent, with two digits."""
    percent = 100 * float(number)
    return f"{percent:.0f}%" if percent >= 10 else f"{percent:.2g}%"


def _has_run(row: Row) -> bool:
    return row["status"] != "not run"


def _table(claims: dict[str, list[Row]]) -> str:
    lines = ["| claim | data | what we saw | how sure | what would change it |", "| --- " * 5 + "|"]
    for title, rows in claims.items():
        for row in rows:
            effect, sure = row.get("effect") or "-", WORDS[row["status"]] + _seeds(row)
            if row["claim"] == "3" and _has_run(row):
                effect = _percent(row)
            if row.get("dual"):
                effect = f"generator {effect}"
            claim = f"[{title[:1]}](claim{title[:1]}.md)"
            lines.append(f"| {claim} | {_title(row)} | {effect} | {sure} | {CLAIMS[title][1]} |")
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


def _claim_3(claims: dict[str, list[Row]], forms: Forms) -> str:
    """A paragraph per data set."""
    rows = list(claims.values())[2]
    told = (f"**{_title(r)}**: {_answer(r, forms) if _has_run(r) else NOT_RUN}" for r in rows)
    return "\n\n".join(told)


def _forms(rows: list[Row]) -> str:
    """A table with a row per data set and form of claim 3."""
    heads = ("data", "form", "negative entries", "cosine", "gradient at x*", *CONTROLS, "holds?")
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for row in rows:
        if row.get("what") in FORMS:
            controls = [_share(row[name]) for name in CONTROLS]
            cells = [_title(row), FORMS[row["what"]][0], _percent(row), row["cosine"]]
            cells += [row["necessary"], *controls, WORDS[row["status"]]]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else ""


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
