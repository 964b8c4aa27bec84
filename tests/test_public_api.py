"""The names and signatures that other programs are written against, and the import rules."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import onesided_jax as osj

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "onesided_jax"

SIGNATURES = {
    "descent_ascent": "(primal, dual)",
    "extragradient": "(base, *, extrapolation_state='carried', opaque_mode=True)",
    "amsgrad_eg": (
        "(primal_learning_rate, dual_learning_rate, *, b2=0.99, eps=0.001, dual_eps=None, "
        "dual_extrapolation=True, dual_extrapolation_learning_rate=None, update_scale=1.0, "
        "b1_update=0.0, b1_extrapolation=0.0, dual_b1=0.0, convention='optax', "
        "initial_accumulator=0.0)"
    ),
    "amsgrad_xeg": (
        "(primal_learning_rate, dual_learning_rate, *, b2=0.99, eps=0.001, dual_eps=None, "
        "convention='optax', initial_accumulator=0.0)"
    ),
    "amsgrad_eg_drd": (
        "(primal_learning_rate, dual_learning_rate, *, power=0.5, decay='both', b2=0.99, "
        "eps=0.001, dual_eps=None, dual_extrapolation=True, convention='optax', "
        "initial_accumulator=0.0)"
    ),
    "adam": "(primal_learning_rate, dual_learning_rate, *, b1=0.9, b2=0.999, eps=1e-08)",
    "amsgrad": (
        "(primal_learning_rate, dual_learning_rate, *, b1=0.9, b2=0.999, eps=1e-08, "
        "convention='optax', initial_accumulator=0.0)"
    ),
    "alternating": "(primal, dual, dual_steps=1)",
    "past_extragradient": "(base, *, extrapolation_state='carried')",
    "lookahead_minmax": "(base, sync_period=5, slow_step_size=0.5)",
    "optimistic": "(base, *, first_step='repeat')",
    "extragradient_plus": "(base, *, update_scale=0.5, extrapolation_state='discarded')",
    "anchored": "(base, *, form='extragradient')",
    "consensus": "(base, strength)",
    "apply_if_finite": "(inner, max_consecutive_errors)",
    "with_player_keys": "(tx, primal, dual)",
    "alternating_adam": (
        "(primal_learning_rate, dual_learning_rate, *, b1=0.9, b2=0.999, eps=1e-08, dual_steps=1)"
    ),
    "past_extra_adam": (
        "(primal_learning_rate, dual_learning_rate, *, b1=0.9, b2=0.999, eps=1e-08)"
    ),
    "past_amsgrad_eg": (
        "(primal_learning_rate, dual_learning_rate, *, b2=0.99, eps=0.001, dual_eps=None, "
        "convention='optax', initial_accumulator=0.0)"
    ),
    "optimistic_adam": (
        "(primal_learning_rate, dual_learning_rate, *, b1=0.9, b2=0.999, eps=1e-08, "
        "first_step='repeat')"
    ),
    "lookahead_adam": (
        "(primal_learning_rate, dual_learning_rate, *, b1=0.9, b2=0.999, eps=1e-08, "
        "sync_period=5, slow_step_size=0.5)"
    ),
    "oadagrad": (
        "(primal_learning_rate, dual_learning_rate, *, eps=1e-07, initial_accumulator=0.1)"
    ),
    "sgda": "(primal_learning_rate, dual_learning_rate)",
    "extra_sgd": "(primal_learning_rate, dual_learning_rate, *, opaque_mode=True)",
    "extra_plus_sgd": "(primal_learning_rate, dual_learning_rate, *, update_scale=0.5)",
    "acgd": (
        "(primal_learning_rate, dual_learning_rate, *, b2=0.99, eps=1e-05, max_iterations=20, "
        "tolerance=1e-06)"
    ),
    "extra_adam": (
        "(primal_learning_rate, dual_learning_rate, *, b1=0.9, b2=0.999, eps=1e-08, "
        "opaque_mode=True)"
    ),
    "alex_gda": "(primal_learning_rate, dual_learning_rate, *, gamma=1.0, delta=2.0)",
    "alternating_extrapolation": "(primal, dual, *, gamma=1.0, delta=2.0)",
    "nupi": "(learning_rate, *, kp=1.0, ki=1.0, nu=0.0, first_step='sgd')",
    "projected": "(tx, project)",
    "tiada": (
        "(primal_learning_rate, dual_learning_rate, *, primal_power=0.6, dual_power=0.4, "
        "initial_accumulator=0.1)"
    ),
    "dual_rate_decay": "(init_value, power=0.5)",
    "make_step": "(game, make_optimizer, *, independent_samples=True)",
    "grid": "(*, seeds, **axes)",
    "Runs": "(seeds, hyperparameters=<factory>)",
    "sweep": (
        "(game, make_optimizer, runs, *, steps, checkpoint_every=None, record_every=1, out=None, "
        "record=None, observers=None, on_chunk=None, loggers=(), ema=None, "
        "independent_samples=True, width=None, devices=None)"
    ),
    "run": (
        "(recipe, out, *, on_chunk=None, on_damage=..., loggers=(), width=None, devices=None, "
        "stop=...)"
    ),
    "resume": (
        "(out, *, steps=None, data=None, on_chunk=None, on_damage=..., loggers=(), devices=None, "
        "stop=...)"
    ),
    "open_run": "(path, *, data=None)",
    "analyze": (
        "(run_or_result, game=None, *, criteria=None, constant_rates=True, data=None, "
        "quality=True, inception=None, on_progress=None)"
    ),
}
FIELDS = {
    "PrimalDual": ("primal", "dual"),
    "GameInfo": ("losses", "state"),
    "Game": (
        "init",
        "sample",
        "field",
        "generate",
        "flip_dual",
        "facts",
        "primal_slope",
        "data",
        "project",
        "classes",
    ),
    "Network": ("init", "apply"),
    "SweepResult": (
        "players",
        "state",
        "metrics",
        "checkpoints",
        "hyperparameters",
        "seeds",
        "diverged_at",
        "game",
        "ema",
    ),
    "Observer": ("init", "update"),
}


def shape_of(function) -> str:
    """A signature without annotations, callable defaults shown as ``...``."""
    signature = inspect.signature(function)
    parameters = [
        p.replace(annotation=p.empty, default=p.default) for p in signature.parameters.values()
    ]
    text = str(signature.replace(parameters=parameters, return_annotation=signature.empty))
    return re.sub(r"<function [^>]*>( at 0x[0-9a-f]+>)?", "...", text)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name):
    assert shape_of(getattr(osj, name)) == SIGNATURES[name]


@pytest.mark.parametrize("name", FIELDS)
def test_fields(name):
    kind = getattr(osj, name)
    fields = getattr(kind, "__dataclass_fields__", None) or kind._fields
    assert tuple(fields) == FIELDS[name]


def test_gan_signature():
    assert shape_of(osj.games.gan) == (
        "(*, generator, discriminator, loss, data, batch_size, latent_dim, "
        "gradient_penalty=None, r1=0.0, label_smoothing=0.0, augment=None, classes=None, "
        "head='head')"
    )
    assert list(inspect.signature(osj.networks.dcgan).parameters)[:3] == [
        "image_shape",
        "latent_dim",
        "width",
    ]


def test_every_public_name_resolves_and_has_a_docstring():
    for name in osj.__all__:
        value = getattr(osj, name)
        assert value.__doc__, name
    assert set(osj.__all__) <= set(dir(osj))
    with pytest.raises(AttributeError, match="no attribute 'amsgrad_ge'"):
        osj.amsgrad_ge  # noqa: B018


def test_every_public_callable_of_every_room_has_an_example():
    rooms = (osj.optimizers, osj.games, osj.networks, osj.datasets, osj.theory)
    lacking = []
    for room in rooms:
        for name in room.__all__:
            value = getattr(room, name)
            if inspect.isfunction(value) and "Example:" not in (value.__doc__ or ""):
                lacking.append(f"{room.__name__}.{name}")
    assert lacking == []


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout


def test_import_is_light_and_silent_and_sets_no_flag():
    out = run_python(
        "import sys, jax, optax\n"
        "before, there = dict(jax.config.values), set(sys.modules)\n"
        "from onesided_jax import PrimalDual, extra_adam, amsgrad_eg, OPTIMIZERS\n"
        "more = {name.partition('.')[0] for name in set(sys.modules) - there}\n"
        "print(sorted(more), before == dict(jax.config.values))"
    )
    assert out in ("['onesided_jax'] True\n", "['jax', 'onesided_jax'] True\n")


def test_only_the_command_line_prints():
    offenders = [
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "cli"
        and re.search(r"^\s*(print\(|sys\.stdout)", path.read_text(), re.M)
    ]
    assert offenders == []
