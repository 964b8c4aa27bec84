"""MLP-GAN on a ring of Gaussians: 64 runs against PyTorch one by one, and against torch.func.

Latent 16, two hidden layers of 64, batch 128, Adam (2e-4, b1 = 0.5), non-saturating, float32.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import ours
from benchmarks.harness import Scale, SuiteResult, interleave, progress, ratio_row, spread
from benchmarks.suites.dcgan import check_alike
from onesided_jax.datasets import ring_means

DEVIATION = 0.02  # osj.datasets.ring's


def run(scale: Scale, folder: Path) -> SuiteResult:
    del folder
    from benchmarks import networks_torch
    from benchmarks import peers_torch as peers

    runs = scale.pick(4, 64)
    steps, torch_steps, ensemble_steps = scale.pick((10, 10, 5), (200, 400, 40))
    width, batch = 64, 128
    game = ours.mlp_game(width, batch)
    task = networks_torch.ring_task(ring_means(), DEVIATION, ours.LATENT["mlp"], width, batch)
    best, tried = peers.best_setting(
        lambda setting: peers.Sequential(task, setting, ours.RATE, ours.B1),
        scale.pick(5, 50),
        scale.pick(1, 5),
        {"threads": peers.thread_counts(), "form": peers.FORMS, "fused": (False, True)},
    )
    best_ensemble, tried_ensemble = peers.best_setting(
        lambda setting: peers.Ensemble(task, runs, setting, ours.RATE, ours.B1),
        scale.pick(2, 10),
        scale.pick(1, 5),
        {"threads": peers.thread_counts(), "fused": (False, True)},
    )
    eager = peers.Sequential(task, best, ours.RATE, ours.B1)
    ensemble = peers.Ensemble(task, runs, best_ensemble, ours.RATE, ours.B1)
    if eager.counts() != ours.parameter_count(game):
        raise AssertionError(f"parameters: {eager.counts()} against {ours.parameter_count(game)}")
    sweep = ours.Sweep(game, ours.optimizer("adam"), runs, steps)
    progress(f"compiled in {sweep.compile_seconds:.1f} s")
    alike = scale.pick(20, 400)
    losses = {
        "sequential": check_alike(sweep, eager, alike),
        "ensemble": check_alike(sweep, ensemble, alike),
    }
    measured = interleave(
        {
            "ours": sweep.advance,
            "torch": lambda: eager.advance(torch_steps),
            "ensemble": lambda: ensemble.advance(ensemble_steps),
        },
        scale.rounds,
        "mlp",
    )
    what = f"MLP-GAN ring sweep, {runs} runs"
    rows = [
        ratio_row(
            what, "PyTorch eager, one run after the other",
            measured["torch"], measured["ours"], goal=12.0, note=f"PyTorch with {best}",
        ),
        ratio_row(
            what, f"torch.func.vmap over {runs} stacked models",
            measured["ensemble"], measured["ours"], goal=3.0,
            note=f"{best_ensemble.pool}, {best_ensemble.adam} on the stacked parameters",
        ),
    ]  # fmt: skip
    return SuiteResult(
        rows,
        {
            "sizes": {"width": width, "batch": batch, "runs": runs, "steps_per_chunk": steps},
            "parameters": ours.parameter_count(game),
            "layout": sweep.layout,
            "microseconds_per_run_step": {
                name: spread([1e6 * taken for taken in values]) for name, values in measured.items()
            },
            "torch_setting": str(best),
            "torch_settings_tried_seconds": tried,
            "ensemble_setting": f"{best_ensemble.pool}, {best_ensemble.adam}",
            "ensemble_settings_tried_seconds": tried_ensemble,
            "compile_seconds": sweep.compile_seconds,
            "losses": losses,
        },
    )
