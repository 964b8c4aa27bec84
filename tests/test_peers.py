"""The same trajectories as cooper-optim: ExtraAdam, and constrained problems.

Optional: skipped where the extra ``bench`` is not installed. ExtraAdam is the authors' own code in
the PyTorch port that cooper keeps. The authors put ``eps`` inside the
bias correction, ``h = (sqrt(v) + eps) / sqrt(c2)``; optax, and we, outside. At ``eps = 0`` the
two are one method.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optimizer_table import step

import onesided_jax as osj
from onesided_jax import PrimalDual

torch = pytest.importorskip("torch", reason="the extra bench is not installed")
cooper = pytest.importorskip("cooper", reason="the extra bench is not installed")

STEPS = 200
rng = np.random.default_rng(0)
P, Q, A = (m @ m.T / 6 + 0.5 * np.eye(6) for m in rng.normal(size=(3, 6, 6)))
START = PrimalDual(*rng.normal(size=(2, 6)))
LR, BETAS = (0.02, 0.05), (0.5, 0.9)


def quadratic(x, y):
    return x @ P @ x / 2 + x @ A @ y - y @ Q @ y / 2


def torch_path(value, x, y, amsgrad, steps):
    """Trajectory of cooper's ExtraAdam, both players extrapolating and stepping together."""
    players = [torch.nn.Parameter(torch.tensor(z)) for z in (x, y)]
    optimizers = [
        cooper.optim.ExtraAdam([z], lr=lr, betas=BETAS, eps=0.0, amsgrad=amsgrad)
        for z, lr in zip(players, LR, strict=True)
    ]
    path = []

    def backward():
        for optimizer in optimizers:
            optimizer.zero_grad()
        value(*players).backward()
        players[1].grad.neg_()

    for _ in range(steps):
        backward()
        for optimizer in optimizers:
            optimizer.extrapolation()
        backward()
        for optimizer in optimizers:
            optimizer.step()
        path.append([z.detach().numpy().copy() for z in players])
    return path


def our_path(tx, value, x, y, steps):
    players = jax.tree.map(jnp.asarray, PrimalDual(x, y))
    state, path = tx.init(players), []

    def field(players):
        grad_x, grad_y = jax.grad(value, argnums=(0, 1))(*players)
        return PrimalDual(grad_x, -grad_y)

    take = jax.jit(lambda players, state: step(tx, field, players, state))
    for _ in range(steps):
        players, state = take(players, state)
        path.append([np.asarray(z) for z in players])
    return path


def worst(ours, theirs):
    return max(
        np.max(np.abs(a - b)) / np.max(np.abs(b))
        for pair in zip(ours, theirs, strict=True)
        for a, b in zip(*pair, strict=True)
    )


@pytest.mark.parametrize("amsgrad", [False, True])
def test_extra_adam_on_a_quadratic_in_float64(amsgrad):
    with jax.enable_x64(True):
        moments = dict(zip(("b1", "b2"), BETAS)) | {"eps": 0.0}
        if amsgrad:
            tx = osj.extragradient(osj.amsgrad(*LR, convention="torch", **moments))
        else:
            tx = osj.extra_adam(*LR, **moments)
        ours = our_path(tx, quadratic, *START, STEPS)
    t = {name: torch.tensor(m) for name, m in (("P", P), ("Q", Q), ("A", A))}

    def value(x, y):
        return x @ t["P"] @ x / 2 + x @ t["A"] @ y - y @ t["Q"] @ y / 2

    theirs = torch_path(value, *START, amsgrad, STEPS)
    assert worst(ours, theirs) < 1e-9
    assert worst(ours, theirs[1:] + theirs[:1]) > 1e-3  # the comparison can fail


