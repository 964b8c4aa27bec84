"""Too little memory, injected; and how much a process really takes."""

from __future__ import annotations

import contextlib
import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

import onesided_jax as osj
from onesided_jax.runs import Recipe
from onesided_jax.sweeps import driver, layout
from onesided_jax.sweeps.memory import OutOfMemoryError

from .figures import Figures
from .workload import differences

__all__ = ["exhausted", "exhausting", "peak_of"]

REASON = "RESOURCE_EXHAUSTED: Out of memory allocating 17179869184 bytes."


@contextlib.contextmanager
def exhausting(when: Callable[[int, int], bool], *, compiling: bool = False) -> Iterator[list[int]]:
    """Dispatches of a sweep run out of memory, as those of a device that is too small.

    Args:
      when: of the width and the number of the dispatch, from 0.
      compiling: whether already the compilation does.

    Yields:
      The widths that were dispatched.
    """
    original, widths = layout.compile_chunk, []

    def compile_chunk(plan: Any, where: layout.Layout) -> Any:
        if compiling and when(where.width, 0):
            raise jax.errors.JaxRuntimeError(REASON)
        return _Executable(original(plan, where), where.width)

    class _Executable:
        """A compiled program that asks before it runs."""

        def __init__(self, compiled: Any, width: int):
            self._compiled, self._width = compiled, width

        def __call__(self, *arguments: Any) -> Any:
            widths.append(self._width)
            if when(self._width, len(widths) - 1):
                raise jax.errors.JaxRuntimeError(REASON)
            return self._compiled(*arguments)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._compiled, name)

    for module in (layout, driver):
        module.compile_chunk = compile_chunk
    try:
        yield widths
    finally:
        for module in (layout, driver):
            module.compile_chunk = original


def exhausted(folder: Path, recipe: Recipe, *, width: int, dispatches: int) -> list[Figures]:
    """Too small a device for a width; then memory that runs out later."""
    before, later = [0, 0, 0, 0], [0, 0, 0, 0]
    limits = [w for w in (width // 2**i for i in range(1, 20)) if w]
    for compiling in (False, True):
        for limit in limits:
            out, told = folder / f"narrower-{limit}-{compiling}", False
            with exhausting(lambda w, n, limit=limit: w > limit, compiling=compiling):
                try:
                    osj.run(recipe, out, width=width, on_damage=[].append)
                except OutOfMemoryError as error:
                    told = f"pass width={width // 2}" in str(error)
                osj.run(recipe, out, width=limit, on_damage=[].append)
            expected = osj.run(recipe, folder / f"width-{limit}", width=limit)
            _count(before, differences(expected, out))
            before[1] -= not told
    whole = osj.run(recipe, folder / "whole", width=width)
    for number in range(1, dispatches):
        out, told = folder / f"later-{number}", False
        try:
            with exhausting(lambda w, n, number=number: n == number):
                osj.run(recipe, out, width=width, on_damage=[].append)
        except OutOfMemoryError:
            told = True
        osj.run(recipe, out, width=width)
        _count(later, differences(whole, out))
        later[1] -= not told
    return [
        Figures("RESOURCE_EXHAUSTED in the first chunk", *before, note="told, then narrower"),
        Figures("RESOURCE_EXHAUSTED later", *later, note="a clean end, then resumed at the same W"),
    ]


def _count(counts: list[int], different: list[str]) -> None:
    counts[0] += 1
    counts[1] += not different
    counts[2] += len(different)


def peak_of(function: str, arguments: list[Any], to: str) -> int:
    """A victim that runs a function of its own and writes its peak memory (bytes) to a file."""
    import importlib

    module, _, name = function.partition(":")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    returned = getattr(importlib.import_module(module), name)(*arguments)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    Path(to).write_text(
        json.dumps({"before": before * 1024, "peak": after * 1024, "returned": returned})
    )
    return 0


def many_small(out: str, runs: int, steps: int) -> list[int]:
    """So many runs of the carousel in one sweep; what became of them."""
    import numpy as np

    osj.configure_cpu()
    result = osj.sweep(
        osj.games.carousel(),
        osj.amsgrad_xeg,
        osj.Runs(
            np.arange(runs),
            {
                "primal_learning_rate": np.full(runs, 0.01),
                "dual_learning_rate": np.full(runs, 0.2),
            },
        ),
        steps=steps,
        checkpoint_every=steps // 4,
        record_every=5,
        out=out,
    )
    return [len(result.seeds), int((result.diverged_at >= 0).sum()), len(result.checkpoints)]


def many_networks(out: str, runs: int, steps: int, size: int, width: int) -> list[int]:
    """So many DCGANs on images of noise in one sweep; what became of them."""
    import numpy as np

    osj.configure_cpu()
    pixels = np.random.default_rng(0).integers(0, 256, (512, size, size, 1), np.uint8)
    generator, discriminator = osj.networks.dcgan((size, size, 1), latent_dim=64, width=width)
    game = osj.games.gan(
        generator=generator,
        discriminator=discriminator,
        loss="non_saturating",
        data=osj.datasets.from_array(pixels),
        batch_size=64,
        latent_dim=64,
    )
    result = osj.sweep(
        game,
        lambda **h: osj.adam(**h, b1=0.5),
        osj.Runs(
            np.arange(runs),
            {
                "primal_learning_rate": np.full(runs, 2e-4),
                "dual_learning_rate": np.full(runs, 2e-4),
            },
        ),
        steps=steps,
        checkpoint_every=steps // 5,
        out=out,
    )
    return [len(result.seeds), int((result.diverged_at >= 0).sum()), len(result.checkpoints)]
