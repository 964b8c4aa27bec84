"""Sample quality: distances with known answers, a classifier that is cached, a gate that fails."""

from __future__ import annotations

import functools
import itertools
import sys
import types
import warnings

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

import onesided_jax as osj
from onesided_jax import datasets
from onesided_jax.analysis import (
    ClassifierSettings,
    Mixture,
    _classifier_cache,
    _distances,
    _sample_quality,
    frechet_distance,
    precision_recall,
    quality,
    quality_gate,
    quality_reference,
)
from onesided_jax.analysis._classifier import describe, network, train_classifier
from onesided_jax.analysis._classifier_cache import cached_classifier
from onesided_jax.analysis._modes import class_measures, mixture_measures
from onesided_jax.analysis.gate import Gate
from onesided_jax.analysis.source import Snapshot
from onesided_jax.runs import Criteria

RNG = np.random.default_rng(0)
RING = Mixture(datasets.ring_means(), 0.02)
QUICK = ClassifierSettings(width=8, features=16, batch_size=16, presentations=4_000)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("ONESIDED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "classifiers"


# ---------------------------------------------------------------- distances


def by_square_root(a, b):
    """The textbook formula, with a matrix square root."""
    covariances = [np.cov(x, rowvar=False) for x in (a, b)]
    root = sqrtm(covariances[0] @ covariances[1])
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sum(covariances) - 2 * np.real(root))


@pytest.mark.parametrize(("rows", "columns"), [(200, 5), (40, 30)])
def test_frechet_distance_is_the_textbook_formula(rows, columns):
    mixing = RNG.normal(size=(columns, columns))
    a, b = RNG.normal(size=(rows, columns)) @ mixing, 0.3 + 2 * RNG.normal(size=(2 * rows, columns))
    expected = by_square_root(a, b)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)
    rotation = np.linalg.qr(mixing)[0]
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * expected, rel=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 5), min_size=3, max_size=3), st.floats(-3, 3))
def test_frechet_distance_of_diagonal_gaussians(scales, shift):
    white = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))  # covariance 8/7 I
    found = frechet_distance(white, white * scales + shift)
    expected = 3 * shift**2 + 8 / 7 * ((np.array(scales) - 1) ** 2).sum()
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_frechet_distance_of_singular_clouds():
    points = RNG.normal(size=(6, 50))  # six points span five of fifty dimensions
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(points, points[::-1] + 1) == pytest.approx(50, rel=1e-9)
    collapsed = np.repeat(points[:1], 6, axis=0)
    total = ((points[0] - points.mean(0)) ** 2).sum() + points.var(0, ddof=1).sum()
    assert frechet_distance(points, collapsed) == pytest.approx(total, rel=1e-9)


def brute_force(real, samples, k):
    """The definitions, point by point."""

    def distances(a, b):
        return np.sqrt(((a[:, None] - b) ** 2).sum(-1))

    def radii(cloud):
        return np.sort(distances(cloud, cloud), axis=1)[:, k]  # the point itself comes first

    inside = distances(samples, real) <= radii(real)
    reached = distances(real, samples) <= radii(samples)
    return inside.any(1).mean(), reached.any(1).mean()


@pytest.mark.parametrize("block", [7, 1000])
@pytest.mark.parametrize("k", [1, 3])
def test_precision_recall_is_its_definition(block, k, monkeypatch):
    monkeypatch.setattr(_distances, "_BLOCK", block)
    real, samples = RNG.normal(size=(60, 3)), 0.7 * RNG.normal(size=(50, 3)) + 0.5
    expected = brute_force(real, samples, k)
    found = precision_recall(real, samples, neighbours=k)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert 0 < found.precision < 1
    assert 0 < found.recall < 1


def test_precision_and_recall_do_not_depend_on_where_the_origin_is():
    real, samples = RNG.normal(size=(200, 3)), 0.7 * RNG.normal(size=(200, 3)) + 0.5
    real, samples = (np.round(points * 2**20) / 2**20 for points in (real, samples))
    offset = 2.0**30  # adding it is exact, its square swallows the distances
    assert precision_recall(real + offset, samples + offset) == precision_recall(real, samples)


