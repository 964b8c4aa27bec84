"""This package's networks and minibatches in PyTorch, as a PyTorch user writes them."""

# pyright: reportMissingImports=false

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import MISSING_TORCH

try:
    import torch
    from torch import nn
    from torch.nn.functional import leaky_relu, relu
except ImportError as error:  # pragma: no cover - depends on the installation
    raise ImportError(MISSING_TORCH) from error

LEAK = 0.2
TRUNCATION = 0.87962566103423978  # deviation of a standard normal cut at 2
KERNEL, STRIDE, PADDING = 4, 2, 1
COARSEST = 7


def levels(shape: Sequence[int], width: int) -> tuple[list[int], tuple[int, int]]:
    """Channels of every level, finest first, and the size of the coarsest."""
    height, columns, channels = shape
    widths = [channels]
    while min(height, columns) > COARSEST and height % STRIDE == columns % STRIDE == 0:
        height, columns = height // STRIDE, columns // STRIDE
        widths.append(width * 2 ** (len(widths) - 1))
    return widths, (height, columns)


class DcganGenerator(nn.Module):
    """``osj.networks.dcgan``'s generator of images of ``shape`` (H, W, C)."""

    def __init__(self, latent: int, width: int, shape: Sequence[int] = (28, 28, 1)):
        super().__init__()
        widths, coarsest = levels(shape, width)
        self.coarsest = (widths[-1], *coarsest)
        self.dense = nn.Linear(latent, math.prod(self.coarsest))
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(a, b, KERNEL, STRIDE, PADDING)
            for a, b in zip(widths[:0:-1], widths[-2::-1])
        )
        lecun_normal(self)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        x = self.dense(latents).view(-1, *self.coarsest)
        for up in self.ups:
            x = up(relu(x))
        return torch.tanh(x)


class DcganDiscriminator(nn.Module):
    """``osj.networks.dcgan``'s discriminator of images of ``shape`` (H, W, C)."""

    def __init__(self, width: int, shape: Sequence[int] = (28, 28, 1)):
        super().__init__()
        widths, coarsest = levels(shape, width)
        self.downs = nn.ModuleList(
            nn.Conv2d(a, b, KERNEL, STRIDE, PADDING) for a, b in itertools.pairwise(widths)
        )
        self.head = nn.Linear(widths[-1] * math.prod(coarsest), 1)
        lecun_normal(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images
        for down in self.downs:
            x = leaky_relu(down(x), LEAK)
        return self.head(x.flatten(1))[:, 0]


class Mlp(nn.Module):
    """``osj.networks.mlp``, two hidden layers; ``leak=0`` means ReLU, as in the generator."""

    def __init__(self, inputs: int, width: int, outputs: int, leak: float = 0.0):
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.second = nn.Linear(width, width)
        self.head = nn.Linear(width, outputs)
        self.leak, self.scalar = leak, outputs == 1
        lecun_normal(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (self.first, self.second):
            x = layer(x)
            x = leaky_relu(x, self.leak) if self.leak else relu(x)
        x = self.head(x)
        return x[..., 0] if self.scalar else x


def lecun_normal(module: nn.Module) -> None:
    """Flax's default initialisation: a truncated normal of variance 1 / fan-in, biases at zero."""
    for layer in module.modules():
        weight: Any = getattr(layer, "weight", None)
        if weight is None:
            continue
        size = weight[0].numel()
        if isinstance(layer, nn.ConvTranspose2d):  # [in, out, kh, kw]
            size = weight.shape[0] * math.prod(weight.shape[2:])
        deviation = 1 / math.sqrt(size) / TRUNCATION
        nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class Task(NamedTuple):
    """A GAN: functions that make networks and draw minibatches.

    Attributes:
      networks: ``() -> (generator, discriminator)``.
      draw: ``(*shape) -> real samples``, with replacement from stored data.
      batch: samples per minibatch.
      latent: length of the generator's input.
      device: where networks, data and random numbers are.
    """

    networks: Callable[[], tuple[nn.Module, nn.Module]]
    draw: Callable[..., torch.Tensor]
    batch: int
    latent: int
    device: str = "cpu"

    def latents(self, *runs: int) -> torch.Tensor:
        return torch.randn(*runs, self.batch, self.latent, device=self.device)


def dcgan_task(
    images: np.ndarray, latent: int, width: int, batch: int, device: str = "cpu"
) -> Task:
    """``images``: ``uint8[N, H, W, C]``."""
    stored = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(device)

    def draw(*shape: int) -> torch.Tensor:
        chosen = stored[torch.randint(len(stored), shape, device=device)]
        return (chosen.float() - 127.5) * (1 / 127.5)

    def networks() -> tuple[nn.Module, nn.Module]:
        shape = images.shape[1:]
        with torch.device(device):
            return DcganGenerator(latent, width, shape), DcganDiscriminator(width, shape)

    return Task(networks, draw, batch, latent, device)


def ring_task(
    means: np.ndarray,
    deviation: float,
    latent: int,
    width: int,
    batch: int,
    device: str = "cpu",
) -> Task:
    """``means``: ``float[modes, 2]``, of equally likely Gaussians."""
    centres = torch.from_numpy(means).to(device)

    def draw(*shape: int) -> torch.Tensor:
        chosen = centres[torch.randint(len(centres), shape, device=device)]
        return chosen + deviation * torch.randn(*shape, 2, device=device)

    def networks() -> tuple[nn.Module, nn.Module]:
        with torch.device(device):
            return Mlp(latent, width, 2), Mlp(2, width, 1, LEAK)

    return Task(networks, draw, batch, latent, device)