def test_extra_adam_on_a_small_gan_in_float32():
    """Latent 4 -> 16 -> 2 against 2 -> 16 -> 1, flattened into one vector per player."""
    shapes = {"x": [(4, 16), (1, 16), (16, 2), (1, 2)], "y": [(2, 16), (1, 16), (16, 1), (1, 1)]}
    sizes = {k: [int(np.prod(s)) for s in v] for k, v in shapes.items()}
    start = {k: (0.3 * rng.normal(size=sum(v))).astype("float32") for k, v in sizes.items()}
    real, latent = (rng.normal(size=(32, n)).astype("float32") for n in (2, 4))

    def split(flat, key, xp):
        parts = xp.split(flat, np.cumsum(sizes[key])[:-1].tolist() if xp is jnp else sizes[key])
        return [p.reshape(s) for p, s in zip(parts, shapes[key], strict=True)]

    def mlp(flat, key, inputs, xp):
        w1, b1, w2, b2 = split(flat, key, xp)
        return xp.tanh(inputs @ w1 + b1) @ w2 + b2

    def value(x, y, xp, softplus, real, latent):
        fake = mlp(x, "x", latent, xp)
        return -(softplus(-mlp(y, "y", real, xp)).mean() + softplus(mlp(y, "y", fake, xp)).mean())

    ours = our_path(
        osj.extra_adam(*LR, b1=BETAS[0], b2=BETAS[1], eps=0.0),
        lambda x, y: value(x, y, jnp, jax.nn.softplus, real, latent),
        *start.values(),
        steps=10,
    )
    real, latent = torch.tensor(real), torch.tensor(latent)
    theirs = torch_path(
        lambda x, y: value(x, y, torch, torch.nn.functional.softplus, real, latent),
        *start.values(),
        False,
        10,
    )
    # At eps = 0 Adam divides by |g|: what rounds in an entry near 0 is a relative error of 1.
    drift = [np.abs(a - b) for a, b in zip(ours[-1], theirs[-1], strict=True)]
    assert max(np.quantile(d, 0.9) for d in drift) < 1e-5
    assert max(np.max(d) for d in drift) < 10 * 2 * max(LR)
    assert optax.tree.norm(jax.tree.map(lambda a, b: a - b, ours[-1], list(start.values()))) > 0.5


# ---- cooper's tutorial: logistic regression under a norm constraint, full batches ----

LABELS = np.random.default_rng(2).integers(3, size=80)
INPUTS = np.random.default_rng(3).normal(size=(80, 5)) + 2 * np.eye(3, 5)[LABELS]
WEIGHT, BIAS = 0.3 * np.random.default_rng(4).normal(size=(5, 3)), np.zeros(3)
RATE, DUAL_RATE, KP, PENALTY = 0.3, 0.2, 4.0, 0.5


class Tutorial(cooper.ConstrainedMinimizationProblem):
    def __init__(self, penalty):
        super().__init__()
        multiplier = cooper.multipliers.DenseMultiplier(num_constraints=1, dtype=torch.float64)
        kind, extra = cooper.formulations.Lagrangian, {}
        if penalty:
            coefficient = torch.tensor([penalty], dtype=torch.float64)
            kind = cooper.formulations.AugmentedLagrangian
            extra = {
                "penalty_coefficient": cooper.penalty_coefficients.DensePenaltyCoefficient(
                    coefficient
                )
            }
        self.norm = cooper.Constraint(
            constraint_type=cooper.ConstraintType.INEQUALITY,
            formulation_type=kind,
            multiplier=multiplier,
            **extra,
        )
        self.inputs, self.labels = torch.tensor(INPUTS), torch.tensor(LABELS)

    def compute_cmp_state(self, weight, bias):
        loss = torch.nn.functional.cross_entropy(self.inputs @ weight + bias, self.labels)
        excess = (weight.pow(2).sum() + bias.pow(2).sum() - 1.0).unsqueeze(0)
        state = cooper.ConstraintState(violation=excess)
        return cooper.CMPState(loss=loss, observed_constraints={self.norm: state})


def ascent(params):
    return torch.optim.SGD(params, lr=DUAL_RATE, maximize=True)


def braked(**options):
    """nuPI of cooper; its gains are tensors, single precision unless told otherwise."""
    kp, ki = torch.tensor([KP, 1.0], dtype=torch.float64)
    gains = {"Kp": kp, "Ki": ki}
    return lambda params: cooper.optim.nuPI(params, lr=DUAL_RATE, maximize=True, **gains, **options)


