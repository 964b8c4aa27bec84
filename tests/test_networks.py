"""Convolutions against flax and XLA, modules as pure functions, and the GANs made of them."""

from __future__ import annotations

import functools

import chex
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax

from onesided_jax import networks
from onesided_jax.networks import (
    Conv,
    ConvTranspose,
    choose_form,
    conv,
    conv_transpose,
    dcgan,
    from_linen,
    from_nnx,
    mlp,
)

# What is tested is the program, not how well LLVM optimises it: this compiles 2-10 times sooner.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

KEY = jax.random.key(0)
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}  # of a sum of ~100 products of order 1


def reference_conv(x, kernel, strides, padding):
    """Four loops in NumPy float64, straight from the definition; explicit padding only."""
    x = np.asarray(x, np.float64)
    for axis, pads in enumerate(padding, start=1):
        low, high = (max(p, 0) for p in pads)
        x = np.pad(x, [(low, high) if a == axis else (0, 0) for a in range(4)])
        crop = slice(max(-pads[0], 0), x.shape[axis] - max(-pads[1], 0))
        x = x[(slice(None),) * axis + (crop,)]
    kh, kw, _, features = kernel.shape
    rows = (x.shape[1] - kh) // strides[0] + 1
    columns = (x.shape[2] - kw) // strides[1] + 1
    out = np.zeros((len(x), rows, columns, features))
    for i in range(rows):
        for j in range(columns):
            window = x[:, i * strides[0] :, j * strides[1] :][:, :kh, :kw]
            out[:, i, j] = np.tensordot(window, np.asarray(kernel, np.float64), 3)
    return out


def native_conv(x, kernel, strides, padding):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=dimensions)


PAIRS = {
    "conv": (functools.partial(conv, form="gemm"), native_conv),
    "conv_transpose": (functools.partial(conv_transpose, form="gemm"), lax.conv_transpose),
}


def arrays(shape, kernel_shape, dtype="float32"):
    generator = np.random.default_rng(0)
    x = generator.normal(size=shape).astype(dtype)
    return x, generator.normal(size=kernel_shape).astype(dtype)


def close(actual, expected, dtype="float32"):
    chex.assert_trees_all_equal_shapes_and_dtypes(actual, expected)
    chex.assert_trees_all_close(actual, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * 10)


def reference_conv_transpose(x, kernel, strides, padding):
    """Zeros between the pixels, then `reference_conv`."""
    (b, h, w, c), (sh, sw) = x.shape, strides
    dilated = np.zeros((b, (h - 1) * sh + 1, (w - 1) * sw + 1, c))
    dilated[:, ::sh, ::sw] = x
    return reference_conv(dilated, kernel, (1, 1), padding)


REFERENCES = {"conv": reference_conv, "conv_transpose": reference_conv_transpose}


def test_the_adjoint_of_conv_is_conv_transpose():
    """<conv(x), y> = <x, conv_transpose(y)> with the kernel flipped and its channels swapped."""
    x, kernel = arrays((2, 8, 6, 3), (4, 4, 3, 5))
    y, _ = arrays((2, 4, 3, 5), ())

    def both(x, kernel, y):
        flipped = kernel[::-1, ::-1].swapaxes(2, 3)
        back = conv_transpose(y, flipped, 2, "SAME", form="gemm")
        return jnp.vdot(conv(x, kernel, 2, "SAME", form="gemm"), y), jnp.vdot(x, back)

    np.testing.assert_allclose(*jit(both)(x, kernel, y), rtol=1e-5)


sizes = st.integers(1, 9)
windows = st.integers(1, 5)
strides = st.integers(1, 4)
margin = st.tuples(st.integers(-1, 3), st.integers(-1, 3))


