"""Time per run-step against runs, batch, width of the networks, steps per dispatch and devices.

All runs of a device are one vmapped program here; `osj.sweep` may run fewer at a time, if that is
faster. One axis varies, the others stay at the base. All configurations are interleaved.
``scaling.csv`` has a line for each configuration.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import jax

from benchmarks import ours
from benchmarks.harness import Row, Scale, SuiteResult, interleave, progress, quantiles, ratio_row

GAMES = {"mlp": ours.mlp_game, "dcgan": ours.dcgan_game}
BASES = {
    "small": {
        "mlp": {"runs": 4, "batch": 16, "width": 8, "steps": 5, "devices": 1},
        "dcgan": {"runs": 2, "batch": 8, "width": 4, "steps": 2, "devices": 1},
    },
    "full": {
        "mlp": {"runs": 16, "batch": 128, "width": 64, "steps": 50, "devices": 1},
        "dcgan": {"runs": 4, "batch": 64, "width": 32, "steps": 5, "devices": 1},
    },
}
AXES = {
    "small": {
        "mlp": {"runs": (1,), "batch": (32,)},
        "dcgan": {"runs": (1,)},
    },
    "full": {
        "mlp": {
            "runs": (1, 2, 4, 8, 16, 32, 64, 128, 256),
            "batch": (32, 64, 128, 256, 512),
            "width": (16, 32, 64, 128, 256),
            "steps": (1, 10, 50, 200),
            "devices": (1, 2),
        },
        "dcgan": {
            "runs": (1, 2, 4, 8, 16),
            "batch": (16, 64, 128),
            "width": (8, 16, 32, 64),
            "steps": (1, 5, 20),
            "devices": (1, 2),
        },
    },
}


def configurations(scale: Scale) -> list[tuple[str, dict[str, int]]]:
    """Every distinct ``(game, sizes)``, base first."""
    found: dict[tuple[str, tuple[tuple[str, int], ...]], None] = {}
    for game, base in BASES[scale.name].items():
        found[game, tuple(base.items())] = None
        for axis, values in AXES[scale.name][game].items():
            for value in values:
                found[game, tuple((base | {axis: value}).items())] = None
    return [(game, dict(sizes)) for game, sizes in found]


def name_of(game: str, sizes: dict[str, int]) -> str:
    return game + "".join(f" {axis}={value}" for axis, value in sizes.items())


def run(scale: Scale, folder: Path) -> SuiteResult:
    chosen = {name_of(game, sizes): (game, sizes) for game, sizes in configurations(scale)}
    sweeps: dict[str, ours.Sweep] = {}
    games: dict[tuple[str, int, int], Any] = {}
    for name, (game, sizes) in chosen.items():
        key = (game, sizes["width"], sizes["batch"])
        if key not in games:
            games[key] = GAMES[game](*key[1:])
        devices = jax.local_devices()[: sizes["devices"]]
        sweep = ours.Sweep(
            games[key], ours.optimizer(), sizes["runs"], sizes["steps"],
            width=math.ceil(sizes["runs"] / len(devices)), devices=devices,
        )  # fmt: skip
        sweep.advance()
        sweeps[name] = sweep
        progress(f"{name}: compiled in {sweep.compile_seconds:.1f} s")
    measured = interleave(
        {name: sweep.advance for name, sweep in sweeps.items()}, scale.rounds, "scaling"
    )
    lines = []
    for name, (game, sizes) in chosen.items():
        low, median, high = (1e6 * value for value in quantiles(measured[name]))
        lines.append(
            {"game": game}
            | sizes
            | {
                "microseconds_per_run_step": round(median, 2),
                "lower_quartile": round(low, 2),
                "upper_quartile": round(high, 2),
                "compile_seconds": round(sweeps[name].compile_seconds, 2),
            }
        )
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "scaling.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    rows: list[Row] = []
    for game, base in BASES[scale.name].items():
        runs = sorted({sizes["runs"] for g, sizes in chosen.values() if g == game})
        few, many = (measured[name_of(game, base | {"runs": n})] for n in (runs[0], runs[-1]))
        what = f"{game} run-steps per second, {runs[-1]} runs"
        rows.append(ratio_row(what, f"{runs[0]} run", few, many, note="all else equal"))
    return SuiteResult(rows, {"lines": lines})