def extra(lr, **options):
    return lambda params: cooper.optim.ExtraSGD(params, lr=lr, **options)


def descent(params):
    return torch.optim.SGD(params, lr=RATE)


ZERO = cooper.optim.torch_optimizers.nuPIInitType.ZEROS
OURS = optax.sgd(RATE)
# Name: cooper's loop, its two optimizers, ours, penalty.
CONSTRAINED = {
    "simultaneous": ("Simultaneous", descent, ascent, osj.sgda(RATE, DUAL_RATE), 0),
    "augmented": ("Simultaneous", descent, ascent, osj.sgda(RATE, DUAL_RATE), PENALTY),
    "dual first": (
        "AlternatingDualPrimal", descent, ascent,
        osj.alternating(OURS, optax.sgd(DUAL_RATE)), 0,
    ),
    "primal first": (
        "AlternatingPrimalDual", descent, ascent,
        osj.alternating_extrapolation(OURS, optax.sgd(DUAL_RATE), gamma=1.0, delta=1.0), 0,
    ),
    "extragradient": (
        "ExtrapolationConstrained", extra(RATE), extra(DUAL_RATE, maximize=True),
        osj.extra_sgd(RATE, DUAL_RATE), 0,
    ),
    "nuPI": (
        "Simultaneous", descent, braked(),
        osj.descent_ascent(OURS, osj.nupi(DUAL_RATE, kp=KP)), 0,
    ),
    "nuPI, smoothed, from zero": (
        "AlternatingDualPrimal", descent, braked(ema_nu=0.6, init_type=ZERO),
        osj.alternating(OURS, osj.nupi(DUAL_RATE, kp=KP, nu=0.6, first_step="zero")), 0,
    ),
}  # fmt: skip


def cooper_path(loop, make_primal, make_dual, penalty):
    problem = Tutorial(penalty)
    params = {
        k: torch.nn.Parameter(torch.tensor(v)) for k, v in (("weight", WEIGHT), ("bias", BIAS))
    }
    optimizer = getattr(cooper.optim, f"{loop}Optimizer")(
        cmp=problem,
        primal_optimizers=make_primal(list(params.values())),
        dual_optimizers=make_dual(problem.dual_parameters()),
    )
    path = []
    for _ in range(STEPS):
        optimizer.roll(compute_cmp_state_kwargs=params)
        moved = [params["weight"], params["bias"], problem.norm.multiplier.weight]
        path.append([z.detach().numpy().copy().ravel() for z in moved])
    return path


@pytest.mark.parametrize("method", CONSTRAINED)
def test_the_tutorial_of_cooper_in_float64(method):
    loop, make_primal, make_dual, tx, penalty = CONSTRAINED[method]
    with jax.enable_x64(True):
        game = osj.games.norm_constrained_logistic(INPUTS, LABELS, classes=3, penalty=penalty)
        tx = osj.projected(tx, game.project)
        params = {"weight": jnp.asarray(WEIGHT), "bias": jnp.asarray(BIAS)}
        players = game.init(jax.random.key(0))[0]._replace(primal=params)
        state, ours = tx.init(players), []

        def field(players):
            return game.field(players, (), game.data)[0]

        take = jax.jit(lambda players, state: step(tx, field, players, state))
        for _ in range(STEPS):
            players, state = take(players, state)
            x = players.primal
            ours.append([np.ravel(z) for z in (x["weight"], x["bias"], players.dual.inequality)])
    theirs = cooper_path(loop, make_primal, make_dual, penalty)
    ours, theirs = (np.array([np.concatenate(z) for z in path]) for path in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)
    assert theirs[:, -1].max() > 0.05  # the constraint binds
    if method == "simultaneous":
        assert theirs[:, -1].min() == 0  # and does not at first
    assert np.abs(ours[1:] - theirs[:-1]).max() > 1e-3  # the comparison can fail