@pytest.mark.parametrize("name", REFERENCES)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    size=st.tuples(sizes, sizes),
    window=st.tuples(windows, windows),
    stride=st.tuples(strides, strides),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(margin, margin),
)
def test_gemm_is_the_definition_for_any_geometry(name, size, window, stride, channels, padding):
    x, kernel = arrays((2, *size, channels[0]), (*window, *channels))
    spread = stride if name == "conv_transpose" else (1, 1)
    inner = [(n - 1) * s + 1 for n, s in zip(size, spread)]
    assume(all(n + min(p) >= 1 for n, p in zip(inner, padding)))
    assume(all(n + sum(p) >= k for n, p, k in zip(inner, padding, window)))
    expected = REFERENCES[name](x, kernel, stride, padding)
    ours = jit(PAIRS[name][0], static_argnums=(2, 3))(x, kernel, stride, padding)
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("name", PAIRS)
def test_named_padding_is_native(name, padding):
    """Kernels larger than the stride, equal and smaller, dividing and not; odd sizes; no output."""
    cases = [(8, 4, 2), (7, 3, 2), (5, 2, 2), (7, 1, 3), (2, 3, 1), (1, 5, 4), (4, 2, 3)]
    data = [arrays((1, n, n + 1, 2), (k, k, 2, 1)) for n, k, _ in cases]

    def run(form, data):
        function = {"conv": conv, "conv_transpose": conv_transpose}[name]
        return [function(*xs, s, padding, form=form) for xs, (_, _, s) in zip(data, cases)]

    def native(data):
        return [PAIRS[name][1](*xs, (s, s), padding) for xs, (_, _, s) in zip(data, cases)]

    expected = jit(native)(data)
    for form in ("gemm", "native"):
        close(jit(functools.partial(run, form))(data), expected)


GEOMETRIES = [
    ((2, 8, 8, 3), (4, 4, 3, 5), (2, 2), "SAME"),  # DCGAN's
    ((2, 7, 5, 2), (3, 5, 2, 3), (2, 3), ((0, 2), (3, 1))),  # stride does not divide, odd sizes
    ((2, 4, 3, 9), (4, 4, 9, 2), (2, 2), "SAME"),  # many channels in: overlap-add
]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=["even", "odd", "wide"])
@pytest.mark.parametrize("name", PAIRS)
def test_derivatives_are_native(name, geometry, dtype):
    """The value, both gradients, a jvp, and reverse over reverse, of a nonlinear function."""
    shape, kernel_shape, stride, padding = geometry

    def derivatives(function, x, kernel, tangents):
        def value(x, kernel):
            return jnp.sin(function(x, kernel, stride, padding)).sum()

        def inner(x, kernel):
            gradients = jax.grad(value, (0, 1))(x, kernel)
            return sum(jnp.vdot(g, t) for g, t in zip(gradients, tangents))

        return (
            function(x, kernel, stride, padding),
            jax.grad(value, (0, 1))(x, kernel),
            jax.jvp(value, (x, kernel), tangents),
            jax.grad(inner, (0, 1))(x, kernel),
        )

    with jax.enable_x64(dtype == "float64"):
        x, kernel = arrays(shape, kernel_shape, dtype)
        tangents = (np.cos(x), np.cos(kernel))
        ours, native = (
            jit(functools.partial(derivatives, f))(x, kernel, tangents) for f in PAIRS[name]
        )
        close(ours, native, dtype)


@pytest.mark.parametrize("name", PAIRS)
def test_vmap_over_runs_is_a_loop(name):
    function = PAIRS[name][0]
    x, kernel = arrays((3, 2, 7, 7, 4), (3, 4, 4, 4, 5))

    def gradients(x, kernel):
        return jax.grad(lambda x, k: (function(x, k, 2, "SAME") ** 2).sum(), (0, 1))(x, kernel)

    together = jit(jax.vmap(gradients))(x, kernel)
    single = jit(gradients)
    apart = [single(x[i], kernel[i]) for i in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *apart)
    chex.assert_trees_all_close(together, stacked, rtol=1e-5, atol=1e-4)


