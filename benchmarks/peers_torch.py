"""PyTorch's side, eager: the same networks, losses and data, as a PyTorch user writes them.

Needs the extra ``bench``. Every contender trains the non-saturating GAN with simultaneous updates:
both gradients are taken at the players before the step.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import MISSING_TORCH, progress

try:
    import torch
    from torch import nn
    from torch.func import functional_call, grad_and_value, stack_module_state, vmap
    from torch.nn.functional import softplus

    from benchmarks.networks_torch import Task, count
except ImportError as error:  # pragma: no cover - depends on the installation
    raise ImportError(MISSING_TORCH) from error


class Setting(NamedTuple):
    """How PyTorch is run.

    Attributes:
      threads: size of PyTorch's thread pool.
      form: ``"three passes"``: D(real), D(fake) detached, then D(fake) again for the generator, as
        in most tutorials; ``"one pass"``: D of real and fake together, two backward passes.
      channels_last: memory format of images and kernels.
      fused: Adam's fused kernel.
      bfloat16: networks under ``torch.autocast``; parameters stay float32.
      capturable: Adam keeps its count on the device, as a CUDA graph of the step needs.
    """

    threads: int
    form: str = "one pass"
    channels_last: bool = False
    fused: bool = True
    bfloat16: bool = False
    capturable: bool = False

    def autocast(self, device: str) -> Any:
        return torch.autocast(device, torch.bfloat16, enabled=self.bfloat16)

    @property
    def pool(self) -> str:
        return "1 thread" if self.threads == 1 else f"{self.threads} threads"

    @property
    def adam(self) -> str:
        return "fused Adam" if self.fused else "Adam"

    def __str__(self) -> str:
        layout = ", channels_last" if self.channels_last else ""
        return f"{self.pool}, {self.form}, {self.adam}{layout}"


FORMS = ("one pass", "three passes")


def timed(
    step: Callable[[], tuple[torch.Tensor, torch.Tensor]], steps: int, setting: Setting
) -> tuple[float, tuple[float, float]]:
    """Seconds for ``steps`` steps, and both players' mean losses over steps and runs."""
    losses = []
    with threads(setting.threads):
        synchronise()
        start = time.perf_counter()
        for _ in range(steps):
            losses.append(step())
        synchronise()
        elapsed = time.perf_counter() - start
    primal, dual = (torch.stack(player).mean().item() for player in zip(*losses, strict=True))
    return elapsed, (primal, dual)


