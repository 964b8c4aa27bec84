"""DCGAN sweep: run-steps per second against PyTorch, naive flax and cooper-optim.

28 x 28 x 1 images (synthetic strokes, see ``benchmarks.ours.images``; the same bytes for every
side), latent 64, width 32, batch 64, Adam (2e-4, b1 = 0.5), non-saturating, float32, 8 runs. This
package also records both losses and gradient norms at every step; PyTorch records the losses.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jax

from benchmarks import ours
from benchmarks.harness import (
    Row,
    Scale,
    SuiteResult,
    interleave,
    jax_gemm,
    progress,
    quantiles,
    ratio_row,
    spread,
)

SANE = 3.0  # mean losses of two sides lie within this factor
ALIKE_STEPS = (8, 100)  # steps over which losses are compared, small and full
SETTINGS = {
    "form": ("one pass", "three passes"),
    "channels_last": (False, True),
    "fused": (False, True),
}


def run(scale: Scale, folder: Path) -> SuiteResult:
    del folder
    from benchmarks import networks_torch
    from benchmarks import peers_torch as peers

    width, batch, runs = scale.pick((8, 16, 2), (32, 64, 8))
    steps, naive_steps, torch_steps = scale.pick((4, 1, 4), (20, 1, 40))
    game = ours.dcgan_game(width, batch)
    task = networks_torch.dcgan_task(ours.images(), ours.LATENT["dcgan"], width, batch)

    torch_best, tried = peers.best_setting(
        lambda setting: peers.Sequential(task, setting, ours.RATE, ours.B1),
        scale.pick(1, 5),
        scale.pick(1, 5),
        {"threads": peers.thread_counts(), **SETTINGS},
    )
    eager = peers.Sequential(task, torch_best, ours.RATE, ours.B1)
    cooper_best, cooper_tried = peers.best_setting(
        lambda setting: peers.Sequential(task, setting, ours.RATE, ours.B1, "extra_adam"),
        scale.pick(1, 3),
        scale.pick(1, 3),
        {
            "threads": peers.thread_counts(),
            "form": SETTINGS["form"],
            "channels_last": SETTINGS["channels_last"],
            "fused": (False,),
        },
    )
    cooper = peers.Sequential(task, cooper_best, ours.RATE, ours.B1, "extra_adam")
    if eager.counts() != ours.parameter_count(game):
        raise AssertionError(f"parameters: {eager.counts()} against {ours.parameter_count(game)}")

    adam = ours.Sweep(game, ours.optimizer("adam"), runs, steps)
    extra = ours.Sweep(game, ours.optimizer("extra_adam"), runs, steps)
    naive_game = ours.dcgan_game(width, batch, conv="native")
    naive = ours.Sweep(
        naive_game, ours.optimizer("adam"), runs, naive_steps,
        width=runs, devices=jax.local_devices()[:1],
    )  # fmt: skip
    progress(
        f"compiled in {adam.compile_seconds:.1f} s (adam), {extra.compile_seconds:.1f} s "
        f"(extra_adam), {naive.compile_seconds:.1f} s (native convolutions)"
    )
    losses = {
        "adam": check_alike(adam, eager, scale.pick(*ALIKE_STEPS)),
        "extra_adam": check_alike(extra, cooper, scale.pick(*ALIKE_STEPS) // 2),
    }
    naive.advance()

    measured = interleave(
        {
            "gemm": jax_gemm(),
            "ours": adam.advance,
            "torch": lambda: eager.advance(torch_steps),
            "ours, extra": extra.advance,
            "cooper": lambda: cooper.advance(torch_steps // 2),
            "naive": naive.advance,
        },
        scale.rounds,
        "dcgan",
    )
    flops = ours.dcgan_step_flops(width, batch)
    rows = [
        ratio_row(
            f"DCGAN sweep, Adam, {runs} runs", "PyTorch eager, one run after the other",
            measured["torch"], measured["ours"], goal=2.0,
            note=f"PyTorch with {torch_best}, the fastest of {len(tried)} settings",
        ),
        ratio_row(
            f"DCGAN sweep, Adam, {runs} runs", "flax convolutions in vmap and scan",
            measured["naive"], measured["ours"], goal=10.0,
            note="networks.dcgan(conv='native'), which still shares one backward pass between "
            "the players",
        ),
        ratio_row(
            f"DCGAN sweep, ExtraAdam, {runs} runs", "cooper-optim ExtraAdam",
            measured["cooper"], measured["ours, extra"], goal=2.0,
            note=f"PyTorch with {cooper_best}",
        ),
        utilisation(measured, flops, f"DCGAN sweep, Adam, {runs} runs"),
    ]  # fmt: skip
    return SuiteResult(
        rows,
        {
            "sizes": {"width": width, "batch": batch, "runs": runs, "steps_per_chunk": steps},
            "data": "2048 synthetic 28x28x1 uint8 images of strokes",
            "parameters": ours.parameter_count(game),
            "layouts": {"adam": adam.layout, "extra_adam": extra.layout},
            "run_steps_per_second": {
                name: spread([1 / taken for taken in measured[name]])
                for name in ("ours", "torch", "ours, extra", "cooper", "naive")
            },
            "milliseconds_per_run_step": {
                name: spread([1000 * taken for taken in measured[name]])
                for name in ("ours", "torch", "ours, extra", "cooper", "naive")
            },
            "gemm_gflops": spread(measured["gemm"]),
            "flops_per_run_step": {
                "matrix products, by hand": flops,
                "all operations, by XLA": ours.counted_flops(game, ours.optimizer()),
            },
            "torch_setting": str(torch_best),
            "torch_settings_tried_seconds": tried,
            "cooper_setting": str(cooper_best),
            "cooper_settings_tried_seconds": cooper_tried,
            "compile_seconds": {
                "ours": adam.compile_seconds,
                "ours, extra": extra.compile_seconds,
                "naive": naive.compile_seconds,
            },
            "losses": losses,
        },
    )


def utilisation(measured: dict[str, list[float]], flops: float, what: str) -> Row:
    """Speed of a step as a share of the matrix product's speed in the same round."""
    shares = [
        1e-9 * flops / taken / peak
        for taken, peak in zip(measured["ours"], measured["gemm"], strict=True)
    ]
    low, median, high = quantiles(shares)
    note = (
        f"{flops / 1e9:.2f} GFLOP a step in matrix products, counted by hand; a 1024 x 1024 "
        "float32 product in each round"
    )
    return Row(what, "GEMM peak", median, (low, high), 0.6, "higher", note)


def check_alike(ours_side: ours.Sweep, theirs: Any, steps: int) -> dict[str, Any]:
    """Trains both sides for at least ``steps`` steps and compares their mean losses.

    Starts and minibatches differ, so the losses only have to be finite and within a factor.

    Raises:
      AssertionError: if they are not.
    """
    start = time.perf_counter()
    while ours_side.done < steps:
        ours_side.advance()
    steps = ours_side.done
    theirs.advance(steps)
    names = ("generator", "discriminator")
    pairs = dict(zip(names, zip(ours_side.losses, theirs.losses, strict=True), strict=True))
    told = ", ".join(f"{name} {a:.3f} and {b:.3f}" for name, (a, b) in pairs.items())
    progress(f"mean losses of {steps} steps, ours and theirs: {told}")
    for name, (a, b) in pairs.items():
        if not (a > 0 and b > 0 and 1 / SANE <= a / b <= SANE):  # False for nan as well
            raise AssertionError(f"{name} losses are not alike after {steps} steps: {a}, {b}")
    return {
        "steps": steps,
        "seconds": round(time.perf_counter() - start, 1),
        **{name: {"ours": a, "theirs": b} for name, (a, b) in pairs.items()},
    }