def test_integer_padding_reads_as_in_flax():
    x, kernel = arrays((1, 5, 5, 1), (3, 3, 1, 1))
    run = jit(conv, static_argnums=(2, 3))
    np.testing.assert_array_equal(run(x, kernel, 1, (1, 2)), run(x, kernel, 1, ((1, 1), (2, 2))))
    np.testing.assert_array_equal(run(x, kernel, 1, 1), run(x, kernel, 1, "SAME"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": jnp.ones((5, 5, 1))}, r"expected images \[B, H, W, C\].*float32\[5, 5, 1\]"),
        ({"x": jnp.ones((1, 5, 5, 2))}, "expected images"),
        ({"x": jnp.ones((1, 5, 5, 1), jnp.bfloat16)}, "of one dtype; got bfloat16"),
        ({"strides": 0}, "strides must be one or two positive integers; got 0"),
        ({"strides": (2, 2, 2)}, r"got \(2, 2, 2\)"),
        ({"padding": "same"}, "padding must be 'SAME', 'VALID'.*got 'same'"),
        ({"padding": (1, 2, 3)}, r"got \(1, 2, 3\)"),
        ({"padding": ((0.5, 1), 1)}, r"got \(\(0.5, 1\), 1\)"),
        ({"form": "fft"}, "one of 'auto', 'gemm', 'native'; got 'fft'"),
    ],
)
@pytest.mark.parametrize("function", [conv, conv_transpose])
def test_bad_arguments_say_what_was_expected(function, change, message):
    arguments = {"x": jnp.ones((1, 5, 5, 1)), "kernel": jnp.ones((3, 3, 1, 1)), **change}
    with pytest.raises(ValueError, match=message):
        function(**arguments)


@pytest.mark.parametrize(
    ("backend", "expected"), [("cpu", "gemm"), ("gpu", "native"), ("tpu", "native")]
)
def test_one_place_chooses_by_platform(monkeypatch, backend, expected):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert choose_form("auto") == expected
    assert choose_form("gemm") == "gemm"
    assert choose_form("native") == "native"
    layer = Conv(2, 3, (3, 3), rngs=nnx.Rngs(0))
    transpose = ConvTranspose(2, 3, (3, 3), rngs=nnx.Rngs(0))
    for module in (layer, transpose):
        text = str(jax.make_jaxpr(lambda x, m=module: m(x))(jnp.ones((1, 4, 4, 2))))
        assert ("conv_general_dilated" in text) == (expected == "native")
        assert ("dot_general" in text) == (expected == "gemm")


LAYERS = [
    (Conv, nnx.Conv, {"kernel_size": (4, 4), "strides": 2}),
    (Conv, nnx.Conv, {"kernel_size": (3, 3), "strides": None, "padding": 1, "use_bias": False}),
    (Conv, nnx.Conv, {"kernel_size": (3, 3), "padding": "CIRCULAR"}),
    (Conv, nnx.Conv, {"kernel_size": (3, 3), "kernel_dilation": 2}),
    (Conv, nnx.Conv, {"kernel_size": (3, 3), "input_dilation": 2, "padding": 1}),
    (Conv, nnx.Conv, {"kernel_size": (3, 3), "feature_group_count": 2}),
    (Conv, nnx.Conv, {"kernel_size": (3, 3), "preferred_element_type": jnp.float32}),
    (ConvTranspose, nnx.ConvTranspose, {"kernel_size": (4, 4), "strides": 2}),
    (ConvTranspose, nnx.ConvTranspose, {"kernel_size": (5, 3), "strides": (3, 1), "padding": 2}),
    (ConvTranspose, nnx.ConvTranspose, {"kernel_size": (3, 3), "padding": ((1, 0), 2)}),
    (ConvTranspose, nnx.ConvTranspose, {"kernel_size": (2, 2), "use_bias": False}),
    (ConvTranspose, nnx.ConvTranspose, {"kernel_size": (4, 4), "padding": "CIRCULAR"}),
    (ConvTranspose, nnx.ConvTranspose, {"kernel_size": (3, 3), "transpose_kernel": True}),
    (ConvTranspose, nnx.ConvTranspose, {"kernel_size": (3, 3), "kernel_dilation": (2, 2)}),
]


def waves(key, shape, dtype=jnp.float32):
    """An initialiser that compiles at once."""
    return jnp.sin(jnp.arange(np.prod(shape), dtype=dtype)).reshape(shape)


@pytest.mark.parametrize(("ours", "flax", "options"), LAYERS)
def test_layers_are_flax_layers(ours, flax, options):
    """The same parameters and numbers, with one batch axis, two or none."""
    options = {"bias_init": waves, "kernel_init": waves, **options}

    def run(layer, x, **extra):
        layer = layer(4, 6, **options, **extra, rngs=nnx.Rngs(3))
        return nnx.to_pure_dict(nnx.state(layer)), layer(x[:, 0]), layer(x), layer(x[0, 0])

    x, _ = arrays((2, 3, 7, 6, 4), ())
    actual = jit(functools.partial(run, ours, form="gemm"))(x)
    close(actual, jit(functools.partial(run, flax))(x))