def test_precision_and_recall_tell_missing_from_bad():
    real = np.concatenate([RNG.normal(size=(300, 2)), RNG.normal(size=(300, 2)) + 20])
    same = precision_recall(real, real)
    assert same == (1, 1)
    half = precision_recall(real, real[:300])
    assert half.precision == 1
    assert half.recall == 0.5
    far = precision_recall(real, real + 100)
    assert far == (0, 0)
    one = precision_recall(real, np.repeat(real[:1], 600, axis=0))
    assert one.precision == 1
    assert one.recall == 1 / 600  # the point itself


@pytest.mark.parametrize(
    ("real", "samples", "message"),
    [
        (np.zeros((9, 2)), np.zeros((9, 3)), r"real \[9, 2\] and samples \[9, 3\]"),
        (np.zeros(9), np.zeros((9, 3)), r"real \[9\]: expected \[n, d\]"),
        (np.zeros((9, 2)), np.full((9, 2), np.nan), "samples: expected finite"),
        (np.zeros((9, 2)), np.zeros((1, 2)), r"samples \[1, 2\]: expected \[n, d\] with n >= 2"),
    ],
)
def test_clouds_are_checked(real, samples, message):
    for measure in (frechet_distance, precision_recall):
        with pytest.raises(ValueError, match=message):
            measure(real, samples)


def test_there_must_be_neighbours():
    with pytest.raises(ValueError, match="neighbours=3: expected an integer from 1 to 2"):
        precision_recall(np.zeros((3, 2)), np.zeros((9, 2)))


# ---------------------------------------------------------------- modes and classes


def test_a_mode_is_covered_from_a_quarter_of_its_share_on():
    means = RING.means
    for count, covered in ((25, 1.0), (24, 7 / 8)):  # 800 samples: 100 is a fair share
        first = np.repeat(means[:1], count, axis=0)
        others = np.repeat(means[1:], 100, axis=0)
        rest = np.full((100 - count, 2), 9.0)
        found = mixture_measures(np.concatenate([first, others, rest]), RING)
        assert found == {"modes": covered, "high_quality": (700 + count) / 800}


def test_high_quality_ends_at_three_standard_deviations():
    step = np.array([[RING.std, 0.0]])
    for factor, expected in ((2.999, 1.0), (3.001, 0.0)):
        found = mixture_measures(RING.means + factor * step, RING)
        assert found["high_quality"] == expected
    true = datasets.ring().sample(jax.random.key(0), 20_000)
    assert mixture_measures(true, RING)["high_quality"] == pytest.approx(1 - np.exp(-4.5), abs=3e-3)


@pytest.mark.parametrize(
    ("counts", "entropy", "coverage"),
    [
        ([10, 10, 10, 10], 1.0, 1.0),
        ([40, 0, 0, 0], 0.0, 0.25),
        ([20, 20, 0, 0], 0.5, 0.5),
        ([118, 120, 120, 2], 0.813, 0.75),
    ],
)
def test_class_measures(counts, entropy, coverage):
    found = class_measures(np.repeat(np.arange(4), counts), 4)
    assert found["class_entropy"] == pytest.approx(entropy, abs=1e-3)
    assert found["class_coverage"] == coverage


# ---------------------------------------------------------------- the classifier


