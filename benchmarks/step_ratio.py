"""Cost of one step of each optimizer on the DCGAN game, in units of a simultaneous Adam step.

Every contender runs the same game (28x28 images, width 32, batch 64), in chunks of jitted, scanned
steps. Chunks of all contenders are interleaved, so other load on the machine hits them alike. The
results are the median ratio to the ``adam`` chunks of the same round, the state's size in copies
of the players, and the temporary memory of the compiled chunk.

    python -m benchmarks.step_ratio [--rounds 15] [--out benchmarks/results/step_ratio.json]

``python -m benchmarks steps`` runs the same as a suite.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import onesided_jax as osj

GOALS = {
    "extra_adam": 2.05,
    "amsgrad_eg": 2.05,
    "amsgrad_xeg": 2.05,
    "past_extra_adam": 1.05,
    "past_amsgrad_eg": 1.05,
    "optimistic_adam": 1.05,
    "oadagrad": 1.05,
    "lookahead_adam": None,
    "alternating_adam": None,
    "consensus(adam)": None,
}
BASELINE = "adam"


def dcgan_game(width: int = 32, batch: int = 64) -> osj.Game:
    images = np.random.default_rng(0).integers(0, 256, (1024, 28, 28, 1), np.uint8)
    generator, discriminator = osj.networks.dcgan((28, 28, 1), latent_dim=64, width=width)
    return osj.games.gan(
        generator=generator,
        discriminator=discriminator,
        loss="non_saturating",
        data=osj.datasets.from_array(images),
        batch_size=batch,
        latent_dim=64,
    )


def make_optimizer(name: str) -> Callable[..., Any]:
    if name == "consensus(adam)":
        return lambda lr: osj.consensus(osj.adam(lr, lr, b1=0.5), 0.1)
    return lambda lr: osj.OPTIMIZERS[name](lr, lr)


def compiled_chunk(game: osj.Game, name: str, steps: int) -> tuple[Any, Any, float]:
    """Compiled scan of ``steps`` steps, first state, and size of the state in copies of z."""
    init, step = osj.make_step(game, make_optimizer(name))
    hyperparameters = {"lr": jnp.float32(1e-4)}
    state = jax.jit(init)(jax.random.key(0), hyperparameters)

    def chunk(state):
        return jax.lax.scan(lambda s, _: (step(s, hyperparameters)[0], None), state, length=steps)[
            0
        ]

    program = jax.jit(chunk).lower(state).compile()
    size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
    return program, state, size(state.opt_state) / size(state.players)


def measure(
    rounds: int = 15,
    steps: int = 4,
    game: osj.Game | None = None,
    names: Sequence[str] = tuple(GOALS),
) -> dict[str, Any]:
    """Times the named optimizers against the baseline, prints and returns the table.

    Args:
      rounds: interleaved repeats.
      steps: steps per chunk.
      game: by default the DCGAN of 28 x 28 images, width 32, batch 64.
      names: keys of ``GOALS``.
    """
    game = dcgan_game() if game is None else game
    programs, states, copies, compile_seconds = {}, {}, {}, {}
    for name in (BASELINE, *names):
        start = time.perf_counter()
        programs[name], states[name], copies[name] = compiled_chunk(game, name, steps)
        compile_seconds[name] = time.perf_counter() - start

    def seconds(name: str) -> float:
        start = time.perf_counter()
        states[name] = jax.block_until_ready(programs[name](states[name]))
        return (time.perf_counter() - start) / steps

    for name in programs:
        seconds(name)
    # Each contender runs between two chunks of the baseline, so drift of the machine cancels.
    ratios_of: dict[str, list[float]] = {name: [] for name in names}
    baseline = []
    for _ in range(rounds):
        before = seconds(BASELINE)
        for name in names:
            measured = seconds(name)
            after = seconds(BASELINE)
            ratios_of[name].append(2 * measured / (before + after))
            baseline.append(after)
            before = after
    rows = {}
    for name, ratios in ratios_of.items():
        low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        rows[name] = {
            "ratio": round(float(median), 3),
            "quartiles": [round(float(low), 3), round(float(high), 3)],
            "goal": GOALS[name],
            "state_copies_of_players": round(copies[name], 2),
            "temporary_megabytes": round(
                programs[name].memory_analysis().temp_size_in_bytes / 2**20, 1
            ),
            "compile_seconds": round(compile_seconds[name], 1),
        }
        goal = f"goal {GOALS[name]:.2f}" if GOALS[name] else ""
        print(
            f"{name:18} {median:5.2f}x  [{low:.2f}, {high:.2f}]  "
            f"{copies[name]:.1f} copies of the players  {goal}"
        )
    base = float(np.median(baseline))
    print(f"{BASELINE}: {1000 * base:.1f} ms per step, {copies[BASELINE]:.1f} copies")
    return {
        "baseline": {
            "name": BASELINE,
            "milliseconds_per_step": round(1000 * base, 2),
            "state_copies_of_players": round(copies[BASELINE], 2),
        },
        "rows": rows,
        "rounds": rounds,
        "machine": {
            "cores": os.cpu_count(),
            "platform": platform.machine(),
            "jax": jax.__version__,
            "backend": jax.default_backend(),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=4, help="steps per chunk")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/step_ratio.json"))
    arguments = parser.parse_args()
    result = measure(arguments.rounds, arguments.steps)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