@pytest.mark.parametrize(
    ("ours", "flax", "options"),
    [(Conv, nnx.Conv, {}), (ConvTranspose, nnx.ConvTranspose, {"transpose_kernel": True})],
)
def test_layers_initialise_as_flax_does(ours, flax, options):
    """Bit for bit, although ours draws the kernel as a matrix."""

    @jit
    def parameters(key):
        layers = [m(4, 6, (3, 2), **options, rngs=nnx.Rngs(key)) for m in (ours, flax)]
        return [nnx.to_pure_dict(nnx.state(layer)) for layer in layers]

    actual, expected = parameters(KEY)
    chex.assert_trees_all_equal(actual, expected)
    assert float(expected["kernel"].std()) > 0.1


@pytest.mark.parametrize(("ours", "flax"), [(Conv, nnx.Conv), (ConvTranspose, nnx.ConvTranspose)])
def test_layers_promote_dtypes_as_flax_does(ours, flax):
    options = {"kernel_size": (3, 3), "dtype": jnp.bfloat16, "kernel_init": waves}

    @jit
    def run(x):
        options["rngs"] = nnx.Rngs(0)
        return ours(2, 3, **options, form="gemm")(x), flax(2, 3, **options)(x)

    actual, expected = run(np.ones((2, 5, 5, 2), np.float32))
    assert actual.dtype == expected.dtype == jnp.bfloat16
    np.testing.assert_allclose(*(np.float32(a) for a in (actual, expected)), atol=0.05)


class Everything(nnx.Module):
    """BatchNorm, dropout, and a list, whose positions are integer keys inside flax."""

    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)])
        self.norm = nnx.BatchNorm(4, momentum=0.5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.dropout(self.norm(x))


EVERYTHING = from_nnx(Everything)
apply_everything = jit(EVERYTHING.apply, static_argnames="train")


@pytest.fixture(scope="module")
def everything():
    return jit(EVERYTHING.init)(jax.random.key(7))


def strings_and_arrays(tree):
    if isinstance(tree, dict):
        return all(isinstance(k, str) and strings_and_arrays(v) for k, v in tree.items())
    return isinstance(tree, jax.Array) and not jnp.issubdtype(tree.dtype, jax.dtypes.prng_key)


def test_from_nnx_is_the_module(everything):
    params, state = everything
    assert strings_and_arrays(params)
    assert strings_and_arrays(state)
    assert set(params["layers"]) == {"0", "1"}
    assert set(state) == {"norm", "dropout"}
    x, _ = arrays((16, 3), ())
    x += 5

    @jit
    def flax(key, x):
        module = Everything(nnx.Rngs(key))
        trained = [module(x), module(x)]  # another mask, and moved statistics
        mean = module.norm.mean[...]
        module.eval()
        return trained, mean, module(x)

    trained, mean, evaluated = flax(jax.random.key(7), x)
    for expected in trained:
        outputs, state = apply_everything(params, state, x)
        np.testing.assert_allclose(outputs, expected, atol=1e-5)
    assert (np.asarray(trained[0] == 0) != np.asarray(trained[1] == 0)).any()
    np.testing.assert_allclose(state["norm"]["mean"], mean, rtol=1e-5)
    outputs, after = apply_everything(params, state, x, train=False)
    np.testing.assert_allclose(outputs, evaluated, atol=1e-5)
    chex.assert_trees_all_equal(after, state)


def test_train_is_an_argument_not_a_property_of_the_module(everything):
    def evaluating(rngs):
        module = Everything(rngs)
        module.eval()
        return module

    x, _ = arrays((16, 3), ())
    network = from_nnx(evaluating)
    outputs, state = jit(network.apply)(*everything, x)
    expected, expected_state = apply_everything(*everything, x)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    chex.assert_trees_all_close(state, expected_state, rtol=1e-6)
    assert not np.array_equal(state["norm"]["mean"], everything[1]["norm"]["mean"])


def test_from_nnx_is_pure(everything):
    """Also outside jit, where flax modules change in place."""
    before = jax.tree.map(np.array, everything)
    x, _ = arrays((16, 3), ())
    first, changed = EVERYTHING.apply(*everything, x)
    second, _ = EVERYTHING.apply(*everything, x)
    np.testing.assert_array_equal(first, second)
    chex.assert_trees_all_equal(jax.tree.map(np.array, everything), before)
    assert not np.array_equal(changed["norm"]["mean"], everything[1]["norm"]["mean"])


def test_from_nnx_under_vmap_and_scan(everything):
    x, _ = arrays((3, 16, 3), ())
    keys = jax.random.split(KEY, 3)
    inits = jit(jax.vmap(EVERYTHING.init))(keys)
    single_init = jit(EVERYTHING.init)

    def train(players, x):
        def step(carry, _):
            params, state = carry

            def loss(params):
                outputs, new_state = EVERYTHING.apply(params, state, x)
                return (outputs**2).mean(), new_state

            gradient, state = jax.grad(loss, has_aux=True)(params)
            return (jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), state), None

        return lax.scan(step, players, length=3)[0]

    together = jit(jax.vmap(train))(inits, x)
    single = jit(train)
    for run in range(3):
        alone = single_init(keys[run])
        pick = functools.partial(jax.tree.map, lambda a, run=run: np.asarray(a)[run])
        chex.assert_trees_all_close(pick(inits), alone, rtol=1e-6)
        chex.assert_trees_all_close(pick(together), single(alone, x[run]), rtol=1e-4, atol=1e-5)