def synchronise() -> None:
    """Waits for the GPU, if PyTorch uses one."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


class Sequential:
    """One run after the other: the cost of a run's step does not depend on the number of runs.

    ``optimizer`` is ``"adam"``, or ``"extra_adam"`` for cooper-optim's ExtraAdam, which draws a
    new minibatch for the second evaluation.
    """

    def __init__(
        self, task: Task, setting: Setting, rate: float, b1: float, optimizer: str = "adam"
    ):
        torch.manual_seed(0)
        self.task, self.setting = task, setting
        self.generator, self.discriminator = task.networks()
        if setting.channels_last:
            # nn.Module.to has no overload for a memory format alone.
            for module in (self.generator, self.discriminator):
                module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.players = [list(m.parameters()) for m in (self.generator, self.discriminator)]
        self.extra = optimizer == "extra_adam"
        options: dict[str, Any] = {"lr": rate, "betas": (b1, 0.999), "eps": 1e-8}
        if self.extra:
            make: Any = _cooper().optim.ExtraAdam
        else:
            make, options["fused"] = torch.optim.Adam, setting.fused
            options["capturable"] = setting.capturable
        self.optimizers = [make(player, **options) for player in self.players]
        self.losses = (float("nan"), float("nan"))

    def counts(self) -> tuple[int, int]:
        return count(self.generator), count(self.discriminator)

    def advance(self, steps: int) -> float:
        """Seconds per step."""
        elapsed, self.losses = timed(self.step, steps, self.setting)
        return elapsed / steps

    def step(self) -> tuple[torch.Tensor, torch.Tensor]:
        losses = self.differentiate()
        if self.extra:
            for optimizer in self.optimizers:
                optimizer.extrapolation()
            self.differentiate()
        for optimizer in self.optimizers:
            optimizer.step()
        return losses

    def differentiate(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes both gradients on a fresh minibatch into ``.grad``; returns both losses."""
        real = self.task.draw(self.task.batch)
        if self.setting.channels_last:
            real = real.contiguous(memory_format=torch.channels_last)
        form = self._one_pass if self.setting.form == "one pass" else self._three_passes
        with self.setting.autocast(self.task.device):
            primal, dual, gradients = form(real, self.generator(self.task.latents()))
        for player, gradient in zip(self.players, gradients, strict=True):
            for parameter, value in zip(player, gradient, strict=True):
                parameter.grad = value
        return primal.detach(), dual.detach()

    def _one_pass(self, real: torch.Tensor, fake: torch.Tensor) -> tuple[Any, Any, list[Any]]:
        on_real, on_fake = self.discriminator(torch.cat([real, fake])).split(len(real))
        dual = softplus(-on_real).mean() + softplus(on_fake).mean()
        primal = softplus(-on_fake).mean()
        of_dual = torch.autograd.grad(dual, self.players[1], retain_graph=True)
        return primal, dual, [torch.autograd.grad(primal, self.players[0]), of_dual]

    def _three_passes(self, real: torch.Tensor, fake: torch.Tensor) -> tuple[Any, Any, list[Any]]:
        on_real, on_fake = self.discriminator(real), self.discriminator(fake.detach())
        dual = softplus(-on_real).mean() + softplus(on_fake).mean()
        of_dual = torch.autograd.grad(dual, self.players[1])
        primal = softplus(-self.discriminator(fake)).mean()
        return primal, dual, [torch.autograd.grad(primal, self.players[0]), of_dual]


def functional_gradients(generator: nn.Module, discriminator: nn.Module) -> Callable[..., Any]:
    """``(primal, dual, real, latents) -> (both gradients, both losses)``, a pure function."""

    def gradients(primal: Any, dual: Any, real: torch.Tensor, latents: torch.Tensor):
        def primal_loss(primal: Any):
            fake = functional_call(generator, primal, (latents,))
            return softplus(-functional_call(discriminator, dual, (fake,))).mean(), fake

        def dual_loss(dual: Any, fake: torch.Tensor):
            both = functional_call(discriminator, dual, (torch.cat([real, fake]),))
            on_real, on_fake = both.split(len(real))
            return softplus(-on_real).mean() + softplus(on_fake).mean()

        of_primal, (primal_value, fake) = grad_and_value(primal_loss, has_aux=True)(primal)
        of_dual, dual_value = grad_and_value(dual_loss)(dual, fake.detach())
        return (of_primal, of_dual), (primal_value, dual_value)

    return gradients


class Ensemble:
    """All runs at once: ``torch.func.vmap`` over stacked modules, one fused Adam on the stacks."""

    def __init__(self, task: Task, runs: int, setting: Setting, rate: float, b1: float):
        torch.manual_seed(0)
        self.task, self.runs, self.setting = task, runs, setting
        networks = [task.networks() for _ in range(runs)]
        skeletons: Any = networks[0]
        states = [stack_module_state(list(modules)) for modules in zip(*networks, strict=True)]
        self.players: list[dict[str, torch.Tensor]] = [
            {k: v.detach() for k, v in parameters.items()} for parameters, _ in states
        ]
        for player in self.players:
            for value in player.values():
                value.requires_grad_()
        self.optimizer = torch.optim.Adam(
            [value for player in self.players for value in player.values()],
            lr=rate,
            betas=(b1, 0.999),
            fused=setting.fused,
            capturable=setting.capturable,
        )
        self.losses = (float("nan"), float("nan"))
        self.gradients: Any = vmap(functional_gradients(*skeletons))

    def advance(self, steps: int) -> float:
        """Seconds per run-step."""
        elapsed, self.losses = timed(self.step, steps, self.setting)
        return elapsed / (steps * self.runs)

    def step(self) -> tuple[torch.Tensor, torch.Tensor]:
        real = self.task.draw(self.runs, self.task.batch)
        with self.setting.autocast(self.task.device):
            gradients, losses = self.gradients(
                *({k: v.detach() for k, v in player.items()} for player in self.players),
                real,
                self.task.latents(self.runs),
            )
        for player, gradient in zip(self.players, gradients, strict=True):
            for name, value in player.items():
                value.grad = gradient[name]
        self.optimizer.step()
        return losses