def stripes(per_class=60, size=12, seed=0):
    """Four easy classes: noisy horizontal, vertical, diagonal and no stripes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    waves = [y % 4 < 2, x % 4 < 2, (x + y) % 4 < 2, x < 0]
    clean = np.repeat(np.stack(waves)[..., None], per_class, axis=0) * 200
    noisy = clean + rng.integers(0, 56, clean.shape)
    return noisy.astype(np.uint8), np.repeat(np.arange(4), per_class).astype(np.int32)


def same(one, other) -> bool:
    leaves = (jax.tree.leaves(trained.params) for trained in (one, other))
    return all(np.array_equal(a, b) for a, b in zip(*leaves, strict=True))


def test_the_classifier_learns_and_is_a_function_of_its_seed():
    images, labels = stripes()
    one, again, other = (
        train_classifier(images, labels, seed=seed, settings=QUICK) for seed in (0, 0, 1)
    )
    assert one.accuracy > 0.9
    assert one.held_out == 48
    assert same(one, again)
    assert not same(one, other)
    with jax.enable_x64(True):
        assert same(one, train_classifier(images, labels, seed=0, settings=QUICK))
    named_otherwise = train_classifier(images, 10 * labels - 7, seed=0, settings=QUICK)
    assert same(one, named_otherwise)
    new, truth = stripes(seed=1)
    see = describe(network((12, 12, 1), 4, QUICK), one.params)
    features, classes = see(new)
    assert (classes == truth).mean() > 0.9
    assert features.shape == (240, 16)
    np.testing.assert_allclose(features, see(datasets.scale_pixels(new))[0], rtol=1e-5, atol=1e-6)
    assert see(new[:3])[0].shape == (3, 16)


def test_the_accuracy_is_that_of_images_it_has_not_seen():
    images, labels = stripes()
    shuffled = np.random.default_rng(0).permutation(labels)
    assert train_classifier(images, shuffled, seed=0, settings=QUICK).accuracy < 0.6


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((20, 8, 8, 1)), np.arange(20), r"images uint8\[N, H, W, C\]; got float64"),
        (np.zeros((5, 8, 8, 1), np.uint8), np.arange(5), "at least 10 images"),
        (np.zeros((20, 8, 8, 1), np.uint8), np.arange(19), r"labels int\[20\].*got int64\[19\]"),
        (np.zeros((20, 8, 8, 1), np.uint8), np.zeros(20, int), "at least 2 classes"),
    ],
)
def test_what_it_cannot_learn_from_is_one_clear_error(images, labels, message):
    with pytest.raises(ValueError, match=message):
        train_classifier(images, labels, seed=0, settings=QUICK)


def no_training(*_, **__):
    raise AssertionError("trained although it is in the cache")


def test_the_classifier_is_trained_once(cache, monkeypatch):
    images, labels = stripes()
    known = {"images": images, "labels": labels, "settings": QUICK, "seed": 0}
    first = cached_classifier(**known)
    (file,) = cache.iterdir()  # no temporary file is left
    with np.load(file, allow_pickle=False) as archive:
        assert all(archive[name].dtype != object for name in archive.files)
    monkeypatch.setattr(_classifier_cache, "train_classifier", no_training)
    with jax.enable_x64(True):
        again = cached_classifier(**known)
    assert same(again, first)
    assert (again.accuracy, again.held_out) == (first.accuracy, first.held_out)
    changed = images.copy()
    changed[0, 0, 0, 0] ^= 1
    for other in (
        {"images": changed},
        {"labels": labels[::-1]},
        {"seed": 1},
        {"settings": QUICK._replace(shift=1)},
    ):
        with pytest.raises(AssertionError, match="trained although"):
            cached_classifier(**known | other)
    monkeypatch.setattr(_classifier_cache, "VERSION", 2)
    with pytest.raises(AssertionError, match="trained although"):
        cached_classifier(**known)


@pytest.mark.parametrize("damage", ["cut", "flip", "other", "empty"])
def test_a_damaged_cache_is_rebuilt(damage, cache):
    images, labels = stripes()
    first = cached_classifier(images, labels, seed=0, settings=QUICK)
    (file,) = cache.iterdir()
    good = file.read_bytes()
    if damage == "other":
        np.savez(file, accuracy=1.0, held_out=1)
    else:
        middle = len(good) // 2
        flipped = good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
        file.write_bytes({"cut": good[:middle], "flip": flipped, "empty": b""}[damage])
    assert same(cached_classifier(images, labels, seed=0, settings=QUICK), first)
    assert file.read_bytes() == good


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ONESIDED_CACHE", str(tmp_path / "file"))
    images, labels = stripes()
    with pytest.warns(RuntimeWarning, match="set ONESIDED_CACHE"):
        assert cached_classifier(images, labels, seed=0, settings=QUICK).accuracy > 0.9


# ---------------------------------------------------------------- quality, and who passes

COUNT = 500  # samples per set of images


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """MNIST, and a reference whose classifier has seen a fifth of what it usually sees."""
    with pytest.MonkeyPatch.context() as patch:
        data = datasets.load("mnist5k")
        patch.setenv("ONESIDED_CACHE", str(tmp_path_factory.mktemp("cache")))
        brief = ClassifierSettings(presentations=20_000)
        return data, quality_reference(data, settings=brief)


def rows_of(data, keep):
    """Sets of samples drawn from some of the real images."""
    chosen = datasets.scale_pixels(data.data[keep])
    return [chosen[np.random.default_rng(s).integers(0, len(chosen), COUNT)] for s in range(3)]


def noise(shape):
    return [jax.random.normal(jax.random.key(s), (COUNT, *shape)) for s in range(3)]


def test_a_brief_look_at_the_digits_is_enough_to_classify_them(digits):
    data, reference = digits
    assert reference.kind == "images"
    assert list(reference.measure(rows_of(data, np.arange(50))[0])) == [*reference.measures]
    assert reference.about["classifier_accuracy"] > 0.93
    assert reference.about["classifier_held_out"] == 1000
    assert reference.about["class_entropy_of_data"] == pytest.approx(1)
    assert 0 < reference.about["frechet_of_halves"] < 0.02


def test_samples_of_a_conditional_gan_are_compared_with_the_classes_asked_for():
    images, labels = stripes()
    data = datasets.from_array(images, labels=3 * labels)  # classes 0, 3, 6 and 9
    reference = quality_reference(data, settings=QUICK)
    asked = 3 * np.where(labels == 1, 0, labels)  # class 3 is missed, and half of 0 is wrong
    found = quality([images, images[::-1]], reference, labels=asked)
    shares = {"label_accuracy_0": 0.5, "label_accuracy_6": 1, "label_accuracy_9": 1}
    for name, share in {**shares, "label_accuracy": 2.5 / 3}.items():
        assert found[name][0] == pytest.approx(share, abs=0.1)
    assert found["label_accuracy"][1] < 0.6  # the other way round
    assert "label_accuracy" not in quality([images], reference)


def test_the_analysis_measures_every_class_of_a_conditional_game(monkeypatch):
    images, labels = stripes()
    data = datasets.from_array(images, labels=labels)
    quick = functools.partial(quality_reference, settings=QUICK)
    monkeypatch.setattr(_sample_quality, "quality_reference", quick)
    pictures = datasets.scale_pixels(images)

    def generate(players, state, key, n, labels=None):  # of the class that it is asked for, but 2
        asked = np.arange(n) % 4
        drawn = np.where(asked == 2, 3, asked) * 60
        return pictures[drawn + jax.random.randint(key, (n,), 0, 60)]

    game = osj.Game(lambda key: ((), ()), lambda key: (), lambda *a: None, generate, classes=4)
    snapshot = Snapshot((), ())
    source = types.SimpleNamespace(label="a", seeds=[0, 1], steps=[1], diverged_at=[-1, 0],
                                   snapshot=lambda step: snapshot)  # fmt: skip
    criteria = Criteria(quality_samples=1_200, quality_seeds=2)
    (values,), _ = _sample_quality.measure_quality(
        [source], game, data, None, criteria, lambda *a: None
    )
    of_classes = [values[f"label_accuracy_{c}"][0] for c in range(4)]
    np.testing.assert_allclose(of_classes, [[1] * 2, [1] * 2, [0] * 2, [1] * 2], atol=0.1)
    assert np.isnan(values["label_accuracy"][1]).all()
    assert values["frechet"].shape == values["label_accuracy_3"].shape == (2, 2)


def test_real_digits_pass_the_gate_and_what_collapsed_does_not(digits):
    data, reference = digits
    everything = np.arange(5000)
    sets = {
        "real": rows_of(data, everything),
        "again": [data.sample(jax.random.key(s), COUNT) for s in range(3)],
        "bytes": [data.data[np.random.default_rng(s).integers(0, 5000, COUNT)] for s in range(3)],
        "one image": rows_of(data, everything[:1]),
        "one class": rows_of(data, data.labels == 3),
        "two classes": rows_of(data, np.isin(data.labels, (3, 8))),
        "noise": noise(data.shape),
        "noisy": [a + b for a, b in zip(rows_of(data, everything), noise(data.shape))],
        "mean image": [np.tile(np.float32(data.data.mean(0) / 127.5 - 1), (COUNT, 1, 1, 1))] * 3,
    }
    found = {name: quality(parts, reference) for name, parts in sets.items()}
    frechet = {name: one["frechet"].mean() for name, one in found.items()}
    assert frechet["real"] < 0.02
    assert min(v for k, v in frechet.items() if k not in ("real", "again", "bytes")) > 0.2
    assert found["real"]["precision"].shape == (3,)
    assert found["one class"]["precision"].mean() > 0.8
    assert found["one class"]["recall"].mean() < 0.3
    assert found["one image"]["class_entropy"].mean() == 0
    names = list(sets)
    measures = {m: [found[n][m].mean() for n in names] for m in found["real"]}
    gate = quality_gate(measures, criteria=Criteria())
    assert [n for n, passes in zip(names, gate.passes) if passes] == ["real", "again", "bytes"]


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_mixtures_pass_and_what_collapsed_does_not(name):
    data = datasets.load(name)
    mixture = {
        "ring": RING,
        "grid": Mixture(datasets.grid_means(), 0.05),
    }[name]
    keys = jax.random.split(jax.random.key(1), 3)
    sets = {
        "real": [data.sample(key, 2000) for key in keys],
        "one mode": [np.tile(mixture.means[:1], (2000, 1))] * 3,
        "one point": [np.zeros((2000, 2)) + 0.3] * 3,
        "half of the modes": [
            x[x[:, 0] > 0.3] for x in (np.asarray(data.sample(key, 2000)) for key in keys)
        ],
        "all modes, wide": [
            data.sample(key, 2000) + 0.3 * jax.random.normal(key, (2000, 2)) for key in keys
        ],
        "noise": noise((2,)),
    }
    reference = quality_reference(mixture)
    found = [quality(parts, reference) for parts in sets.values()]
    measures = {m: [one[m].mean() for one in found] for m in ("modes", "high_quality")}
    gate = quality_gate(measures, criteria=Criteria())
    assert dict(zip(sets, gate.passes.tolist())) == {name: name == "real" for name in sets}
    assert "of the modes are covered, below 90%" in gate.reasons[1]
    assert "high quality" not in gate.reasons[1]


BAD_DATA = {
    "no labels": (lambda: datasets.from_array(stripes()[0]), "array has no labels"),
    "synthetic": (datasets.ring, "ring: expected stored images with labels, or a Mixture"),
    "vectors": (
        lambda: datasets.from_array(np.zeros((9, 2)), labels=np.arange(9)),
        "array: expected stored images",
    ),
    "no width": (lambda: Mixture(RING.means, 0.0), "Mixture.std=0.0: expected a finite number"),
    "no modes": (lambda: Mixture(np.zeros((0, 2)), 1.0), r"Mixture.means \[0, 2\]"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_data_that_nothing_can_be_compared_with(case):
    make, message = BAD_DATA[case]
    with pytest.raises(ValueError, match=message):
        quality_reference(make())


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([np.zeros((20, 3))], r"samples\[0\] \[20, 3\]: expected at least 10 of shape \[2\]"),
        ([np.zeros((20, 2)), np.zeros((9, 2))], r"samples\[1\] \[9, 2\]"),
        ([np.full((20, 2), np.inf)], r"samples\[0\]: expected finite"),
        ([], "got none"),
    ],
)
def test_samples_are_checked(samples, message):
    with pytest.raises(ValueError, match=message):
        quality(samples, quality_reference(RING))


# ---------------------------------------------------------------- the gate

IMAGES = {"frechet": [0.1, 0.1001, 0.02, 0.09], "class_entropy": [0.95, 0.99, 0.9499, 0.99]}


def passing(measures, *, criteria=None, **more):
    return quality_gate(measures, criteria=criteria or Criteria(), **more).passes.tolist()


def test_the_limits_of_images_are_absolute():
    gate = quality_gate(IMAGES, criteria=Criteria())
    assert gate.passes.tolist() == [True, False, False, True]
    assert gate.reasons == [
        "",
        "Fréchet distance 0.1 is above 0.1",
        "class entropy 0.9499 is below 0.95 log C",
        "",
    ]
    strict = Criteria(gate_frechet=0.05, gate_class_entropy=0.9)
    assert passing(IMAGES, criteria=strict) == [False, False, True, False]


def test_a_run_without_a_number_fails_and_says_why():
    measures = {name: [*values[:3], np.nan] for name, values in IMAGES.items()}
    gate = quality_gate(measures, criteria=Criteria(), diverged=[True, False, False, False])
    assert not gate.passes.any()
    assert gate.reasons[0] == "the run diverged"
    assert gate.reasons[3] == "its samples are not finite numbers"


def test_mixture_thresholds():
    measures = {"modes": [0.9, 0.899, 1.0, 1.0], "high_quality": [0.8, 1.0, 0.799, 0.9]}
    assert passing(measures) == [True, False, False, True]
    lenient = Criteria(gate_modes=0.5, gate_high_quality=0.5)
    assert passing(measures, criteria=lenient) == [True] * 4


def test_part_of_a_gate():
    gate = quality_gate(IMAGES, criteria=Criteria())
    part = gate.of([1, 3])
    assert part.passes.tolist() == [False, True]
    assert part.reasons == [gate.reasons[1], gate.reasons[3]]
    assert Gate().of([1, 3]) == Gate()


def test_a_gate_needs_measures_that_it_knows():
    with pytest.raises(ValueError, match=r"measures \['frechet'\]: expected modes"):
        quality_gate({"frechet": [0.1]}, criteria=Criteria())


# ---------------------------------------------------------------- Inception


@pytest.fixture
def stand_in(tmp_path):
    """A TorchScript network with the interface of the FID network: mean colours and contrasts."""
    torch = pytest.importorskip("torch")

    class Features(torch.nn.Module):
        def forward(self, images, return_features: bool = False):
            assert images.dtype == torch.uint8
            pixels = images.float()
            return torch.cat([pixels.mean([2, 3]), pixels.std([2, 3])], 1)

    class Bare(torch.nn.Module):
        def forward(self, images):
            return images

    class Map(torch.nn.Module):
        def forward(self, images, return_features: bool = False):
            return images

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        for name, module in (("net", Features()), ("bare", Bare()), ("map", Map())):
            torch.jit.script(module).save(str(tmp_path / f"{name}.pt"))
        torch.save({"weights": torch.zeros(3)}, str(tmp_path / "weights.pt"))
    (tmp_path / "text.pt").write_text("no network")
    return tmp_path


def colours(images):
    """The stand-in's features in NumPy, of images [n, H, W, C]."""
    pixels = np.asarray(images, np.float64).repeat(3 // images.shape[-1], -1)
    return np.concatenate([pixels.mean((1, 2)), pixels.std((1, 2), ddof=1)], axis=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_fid_is_the_frechet_distance_of_inceptions_features(stand_in, channels):
    images = np.random.default_rng(0).integers(0, 256, (130, 8, 8, channels), np.uint8)
    data = datasets.from_array(images)  # labels are not needed
    reference = quality_reference(data, inception=stand_in / "net.pt")
    assert reference.kind == "unlabelled"
    assert reference.about["inception"] == "net.pt"
    samples = np.random.default_rng(1).integers(0, 200, (120, 8, 8, channels), np.uint8)
    found = quality([samples, datasets.scale_pixels(samples)], reference)
    expected = frechet_distance(colours(images), colours(samples))
    np.testing.assert_allclose(found["fid"], expected, rtol=1e-4)
    assert set(found) == {"fid"}


def test_labelled_images_get_both_distances(stand_in):
    images, labels = stripes()
    data = datasets.from_array(images, labels=labels)
    reference = quality_reference(data, inception=stand_in / "net.pt", settings=QUICK)
    found = quality([images, images], reference)
    assert list(found)[:2] == ["frechet", "precision"]
    np.testing.assert_allclose(found["fid"], 0, atol=1e-6)
    np.testing.assert_allclose(found["frechet"], 0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("none", FileNotFoundError),
        ("text", ValueError),
        ("weights", ValueError),
        ("bare", ValueError),
        ("map", ValueError),
    ],
)
def test_a_file_that_is_no_inception_network(stand_in, name, error):
    data = datasets.from_array(stripes()[0])
    with pytest.raises(error, match="expected the TorchScript file inception") as e:
        quality_reference(data, inception=stand_in / f"{name}.pt")
    assert f"{name}.pt" in str(e.value)
    assert "\n" not in str(e.value)


def test_inception_without_torch_says_what_is_missing(tmp_path, monkeypatch):
    (tmp_path / "net.pt").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    data = datasets.from_array(stripes()[0])
    with pytest.raises(ImportError, match="pip install torch"):
        quality_reference(data, inception=tmp_path / "net.pt")


def test_inception_of_a_user_who_is_not_there():
    data = datasets.from_array(stripes()[0])
    with pytest.raises(
        FileNotFoundError, match=r"^inception='~nobody-of-that-name/net\.pt': no such"
    ):
        quality_reference(data, inception="~nobody-of-that-name/net.pt")


def test_inception_needs_images(tmp_path):
    (tmp_path / "net.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="a mixture has no images"):
        quality_reference(RING, inception=tmp_path / "net.pt")
    two = datasets.from_array(np.zeros((20, 8, 8, 2), np.uint8))
    with pytest.raises(ValueError, match="neither 1 nor 3 channels"):
        quality_reference(two, inception=tmp_path / "net.pt")