def test_from_nnx_without_state():
    network = from_nnx(lambda rngs: nnx.Linear(3, 2, rngs=rngs))
    params, state = jit(network.init)(KEY)
    assert state == ()
    assert network.apply(params, state, jnp.ones((1, 3)))[1] == ()
    assert network.apply(params, state, jnp.ones((1, 3)), train=False)[1] == ()


def test_from_nnx_takes_raw_keys_and_refuses_other_streams():
    init = jit(EVERYTHING.init)
    chex.assert_trees_all_equal(init(jax.random.PRNGKey(7)), init(jax.random.key(7)))
    with pytest.raises(ValueError, match=r"random streams \(dropout\).*key<rbg>"):
        init(jax.random.key(7, impl="rbg"))


def test_from_nnx_refuses_what_is_not_a_factory():
    with pytest.raises(TypeError, match=r"got a Linear; write lambda rngs: Linear\(..., rngs=rngs"):
        from_nnx(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
    with pytest.raises(TypeError, match=r"must return an nnx.Module; got a ShapeDtypeStruct"):
        from_nnx(lambda rngs: jax.random.normal(rngs.params(), (3,)))


class Normalised(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool):
        x = linen.Dense(4)(x)
        return linen.BatchNorm(momentum=0.5, use_running_average=not train)(x)


def test_from_linen_batch_norm_is_state():
    module = Normalised()
    x = arrays((16, 3), ())[0] + 5
    network = from_linen(module, jax.ShapeDtypeStruct((1, 3), jnp.float32))
    params, state = jit(network.init)(KEY)
    variables = jit(functools.partial(module.init, train=True))(KEY, x)
    chex.assert_trees_all_equal({"params": params, **state}, variables)

    expected, changed = module.apply(variables, x, train=True, mutable=["batch_stats"])
    outputs, after = jit(network.apply)(params, state, x)
    chex.assert_trees_all_close((outputs, after), (expected, changed), rtol=1e-5, atol=1e-6)
    mean = np.asarray(x @ params["Dense_0"]["kernel"]).mean(0)
    np.testing.assert_allclose(after["batch_stats"]["BatchNorm_0"]["mean"], mean / 2, rtol=1e-5)

    evaluated, unchanged = network.apply(params, after, x, train=False)
    np.testing.assert_allclose(
        evaluated, module.apply({"params": params, **after}, x, train=False), atol=1e-6
    )
    chex.assert_trees_all_equal(unchanged, after)


class AlwaysTraining(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.BatchNorm(use_running_average=False)(x)


def test_from_linen_without_a_train_argument():
    network = from_linen(AlwaysTraining(), jnp.ones((1, 3)))
    params, state = jit(network.init)(KEY)
    x = arrays((16, 3), ())[0] + 5
    _, after = jit(network.apply)(params, state, x)
    assert float(abs(after["batch_stats"]["BatchNorm_0"]["mean"]).min()) > 0.01
    _, unchanged = network.apply(params, state, x, train=False)
    chex.assert_trees_all_equal(unchanged, state)

    stateless = from_linen(linen.Dense(2), jnp.ones((1, 3)))
    params, state = jit(jax.vmap(stateless.init))(jax.random.split(KEY, 4))
    assert params["kernel"].shape == (4, 3, 2)
    assert state == ()
    outputs, state = jit(jax.vmap(stateless.apply, (0, None, None)))(params, (), x)
    assert outputs.shape == (4, 16, 2)
    assert state == ()


def test_from_linen_refuses_dropout():
    class Dropping(linen.Module):
        @linen.compact
        def __call__(self, x, train: bool):
            return linen.Dropout(0.5, deterministic=not train)(x)

    with pytest.raises(ValueError, match="Dropping draws random numbers when applied"):
        from_linen(Dropping(), jnp.ones((1, 3)))


@pytest.mark.parametrize("conv", ["gemm", "native"])
@pytest.mark.parametrize(
    ("shape", "coarsest"), [((28, 28, 1), 7 * 7 * 8), ((32, 32, 3), 4 * 4 * 16)]
)
def test_dcgan_shapes(shape, coarsest, conv):
    generator, discriminator = dcgan(shape, latent_dim=5, width=4, conv=conv)
    (g, g_state), (d, d_state) = (jax.eval_shape(n.init, KEY) for n in (generator, discriminator))
    assert g_state == d_state == ()
    images, _ = jax.eval_shape(generator.apply, g, (), jnp.ones((6, 5)))
    assert (images.shape, images.dtype) == ((6, *shape), jnp.float32)
    logits, _ = jax.eval_shape(discriminator.apply, d, (), images)
    assert (logits.shape, logits.dtype) == ((6,), jnp.float32)
    assert g["dense"]["kernel"].shape == (5, coarsest)
    assert d["head"]["kernel"].shape == (coarsest, 1)
    assert g["convs"]["0"]["kernel"].shape == d["convs"]["1"]["kernel"].shape[:2] + (
        (8, 4) if shape[0] == 28 else (16, 8)
    )


def test_dcgan_is_the_architecture():
    """Written out in NumPy, for three levels of resolution."""
    generator, discriminator = dcgan((16, 16, 1), latent_dim=3, width=2, conv="gemm")
    abstract = [jax.eval_shape(n.init, KEY)[0] for n in (generator, discriminator)]
    random = np.random.default_rng(0)
    g, d = jax.tree.map(lambda a: random.normal(0, 0.4, a.shape).astype(np.float32), abstract)
    latents = random.normal(size=(4, 3)).astype(np.float32)

    x = (latents @ g["dense"]["kernel"] + g["dense"]["bias"]).reshape(4, 4, 4, 4)
    for layer in (g["convs"]["0"], g["convs"]["1"]):
        same = ((2, 2), (2, 2))  # of the stretched image: the output is twice the input
        x = reference_conv_transpose(np.maximum(x, 0), layer["kernel"], (2, 2), same)
        x = x + layer["bias"]
    images, _ = jit(generator.apply)(g, (), latents)
    np.testing.assert_allclose(images, np.tanh(x), atol=1e-5)

    x = np.asarray(images)
    for layer in (d["convs"]["0"], d["convs"]["1"]):
        x = reference_conv(x, layer["kernel"], (2, 2), ((1, 1), (1, 1))) + layer["bias"]
        x = np.where(x > 0, x, 0.2 * x)
    logits, _ = jit(discriminator.apply)(d, (), images)
    expected = x.reshape(4, -1) @ d["head"]["kernel"] + d["head"]["bias"]
    np.testing.assert_allclose(logits, expected[:, 0], rtol=1e-5, atol=1e-5)


def test_dcgan_forms_agree_and_do_not_recompile():
    """Both forms: the same network, and gradients; a second call runs the compiled program."""
    results = {}
    init = jit(lambda key: [network.init(key)[0] for network in dcgan((8, 10, 2), 3, 4)])
    params = init(KEY)
    latents, _ = arrays((6, 3), ())
    for form in ("gemm", "native"):
        generator, discriminator = dcgan((8, 10, 2), latent_dim=3, width=4, conv=form)

        def loss(params, latents, generator=generator, discriminator=discriminator):
            images, _ = generator.apply(params[0], (), latents)
            return discriminator.apply(params[1], (), images)[0].sum(), images

        step = jit(jax.value_and_grad(loss, has_aux=True))
        results[form] = step(params, latents)
        step(params, -latents)
        assert step._cache_size() == 1
        images = np.asarray(results[form][0][1])
        assert images.shape == (6, 8, 10, 2)
        assert abs(images).max() < 1
        assert images.std() > 0.01
    close(results["gemm"], results["native"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_shape": (27, 28, 1)}, r"image_shape=\(27, 28, 1\), nearest valid: \(28, 28, 1\)"),
        ({"image_shape": (6, 64, 3)}, r"nearest valid: \(8, 64, 3\)"),
        ({"image_shape": (28, 28)}, r"\(height, width, channels\).*got \(28, 28\)"),
        ({"image_shape": (28, 28, 0)}, "channels must be an integer of at least 1; got 0"),
        ({"latent_dim": 0}, "latent_dim must be an integer of at least 1; got 0, nearest valid: 1"),
        ({"width": 31.7}, "width must be .*got 31.7, nearest valid: 32"),
        ({"width": float("nan")}, "width must be .*got nan, nearest valid: 1"),
        ({"conv": "winograd"}, "'auto', 'gemm', 'native'; got 'winograd'"),
    ],
)
def test_dcgan_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        dcgan(**arguments)


@pytest.mark.parametrize("shape", [(8, 8, 1), (7, 7, 1)])
def test_dcgan_nearest_choice_is_valid(shape):
    if shape == (7, 7, 1):
        with pytest.raises(ValueError, match=r"nearest valid: \(8, 8, 1\)"):
            dcgan(shape)
    else:
        generator, _ = dcgan(shape, latent_dim=2, width=1)
        params, _ = jax.eval_shape(generator.init, KEY)
        assert params["dense"]["kernel"].shape == (2, 16)


@pytest.mark.parametrize(("shape", "depth"), [((2,), 2), ((4, 4, 3), 1), ((3,), 0)])
def test_mlp(shape, depth):
    generator, discriminator = mlp(shape, latent_dim=5, width=7, depth=depth)

    def run(key):
        params, state = generator.init(key)
        samples, _ = generator.apply(params, state, 1000 * jax.random.normal(key, (6, 5)))
        logits, _ = discriminator.apply(*discriminator.init(key), samples)
        return params, samples, logits

    params, samples, logits = jit(run)(KEY)
    assert samples.shape == (6, *shape)
    assert logits.shape == (6,)
    assert len(params.get("layers", ())) == depth
    # tanh bounds pixels; vectors are free
    assert (float(abs(samples).max()) <= 1) == (len(shape) == 3)


def test_mlp_hidden_units_are_relu_and_leaky_relu():
    generator, discriminator = mlp((1,), latent_dim=1, width=1, depth=1)
    one = {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}
    params = {"layers": {"0": one}, "head": one}
    x = jnp.array([[-2.0], [3.0]])
    assert generator.apply(params, (), x)[0].ravel().tolist() == [0.0, 3.0]
    np.testing.assert_allclose(discriminator.apply(params, (), x)[0], [-0.4, 3.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample_shape": 2}, r"must be a tuple such as \(2,\); got 2"),
        ({"sample_shape": ()}, r"got \(\)"),
        ({"sample_shape": (2, 0)}, "sample_shape must be an integer of at least 1; got 0"),
        ({"sample_shape": (2,), "width": 0}, "width must be"),
        ({"sample_shape": (2,), "depth": -1}, "depth must be an integer of at least 0; got -1"),
    ],
)
def test_mlp_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        mlp(**arguments)


def test_every_public_name_is_documented_with_an_example():
    for name in networks.__all__:
        assert ">>>" in (getattr(networks, name).__doc__ or ""), name