def best_setting(
    make: Callable[[Setting], Any], steps: int, rounds: int, options: dict[str, tuple[Any, ...]]
) -> tuple[Setting, dict[str, float]]:
    """The fastest combination of ``options``, and seconds per (run-)step of each.

    Seconds are the median of ``rounds`` interleaved rounds, after one warm-up round.
    """
    settings = [
        Setting(**dict(zip(options, chosen, strict=True)))
        for chosen in itertools.product(*options.values())
    ]
    contenders = {setting: make(setting) for setting in settings}
    tried: dict[Setting, list[float]] = {setting: [] for setting in settings}
    for number in range(rounds + 1):
        for setting, contender in contenders.items():
            taken = contender.advance(steps)
            if number:
                tried[setting].append(taken)
    medians = {setting: float(np.median(taken)) for setting, taken in tried.items()}
    best = min(medians, key=lambda setting: medians[setting])
    progress(f"PyTorch's fastest of {len(settings)} settings: {best}")
    return best, {str(setting): value for setting, value in medians.items()}


def thread_counts() -> tuple[int, ...]:
    """One thread, and PyTorch's default number of threads."""
    return tuple(sorted({1, torch.get_num_threads()}))


class threads:  # noqa: N801 - a context manager
    """Runs a block with ``number`` threads."""

    def __init__(self, number: int):
        self.number = number

    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        torch.set_num_threads(self.number)

    def __exit__(self, *_: Any) -> None:
        torch.set_num_threads(self.before)


def torch_gemm(size: int) -> Callable[[], float]:
    """A function that multiplies two float32 matrices and returns GFLOP/s."""
    a, b = torch.randn(2, size, size)
    torch.mm(a, b)

    def measure() -> float:
        start = time.perf_counter()
        torch.mm(a, b)
        return 2e-9 * size**3 / (time.perf_counter() - start)

    return measure


def extra_adam_path(
    value: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    primal: np.ndarray,
    dual: np.ndarray,
    rate: float,
    b1: float,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """cooper-optim's ExtraAdam on ``min_x max_y value(x, y)``, one step per item, ``eps = 0``."""
    players = [torch.nn.Parameter(torch.tensor(z)) for z in (primal, dual)]
    optimizers = [
        _cooper().optim.ExtraAdam([z], lr=rate, betas=(b1, 0.999), eps=0.0, maximize=maximize)
        for z, maximize in zip(players, (False, True), strict=True)
    ]

    def differentiate() -> None:
        gradients = torch.autograd.grad(value(*players), players)
        for player, gradient in zip(players, gradients, strict=True):
            player.grad = gradient

    while True:
        differentiate()
        for optimizer in optimizers:
            optimizer.extrapolation()
        differentiate()
        for optimizer in optimizers:
            optimizer.step()
        yield players[0].detach().numpy(), players[1].detach().numpy()


def carousel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The objective of ``osj.games.carousel()`` for one run."""
    c, omega, mu, radius = 1.25, 3.0, 0.5, 2.0
    s = x @ x
    turned = (x[0] ** 2 - x[1] ** 2) * torch.cos(y[0]) + 2 * x[0] * x[1] * torch.sin(y[0])
    weight = 1 / s if s > 1 else 2 - s
    value = weight * (c * s + turned) + omega * y[0]
    return value + mu / 2 * (s.sqrt() - radius) ** 2 if s > radius**2 else value


def bilinear(matrix: np.ndarray) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """``x^T A y``."""
    held = torch.from_numpy(matrix)
    return lambda x, y: x @ held @ y


def _cooper() -> Any:
    try:
        import cooper
    except ImportError as error:
        raise ImportError(MISSING_TORCH) from error
    return cooper
