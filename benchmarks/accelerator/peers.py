"""PyTorch on the GPU: eager, compiled, as a CUDA graph, and many runs in one ensemble.

Networks, batch, data on the device, loss and Adam match this package's side; Adam is fused. TF32 is
allowed on both sides. Each contender is timed after a warm-up, until the GPU is done; peak memory
counts from after the warm-up.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import ours
from benchmarks.accelerator.speed import WALL, Case
from benchmarks.accelerator.sweeps import DCGANS, images_of, sizes_of
from benchmarks.accelerator.work import Context, Row
from benchmarks.harness import progress, repeat, spread
from benchmarks.networks_torch import Task, count, dcgan_task, ring_task, torch
from benchmarks.peers_torch import (
    FORMS,
    Ensemble,
    Sequential,
    Setting,
    best_setting,
    functional_gradients,
)
from onesided_jax.datasets import ring_means

WARM_UP = 5


class Compiled(Sequential):
    """One run with both gradients in one compiled function; uses CUDA graphs on CUDA devices."""

    def __init__(self, task: Task, setting: Setting, rate: float, b1: float):
        super().__init__(task, setting, rate, b1)
        self.named = [dict(m.named_parameters()) for m in (self.generator, self.discriminator)]
        for player in self.players:
            for parameter in player:
                torch._dynamo.mark_static_address(parameter)  # so a CUDA graph does not copy them
        self.gradients = compiled(functional_gradients(self.generator, self.discriminator), task)

    def differentiate(self) -> tuple[Any, Any]:
        torch.compiler.cudagraph_mark_step_begin()
        real = self.task.draw(self.task.batch)
        with self.setting.autocast(self.task.device):
            gradients, losses = self.gradients(*self.named, real, self.task.latents())
        for player, gradient in zip(self.named, gradients, strict=True):
            for name, parameter in player.items():
                parameter.grad = gradient[name].detach()
        primal, dual = losses
        return primal.detach().clone(), dual.detach().clone()  # the next replay writes over them


def compiled(function: Callable[..., Any], task: Task) -> Callable[..., Any]:
    """``torch.compile`` with CUDA graphs; on a CPU only traced, to show that tracing works."""
    if task.device == "cuda":
        return torch.compile(function, mode="reduce-overhead")
    return torch.compile(function, backend="aot_eager")


def captured(contender: Any) -> Any:
    """Makes the contender's step one CUDA graph, including random numbers and Adam."""
    step = contender.step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        losses = step()

    def replay() -> tuple[Any, Any]:
        graph.replay()
        return losses  # overwritten by each step: a chunk reports the last step's

    contender.step = replay
    return contender


def contenders(task: Task, runs: int, case: Case, tiny: bool) -> dict[str, Callable[[], Any]]:
    """Functions that make the contenders, by name, most important first."""
    bfloat16, images = case.dtype == "bfloat16", case.game in DCGANS
    adam: Any = (ours.RATE, ours.B1)
    setting = Setting(torch.get_num_threads(), bfloat16=bfloat16)
    graph = setting._replace(capturable=True)

    def eager() -> Sequential:
        def make(found: Setting) -> Sequential:
            return Sequential(task, found._replace(bfloat16=bfloat16), *adam)

        steps = 1 if tiny else 20
        choices: dict[str, Any] = {"threads": (setting.threads,), "form": FORMS}
        if images:
            choices["channels_last"] = (False, True)
        best, _ = best_setting(make, steps, 1 if tiny else 3, choices)
        return make(best)

    made: dict[str, Callable[[], Any]] = {
        "eager": eager,
        "CUDA graph of a step": lambda: captured(Sequential(task, graph, *adam)),
        "compiled, reduce-overhead": lambda: Compiled(task, setting, *adam),
        f"ensemble of {runs}": lambda: Ensemble(task, runs, setting, *adam),
        f"CUDA graph of an ensemble of {runs}": (
            lambda: captured(Ensemble(task, runs, graph, *adam))
        ),
    }
    if task.device != "cuda":
        made = {name: make for name, make in made.items() if "graph" not in name}
    return made


def speeds(case: Case, runs: int, context: Context, done: list[Row]) -> Iterator[Row]:
    """A row for each contender that has none in ``done``."""
    torch.set_float32_matmul_precision("high")  # TF32, as in XLA
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    task = _task(case, context)
    known = {row["side"] for row in done}
    for name, make in contenders(task, runs, case, context.tiny).items():
        if name in known:
            continue
        number = runs if "ensemble" in name else 1
        row: Row = {"side": name, **case._asdict(), "runs": number}
        try:
            row |= _measure(make, number, context.tiny)
            told = f"{row['run_steps_per_second']['median']:,.0f} run-steps/s"
        except Exception as error:  # one failed contender must not stop the others
            row["problem"] = told = _reason(error)
        progress(f"PyTorch, {name}, {' '.join(case)}: {told}")
        yield row
        _forget()


def _measure(make: Callable[[], Any], runs: int, tiny: bool) -> Row:
    contender = make()
    contender.advance(1 if tiny else WARM_UP)
    cuda = torch.cuda.is_initialized()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    steps = 2 if tiny else max(5, 100 // runs)
    taken = repeat(lambda: contender.advance(steps), 0.0 if tiny else WALL)
    networks = getattr(contender, "generator", None), getattr(contender, "discriminator", None)
    return {
        "setting": str(contender.setting),
        "steps": steps,
        "run_steps_per_second": spread([1 / t for t in taken]),
        "peak_bytes": torch.cuda.max_memory_allocated() if cuda else None,
        "losses": contender.losses,
        "parameters": None if networks[0] is None else [count(n) for n in networks],
    }


def _reason(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"[:300]


def _forget() -> None:
    """Frees the memory of a contender."""
    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _task(case: Case, context: Context) -> Task:
    device = "cuda" if context.platform == "gpu" else "cpu"
    width, batch = sizes_of(case.game, context.tiny)
    if case.game in DCGANS:
        data = images_of(case.game, context.data_dir, context.tiny)
        return dcgan_task(data, ours.LATENT["dcgan"], width, batch, device)
    means = np.asarray(ring_means(), np.float32)
    return ring_task(means, 0.02, ours.LATENT["mlp"], width, batch, device)
