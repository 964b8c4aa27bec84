"""Figures and page from synthetic results shaped like the real ones."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg

from onesided_jax.report import Section, figures, render, save_figures, write_report
from onesided_jax.report._section import Group, _choose

PLAYERS = ["primal", "dual"]
CONTROLS = ["x* = start", "flipped critic"]
BOUNDARIES = {
    "generator_falls": 0.5,
    "discriminator_stays": 0.5,
    "parting": 2.0,
    "negative_mass": 0.1,
}
HOSTILE = "<script>alert('$x^{')</script>--><img src=\"http://evil.example/a.png\">"


def norm_variables(norm_sq: np.ndarray, se: np.ndarray) -> dict:
    """Norms, and their upper limits where they are below their noise."""
    floored, above = norm_sq < 2 * se, np.clip(norm_sq, 0, None)
    norm, limit = np.sqrt(above), np.sqrt(above + 2 * se)
    dims = ("optimizer", "run", "step", "player")
    return {
        "gradient_norm": (dims, np.where(floored | np.isnan(norm_sq), np.nan, norm)),
        "gradient_norm_limit": (dims, np.where(floored, limit, np.nan)),
    }


def change_variables(norm_sq: np.ndarray, late_from: float) -> dict:
    """Late norms and late over early ratios of ``[optimizer, run, step, player]``."""
    steps = norm_sq.shape[2]
    early, late = (
        np.sqrt(np.clip(np.median(part, axis=2), 1e-300, None))
        for part in (norm_sq[:, :, 1:4], norm_sq[:, :, int(late_from * steps) :])
    )
    dims = ("optimizer", "run", "player")
    return {"norm_late": (dims, late), "late_over_early": (dims, late / early)}


def mvi_variables(rng: np.random.Generator, shift: np.ndarray, rows: int, noise: float) -> dict:
    """Matrix, signs and masses; ``shift`` [optimizer, mvi_run] moves cosines upwards."""
    s, t = np.mgrid[:rows, :rows]
    base = 0.10 * np.exp(-(((t - s) / 6.0) ** 2)) - 0.04 * np.tanh((t - s) / 5)
    cosine = base + shift[..., None, None] + noise * rng.normal(size=(*shift.shape, rows, rows))
    sign = np.where(np.abs(cosine) > 0.05, np.sign(cosine), 0)
    off = cosine[..., s != t]
    mass = np.clip(-off, 0, None).sum(-1) / np.abs(off).sum(-1)
    control = np.stack([0.47 + 0 * shift, 0.9 - shift], -1)
    control[..., 1] = np.where(np.arange(len(shift))[:, None] == 0, np.nan, control[..., 1])
    dims = ("optimizer", "mvi_run", "row", "column")
    return {
        "mvi_cosine": (dims, cosine),
        "mvi_sign": (dims, sign),
        "mvi_negative_mass": (("optimizer", "mvi_run"), mass),
        "mvi_control": (("optimizer", "mvi_run", "control"), control),
        "necessary": (
            ("optimizer", "mvi_run", "column"),
            0.3 + 0.5 * rng.random((*shift.shape, rows)),
        ),
    }


def matrix_coords(steps: np.ndarray, rows: int, runs: list[int]) -> dict:
    chosen = steps[np.linspace(0, len(steps) - 1, rows).astype(int)]
    return {
        "row": np.arange(rows),
        "column": np.arange(rows),
        "row_step": ("row", chosen),
        "column_step": ("column", chosen),
        "mvi_run": runs,
        "control": CONTROLS,
    }


def verdict(claim: str, cell: str, status: str, effect, interval, sentence, **more) -> dict:
    numbers = {"runs": 5, "measure": "late over early", **more.get("numbers", {})}
    return {
        "claim": claim,
        "cell": cell,
        "setting": more.get("setting", {}),
        "status": status,
        "effect": effect,
        "interval": list(interval),
        "sentence": sentence,
        "numbers": numbers,
    }


def manifest(command: str, seconds: float) -> dict:
    return {
        "recipe": {"game": {"name": "gan", "dataset": "mnist5k"}, "steps": 6000, "seeds": [0, 1]},
        "versions": {"onesided-jax": "0.1.0", "jax": "0.10.0", "optax": "0.2.8", "flax": "0.12.1"},
        "platform": {"backend": "cpu", "device_kind": "AMD EPYC 7B13", "devices": 2},
        "command": command,
        "width": 8,
        "created": "2025-11-22 21:40 UTC",
        "directory": "runs/mnist5k-dcgan",
        "seconds": seconds,
    }


def image_game(optimizers: tuple[str, ...] = ("adam", "amsgrad_eg", "amsgrad_xeg")) -> Section:
    """A GAN on images: one run per optimizer, noisy estimates, samples."""
    rng = np.random.default_rng(0)
    steps, records = np.arange(0, 6001, 200), np.arange(0, 6000, 5)
    shape = (len(optimizers), 1, len(steps), 2)
    late = np.array([[1.2, 19.0], [0.9, 60.0], [0.25, 5.6]])[: len(optimizers)]
    early = np.array([[4.8, 10.0], [2.2, 45.0], [2.0, 4.5]])[: len(optimizers)]
    share = (steps / steps[-1])[None, None, :, None]
    norm = early[:, None, None] ** (1 - share) * late[:, None, None] ** share
    se = np.broadcast_to([0.12, 2.0], shape) * (1 + 0.3 * rng.random(shape))
    norm_sq = norm**2 * np.exp(0.5 * rng.normal(size=shape)) + se * rng.normal(size=shape)
    record_shape = (len(optimizers), 1, len(records), 2)
    fall = np.exp(-records / 1500)[None, None, :, None]
    loss = (
        np.array([1.6, 0.7]) + np.array([-0.8, 0.6]) * fall + 0.15 * rng.normal(size=record_shape)
    )
    images = rng.integers(0, 256, (len(optimizers), 1, 64, 28, 28, 1), np.uint8)
    one = (len(optimizers), 1)
    ds = xr.Dataset(
        {
            **norm_variables(norm_sq, se),
            **change_variables(norm_sq, 0.8),
            "loss": (("optimizer", "run", "record", "player"), loss),
            "minibatch_gradient_norm": (
                ("optimizer", "run", "record", "player"),
                np.array([6.0, 30.0]) * np.exp(0.3 * rng.normal(size=record_shape)),
            ),
            "diverged_at": (("optimizer", "run"), np.full(one, -1)),
            "seed": (("optimizer", "run"), np.zeros(one, int)),
            "hp_primal_learning_rate": (("optimizer", "run"), np.full(one, 2e-4, np.float32)),
            "hp_dual_learning_rate": (("optimizer", "run"), np.full(one, 2e-4, np.float32)),
            "hp_b1": (("optimizer", "run"), np.array([[0.5], [np.nan], [np.nan]])[: one[0]]),
            "samples": (
                ("optimizer", "sample_run", "sample", "height", "width", "channel"),
                images,
            ),
            **mvi_variables(rng, np.array([[-0.03], [0.02], [0.08]])[: one[0]], 20, 0.02),
        },
        coords={
            "optimizer": list(optimizers),
            "run": [0],
            "step": steps,
            "record": records,
            "player": PLAYERS,
            "sample_run": [0],
            **matrix_coords(steps, 20, [0]),
        },
        attrs={
            "game": "gan_mnist5k",
            "game_description": "A DCGAN of width 32 without BatchNorm on 5,000 MNIST digits, "
            "non-saturating loss.",
            "recipe_name": "mnist5k-three-optimizers",
            "steps": 6000,
            "x_star": "end of the run",
            "primal_player": "generator",
            "dual_player": "discriminator",
            **BOUNDARIES,
        },
    )
    verdicts = [
        verdict(
            "only the generator converges",
            name,
            "undecided",
            0.25 + 0.1 * k,
            (None, None),
            "Undecided: 1 seed, 3 needed.",
            numbers={"runs": 1, "dual": [1.9, 1.5, 2.4], "missing": "1 seed, 3 needed"},
        )
        for k, name in enumerate(optimizers)
    ]
    outcomes = [
        ("refuted", 0.412, (0.31, 0.52)),
        ("undecided", 0.11, (0.02, 0.24)),
        ("supported", 0.003, (0, 0.021)),
    ]
    verdicts += [
        verdict("the one-sided MVI holds", name, *outcome, "Negative entries are few.")
        for name, outcome in zip(optimizers, outcomes, strict=False)
    ]
    command = "onesided run experiments/mnist5k.json --out runs/mnist5k-dcgan"
    return Section("MNIST 5k, DCGAN", ds, verdicts, manifest(command, 5230.0))


def carousel(
    optimizers: tuple[str, ...] = ("adam", "amsgrad_eg", "amsgrad_eg_drd", "amsgrad_xeg"),
) -> Section:
    """A deterministic game: 9 pairs of rates x 5 seeds per optimizer, some runs diverge."""
    rng = np.random.default_rng(1)
    steps = np.arange(0, 20001, 500)
    rates = [(x, y) for x in (0.005, 0.02, 0.08) for y in (0.2, 2.0, 5.0)]
    runs = [(pair, seed) for pair in rates for seed in range(5)]
    n, r = len(optimizers), len(runs)
    norm_sq = np.empty((n, r, len(steps), 2))
    diverged_at = np.full((n, r), -1)
    for i, name in enumerate(optimizers):
        for j, ((x, y), seed) in enumerate(runs):
            speed = {"adam": 0.0, "amsgrad_eg": 0.0, "amsgrad_eg_drd": 0.03}.get(name, 0.15)
            u = (
                0.5
                * np.exp(-speed * x * steps / 0.02 / 20)
                * np.exp(0.1 * rng.normal(size=len(steps)))
            )
            norm_sq[i, j, :, 0] = np.where(u < 1e-160, 0, u)
            norm_sq[i, j, :, 1] = 9 - 4 * np.exp(-steps / 4000) + 0.05 * rng.normal()
            every = name == "adam" and x == 0.08 and y == 5.0
            if x == 0.08 and name in ("adam", "amsgrad_eg") and (every or (y > 1 and seed < 2)):
                diverged_at[i, j] = 1000 + 1700 * seed
                norm_sq[i, j, :, 0] *= np.exp(steps / 300)
                norm_sq[i, j, steps > diverged_at[i, j]] = np.nan
    table = {
        "seed": np.array([[seed for _, seed in runs]] * n),
        "hp_primal_learning_rate": np.array([[p[0] for p, _ in runs]] * n, np.float32),
        "hp_dual_learning_rate": np.array([[p[1] for p, _ in runs]] * n, np.float32),
        "hp_power": np.where(np.array(optimizers)[:, None] == "amsgrad_eg_drd", 0.5, np.nan)
        + np.zeros((n, r)),
    }
    angle = np.linspace(0, 40, len(steps))
    radius = np.stack([1.7 * np.exp(-k * np.linspace(0, 2.5, len(steps))) for k in range(n)])
    path = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)[:, None]
    path = np.concatenate([path, -0.8 * path], axis=1)
    shift = np.linspace(-0.06, 0.15, n)[:, None] + np.array([[0.0, 0.02]])
    ds = xr.Dataset(
        {
            **norm_variables(norm_sq, 0 * norm_sq),
            **change_variables(norm_sq, 0.8),
            "diverged_at": (("optimizer", "run"), diverged_at),
            "path": (("optimizer", "path_run", "step", "primal_coordinate"), path),
            **{k: (("optimizer", "run"), v) for k, v in table.items()},
            **mvi_variables(rng, shift, 24, 0.0),
        },
        coords={
            "optimizer": list(optimizers),
            "run": np.arange(r),
            "step": steps,
            "player": PLAYERS,
            "primal_coordinate": [0, 1],
            "path_run": [0, 1],
            **matrix_coords(steps, 24, [0, 1]),
        },
        attrs={
            "game": "carousel",
            "game_description": "The dual player turns the primal player's field; x* = 0 satisfies "
            "the one-sided MVI, and no point satisfies the two-sided one.",
            "recipe_name": "carousel-grid",
            "steps": 20000,
            "x_star": "known",
            "primal_player": "primal player",
            "dual_player": "dual player",
            **BOUNDARIES,
        },
    )

    def setting_of(name: str) -> dict:
        power = {"power": 0.5} if name == "amsgrad_eg_drd" else {}
        return {"primal_learning_rate": 0.02, "dual_learning_rate": 2.0, **power}

    outcomes = [("refuted", 1.01, (0.97, 1.06)), ("refuted", 0.99, (0.93, 1.04))]
    outcomes += [("supported", 0.07, (0.05, 0.11)), ("supported", 3.1e-9, (2.2e-9, 4.4e-9))]
    verdicts = [
        verdict(
            "only the primal player converges",
            name,
            *outcome,
            f"The primal player's late gradient norm is {outcome[1]:.3g} of its early one.",
            setting=setting_of(name),
            numbers={"primal_ratios": [1.0, 1.1, 0.9]},
        )
        for name, outcome in zip(optimizers, outcomes, strict=False)
    ]
    verdicts += [
        verdict(
            "the one-sided MVI holds",
            name,
            "supported",
            0,
            (0, 0),
            "None.",
            setting=setting_of(name),
        )
        for name in optimizers
    ]
    command = "onesided run carousel --set primal_learning_rate=0.005,0.02,0.08 --seeds 5"
    return Section("Carousel", ds, verdicts, manifest(command, 42.7))


@pytest.fixture(scope="module")
def sections() -> list[Section]:
    return [image_game(), carousel()]


@pytest.fixture(scope="module")
def drawn(sections):
    """The carousel's figures; those of the image game are among ``written``."""
    return figures(sections[1])


@pytest.fixture(scope="module")
def written(sections, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(sections, folder / "report.html", folder / "figures")
    return folder


@pytest.fixture(scope="module")
def page(written) -> str:
    return (written / "report.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Collects what a browser would act on: tags, attributes, identifiers, text."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.text.append(data)

    def ids(self) -> list[str]:
        return [value for _, name, value in self.attributes if name == "id"]


def words(html: str | Reader) -> str:
    read = Reader(html) if isinstance(html, str) else html
    return re.sub(r"\s+", " ", " ".join(read.text))


@pytest.fixture(scope="module")
def reader(page) -> Reader:
    return Reader(page)


def test_every_figure_that_applies_is_drawn_and_saved(written):
    common = {"plane", "gradient_norms", "mvi", "mvi_controls", "necessary"}
    expected = {
        "1-mnist-5k-dcgan": common | {"samples", "losses", "minibatch_gradient_norms"},
        "2-carousel": common | {"grid", "paths"},
    }
    assert {p.name for p in (written / "figures").iterdir()} == set(expected)
    for folder, names in expected.items():
        files = {p.name for p in (written / "figures" / folder).iterdir()}
        assert files == {f"{name}{suffix}" for name in names for suffix in (".svg", ".pdf")}


def test_page_is_well_formed_and_self_contained(page, reader):
    assert not reader.open
    assert "script" not in reader.tags
    assert "link" not in reader.tags
    for tag, name, value in reader.attributes:
        if name.endswith(("src", "href")):
            assert value.startswith(("#", "data:")), (tag, name, value[:60])
        assert not name.startswith("on"), (tag, name)
    assert not re.search(r"url\((?!#)", page)
    assert "@import" not in page


def test_every_internal_reference_has_exactly_one_target(page, reader):
    ids = reader.ids()
    # Glyphs are defined once per figure; the prefix keeps the figures apart.
    assert len(ids) == len(set(ids))
    wanted = [v[1:] for _, n, v in reader.attributes if n.endswith("href") and v.startswith("#")]
    wanted += re.findall(r"url\(#([^)]+)\)", page)
    assert set(wanted) <= set(ids)
    assert len(wanted) > 100


def test_order_of_the_page(page):
    html = page[page.index("</style>") :]
    marks = [
        "Verdicts",
        "Does only one player converge?",
        "Gradient norms of both players",
        "Samples and trajectories",
        "Details",
        "How the one-sided MVI was measured",
        "Training metrics",
        "Table of 3 runs",
        "How to reproduce",
    ]
    places = [html.index(f">{mark}<") for mark in marks]
    assert places == sorted(places)
    assert html.index('id="reading"') > max(places)
    assert html.index("Undecided: 1 seed, 3 needed.") < html.index("<svg")


def test_verdicts_are_written_out_and_signed(page):
    badges = re.findall(r'class="badge \w+"><b aria-hidden="true">(.)</b>([^<]+)<', page)
    assert set(badges) == {("✓", "Supported"), ("✗", "Refuted"), ("?", "Undecided")}
    assert len(badges) == 3 + 3 + 4 + 4


def test_numbers_are_for_people(reader):
    text = words(reader)
    assert "0.412 [0.31, 0.52]" in text
    assert "3.1 × 10⁻⁹ [2.2 × 10⁻⁹, 4.4 × 10⁻⁹]" in text
    assert "1 h 27 min" in text
    assert " 0.0002 0.0002 " in text  # float32 in, not 0.00019999999
    assert not re.search(r"\d\.\d{7,}", text)
    assert "nan" not in text.lower().split()


def test_diverged_runs_are_marked(sections, page, reader):
    expected = int((sections[1].dataset["diverged_at"].values >= 0).sum())
    assert f"180 runs of 4 optimizers; {expected} diverged" in words(reader)
    shown = re.findall(r"× diverged at step ([\d,]+)<", page)
    assert set(shown) >= {"1,000", "2,700"}
    calm = carousel(("amsgrad_xeg",))
    tidy = render([calm._replace(dataset=calm.dataset[["diverged_at", "seed"]])], title="none")
    assert "diverged at step" not in tidy
    assert "45 runs of 1 optimizer; none diverged" in words(tidy)


def test_grid_marks_diverged_cells(drawn):
    texts = {t.get_text() for ax in drawn["grid"].axes for t in ax.texts}
    assert "× 5/5" in texts  # all seeds: no number
    assert any(t.endswith("\n× 2/5") for t in texts)


def test_long_tables_are_cut_with_a_note(reader):
    assert "120 of 180 runs, at most 30 of each optimizer" in words(reader)


def test_setting_of_the_verdict_is_the_one_shown(drawn, sections):
    headings = [t.get_text() for t in drawn["gradient_norms"].axes[0].texts]
    assert "x rate 0.02, y rate 2" in headings
    assert "5 runs of 45" in headings
    norms = [
        "gradient_norm",
        "norm_late",
        "diverged_at",
        "hp_primal_learning_rate",
        "hp_dual_learning_rate",
    ]
    without = sections[1]._replace(verdicts=[], dataset=sections[1].dataset[norms])
    best = [t.get_text() for t in figures(without)["gradient_norms"].axes[3].texts]
    assert any(text.startswith("x rate 0.08") for text in best)


@pytest.mark.parametrize(("judged", "shown"), [((1,), 1), ((0, 1, 2), 2), ((), 2)])
def test_of_several_judged_settings_the_best_is_shown(judged, shown):
    """An analysis of a grid has a verdict per setting, and the first may have diverged."""
    groups = [Group({"primal_learning_rate": rate}, [i]) for i, rate in enumerate((9.0, 1.0, 0.1))]
    verdicts = [
        {"cell": name, "setting": {"primal_learning_rate": rate}}
        for name, rate in (("other", 9.0), *(("adam", (9.0, 1.0, 0.1)[i]) for i in judged))
    ]
    late, diverged = np.array([np.nan, 2.0, 1.0]), np.array([True, False, False])
    assert _choose("adam", groups, verdicts, late, diverged) is groups[shown]


def test_runs_without_samples_have_no_picture(sections):
    """A run that diverged has none, and `xr.concat` leaves NaN in its place."""
    section = sections[0]
    samples = section.dataset["samples"].astype(float)
    first = {"optimizer": "adam", "sample_run": int(samples.sample_run[0])}
    gone = samples.copy()
    gone.loc[first] = np.nan

    def drawn(array):
        return figures(section._replace(dataset=section.dataset.assign(samples=array)))

    assert len(drawn(gone)["samples"].axes) == len(drawn(samples)["samples"].axes) - 1
    assert "samples" not in drawn(samples * np.nan)


def test_noise_floor_is_not_drawn_as_a_measurement(sections):
    ds = sections[0].dataset[["gradient_norm", "gradient_norm_limit"]].copy(deep=True)
    ds["gradient_norm"][0, 0, :, 0] = np.nan
    ds["gradient_norm_limit"][0, 0, :, 0] = 0.5
    figure = figures(sections[0]._replace(dataset=ds))["gradient_norms"]
    ax = figure.axes[0]
    points = {line.get_marker() for line in ax.lines if np.isfinite(line.get_ydata()).any()}
    assert "v" in points
    primal = [line for line in ax.lines if line.get_linestyle() == "-"]
    assert not any((line.get_ydata() > 0).any() for line in primal)
    labels = [t.get_text() for t in figure.legends[0].get_texts()]
    assert "below its noise: upper limit" in labels


def test_figures_are_saved_twice_with_the_same_bytes(drawn, written, tmp_path):
    folder = written / "figures" / "2-carousel"
    some = {name: drawn[name] for name in ("gradient_norms", "mvi", "grid")}
    again = save_figures(some, tmp_path)  # drawn anew: write_report drew its own
    assert len(again) == 6
    for path in again:
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name
    svg = (folder / "gradient_norms.svg").read_text()
    assert "<text" not in svg  # fonts as paths
    assert "<dc:date>" not in svg
    assert b"CreationDate" not in (folder / "gradient_norms.pdf").read_bytes()


def test_one_section_writes_into_the_folder_itself(tmp_path):
    section = image_game(("adam",))
    few = section._replace(dataset=section.dataset[["gradient_norm", "seed"]])
    files = write_report([few], tmp_path / "a" / "report.html", tmp_path / "figures", title="T")
    assert [f.name for f in files] == ["report.html", "gradient_norms.svg", "gradient_norms.pdf"]
    assert all(f.exists() for f in files)


def test_hostile_strings_stay_text():
    section = image_game((HOSTILE, "bad\x00\n\tname $$", "漢字" * 40))
    ds = section.dataset.drop_vars(["loss", "minibatch_gradient_norm", "samples"])
    ds = ds.assign_attrs(
        game=HOSTILE, game_description=HOSTILE, recipe_name=HOSTILE, x_star=HOSTILE
    )
    ds = ds.rename(hp_b1=f"hp_{HOSTILE}").assign_coords(control=[HOSTILE, "b"])
    bad = [
        {
            **v,
            "claim": HOSTILE,
            "sentence": HOSTILE,
            "setting": {HOSTILE: HOSTILE},
            "numbers": {HOSTILE: HOSTILE},
        }
        for v in section.verdicts
    ]
    origin = {"command": HOSTILE, "platform": {HOSTILE: HOSTILE}, "versions": {HOSTILE: HOSTILE}}
    origin |= {"recipe": {HOSTILE: HOSTILE}, "directory": HOSTILE, "created": HOSTILE}
    html = render([Section(HOSTILE, ds, bad, origin)], title=HOSTILE)
    reader = Reader(html)
    assert not reader.open
    assert "script" not in reader.tags
    assert not [a for a in reader.attributes if "evil" in a[2]]
    assert html.count("&lt;script&gt;") >= 13
    assert "<!--" not in html


def test_what_is_no_unicode_can_be_written(tmp_path):
    """As in the name of a file that is not UTF-8."""
    bad = Section("a\udcff", xr.Dataset(), [], {"directory": "runs/\udcff"})
    page = render([bad], title="\udcff")
    assert "a?" in page.encode().decode()
    write_report([bad], tmp_path / "report.html", tmp_path / "figures", title="\udcff")
    assert "runs/?" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    "keep",
    [
        [],
        ["seed"],
        ["gradient_norm"],
        ["gradient_norm", "hp_primal_learning_rate"],
        ["mvi_cosine"],
        ["mvi_negative_mass"],
        ["mvi_negative_mass", "mvi_control"],
        ["late_over_early", "seed"],
        ["diverged_at", "path"],
    ],
)
def test_missing_variables_are_fine(sections, keep):
    ds = sections[1].dataset.isel(optimizer=slice(2))[keep]
    section = sections[1]._replace(dataset=ds, manifest={})
    page = render([section], title="some")
    assert "Supported" in page
    drawn = ("norm", "mvi", "path", "late")
    assert ("<svg" in page) == any(word in k for word in drawn for k in keep)


def test_padding_is_not_a_run(sections):
    ds = (
        sections[0]
        .dataset[["gradient_norm", "diverged_at", "seed"]]
        .pad(run=(0, 2), mode="constant")
        .transpose(..., "run")
    )
    ds = ds.assign_coords(run=[0, 1, 2])
    assert "3 runs of 3 optimizers; none diverged" in words(
        render([sections[0]._replace(dataset=ds)], title="padded")
    )


def test_all_nan_is_said(sections):
    ds = sections[0].dataset[["gradient_norm", "diverged_at", "seed"]].copy(deep=True)
    ds["gradient_norm"][:] = np.nan
    ds["diverged_at"][:] = 3
    page = render([sections[0]._replace(dataset=ds)], title="gone")
    assert "× diverged at step 3" in page
    assert "3 runs of 3 optimizers; 3 diverged" in words(page)


def test_points_and_single_coordinate_paths(sections):
    rng = np.random.default_rng(2)
    ds = sections[1].dataset.isel(primal_coordinate=[0])
    cloud = rng.normal(size=(4, 1, 500, 2))
    cloud[1] = np.nan
    ds = ds[["path", "diverged_at", "seed"]].assign(
        points=(("optimizer", "sample_run", "sample", "coordinate"), cloud)
    )
    figs = figures(sections[1]._replace(dataset=ds))
    assert set(figs) == {"points", "paths"}


def test_long_names_stay_within_their_panel():
    names = ("extra_adam with a long label, power=0.25", "b" * 70, "c, d", "Wide WORDS " * 9)
    section = carousel(names)
    ds = section.dataset.isel(mvi_run=[0])
    ds = ds.drop_vars(["path", "necessary", "mvi_negative_mass", "mvi_control"])
    section = section._replace(dataset=ds)
    for name, figure in figures(section).items():
        renderer = FigureCanvasAgg(figure).get_renderer()
        panels = [ax for ax in figure.axes if ax.get_subplotspec() and ax.get_title(loc="left")]
        starts = [*sorted({round(ax.get_position().x0, 3) for ax in panels}), 1.0]
        assert len(starts) == 5, name
        for ax in panels:
            end = starts[starts.index(round(ax.get_position().x0, 3)) + 1]
            for text in [ax._left_title, *ax.texts[:2]]:
                right = text.get_window_extent(renderer).x1 / figure.bbox.width
                assert right < end, (name, text.get_text())


def test_many_verdicts_become_a_grid_with_all_rows_folded_away(sections):
    one = sections[1].verdicts[0]
    many = [
        {**one, "cell": name, "status": status, "setting": {"lr": rate, "b1": 0.5}}
        for name, status in (("first", "supported"), ("second", "refuted"))
        for rate in range(20)
    ]
    page = render([sections[1]._replace(verdicts=many, dataset=xr.Dataset())], title="many")
    grid = page[page.index('<table class="grid">') : page.index("All 40 verdicts in words")]
    assert grid.count('class="badge holds"') == 20
    assert grid.count('class="badge fails"') == 20
    assert "b1" not in grid  # does not vary


def many_settings(seeds, rates):
    """A section of one optimizer over a grid of both rates; the norms grow with the rates."""
    x, y, seed = (v.ravel() for v in np.meshgrid(rates, rates, np.arange(seeds), indexing="ij"))
    steps = np.arange(0, 101, 20)
    norms = np.sqrt(x * y)[None, :, None, None] * np.ones((1, 1, len(steps), 2))
    ds = xr.Dataset(
        {
            "gradient_norm": (("optimizer", "run", "step", "player"), norms),
            "seed": (("optimizer", "run"), seed[None].astype(float)),
            "diverged_at": (("optimizer", "run"), np.where(x == rates[-1], 50.0, -1.0)[None]),
            "hp_primal_learning_rate": (("optimizer", "run"), x[None]),
            "hp_dual_learning_rate": (("optimizer", "run"), y[None]),
            "norm_late": (("optimizer", "run", "player"), norms[:, :, -1]),
            "mvi_negative_mass": (("optimizer", "mvi_run"), np.linspace(0, 1, len(x))[None]),
            "necessary": (("optimizer", "mvi_run", "column"), norms[..., 0]),
        },
        {"optimizer": ["adam"], "step": steps, "player": PLAYERS},
        {"steps": 100},
    )
    verdicts = [
        verdict(
            "only the primal player converges",
            "adam",
            ("supported", "refuted", "undecided")[i % 3],
            float(a * b),
            (None, None),
            f"setting {i}.",
            setting={"primal_learning_rate": float(a), "dual_learning_rate": float(b)},
        )
        for i, (a, b) in enumerate((a, b) for a in rates for b in rates)
    ]
    return Section("many", ds, verdicts, {})


def test_thousands_of_settings_are_a_summary_with_the_best_and_the_worst():
    section = many_settings(seeds=2, rates=np.geomspace(1e-3, 1, 40))
    page = render([section])
    assert len(page) < 1_000_000  # and not with the number of settings
    text = words(page)
    assert "adam 1,600 534 533 533" in text  # settings supported, undecided, refuted
    assert "The 10 best and 10 worst settings of each optimizer" in text
    reasons = re.findall(r"setting (\d+)\.", page)
    best = [i for i in range(1600) if i % 3 == 0]
    worst = [i for i in range(1600) if i % 3 == 1]
    value = np.outer(np.geomspace(1e-3, 1, 40), np.geomspace(1e-3, 1, 40)).ravel()
    assert len(reasons) == 20
    assert set(map(int, reasons[:10])) <= set(best)
    assert max(value[int(i)] for i in reasons[:10]) <= np.sort(value[best])[10]
    assert set(map(int, reasons[10:])) <= set(worst)
    assert min(value[int(i)] for i in reasons[10:]) >= np.sort(value[worst])[-11]


def test_a_large_grid_of_rates_stays_small_and_readable():
    drawn = figures(many_settings(seeds=2, rates=np.geomspace(1e-3, 1, 40)))
    ax = drawn["grid"].axes[0]
    assert len(ax.get_xticks()) <= 12
    (crosses,) = [line for line in ax.lines if line.get_marker() == "x"]
    assert len(crosses.get_xdata()) == 40  # the settings whose runs diverged
    dots = [line for line in drawn["mvi_controls"].axes[0].lines if line.get_markersize() == 3]
    assert dots
    assert max(len(line.get_xdata()) for line in dots) == 100
    assert len(drawn["necessary"].axes[0].lines) < 30


def test_rates_of_a_random_search_are_points():
    """A table of n rates by n rates would have a place for n^2 settings."""
    rng, runs = np.random.default_rng(0), 300
    rates = {
        f"hp_{p}_learning_rate": (("optimizer", "run"), rng.random((1, runs))) for p in PLAYERS
    }
    norms = rng.random((1, runs, 2, 2))
    ds = xr.Dataset(
        {
            "gradient_norm": (("optimizer", "run", "step", "player"), norms),
            "norm_late": (("optimizer", "run", "player"), norms[:, :, -1]),
            "diverged_at": (("optimizer", "run"), np.where(np.arange(runs) < 3, 10.0, -1.0)[None]),
            **rates,
        },
        {"optimizer": ["adam"], "step": [0, 10], "player": PLAYERS},
    )
    ax = figures(Section("random", ds, [], {}))["grid"].axes[0]
    (points,) = ax.collections
    assert len(points.get_offsets()) == runs
    assert not ax.images
    assert [len(line.get_xdata()) for line in ax.lines] == [3, 1]  # diverged, shown


def test_a_rate_that_is_not_there_is_one_column():
    section = many_settings(seeds=1, rates=np.geomspace(1e-3, 1, 6))
    few = section.dataset.isel(run=slice(6)).drop_vars(
        ["hp_primal_learning_rate", "mvi_negative_mass"]
    )
    ax = figures(section._replace(dataset=few, verdicts=[]))["grid"].axes[0]
    (picture,) = ax.images
    assert picture.get_array().shape[:2] == (6, 1)


def test_verdict_is_never_guessed(sections):
    odd = [{**sections[0].verdicts[0], "status": "yes"}]
    with pytest.raises(ValueError, match="'yes'; expected one of"):
        render([sections[0]._replace(verdicts=odd, dataset=xr.Dataset())])


def test_rcparams_are_left_alone(sections):
    before = dict(mpl.rcParams)
    figures(sections[0]._replace(dataset=sections[0].dataset[["gradient_norm"]]))
    assert dict(mpl.rcParams) == before


# ---------------------------------------------------------------- sample quality


def with_quality(section: Section, **attrs) -> Section:
    """Three runs of each optimizer, of which the last one fails the gate."""
    ds = section.dataset[["gradient_norm", "diverged_at", "seed"]]
    ds = xr.concat([ds, ds, ds], dim="run").assign_coords(run=range(3))
    ds["seed"] = ds["seed"] + xr.DataArray([0, 1, 2], dims="run")
    dims = ("optimizer", "run", "evaluation")
    frechet = np.array([0.1, 0.12, 0.9])[None, :, None] + np.array([-0.01, 0.01])
    passes = np.tile([1.0, 1.0, 0.0], (3, 1))
    why = "Fréchet distance 0.9 is above 0.137"
    ds = ds.assign(
        quality_frechet=(dims, np.tile(frechet, (3, 1, 1))),
        quality_class_entropy=(dims, np.full((3, 3, 2), 0.99)),
        quality_gate=(dims[:2], passes),
        quality_gate_reason=(dims[:2], np.where(passes == 1, "", why).astype(object)),
    )
    facts = {
        "quality_samples": 10_000,
        "quality_seeds": 2,
        "quality_classifier_accuracy": 0.982,
        "quality_classifier_held_out": 1000,
        "quality_frechet_of_halves": 0.0034,
        "quality_gate_frechet": 0.1375,
        "quality_gate_class_entropy": 0.9,
    }
    return section._replace(dataset=ds.assign_attrs(facts | attrs))


def quality_chapter(page: str) -> str:
    return words(page[page.index("Sample quality<") - 4 : page.index(">Details<") - 3])


def test_sample_quality_is_a_table_with_its_rule_and_the_failures(sections):
    page = render([with_quality(sections[0])])
    text = quality_chapter(page)
    assert text.count("2 of 3") == 3
    assert text.count("0.12 (0.1 to 0.9)") == 3  # median and range of means over evaluation seeds
    assert text.count("0.99 ") >= 3
    assert "0.99 to 0.99" not in text
    assert "drew 2 × 10,000 samples" in text
    assert "correct on 98.2% of 1,000 held-out images" in text
    assert "distance is at most 0.138" in text
    assert "at least 90% of the largest possible" in text
    assert "Why 3 runs do not pass" in text
    assert text.count("Fréchet distance 0.9 is above") == 3
    assert [page.count(f"<td>{word}</td>") for word in ("passes", "fails")] == [6, 3]


def test_the_rule_of_a_mixture(sections):
    section = with_quality(sections[0])
    ds = section.dataset.rename(
        quality_frechet="quality_modes", quality_class_entropy="quality_high_quality"
    )
    ds.attrs = {"quality_gate_modes": 0.9, "quality_gate_high_quality": 0.8}
    text = quality_chapter(render([section._replace(dataset=ds)]))
    assert "at least 90% of the modes are covered and 80% of its samples" in text
    assert "Modes covered High-quality samples" in text
    assert "classifier" not in text


def test_without_a_gate_the_page_says_why_or_nothing(sections, page):
    ds = sections[0].dataset[["gradient_norm", "diverged_at", "seed"]]
    noted = sections[0]._replace(dataset=ds.assign_attrs(quality_note="digits has no labels"))
    text = quality_chapter(render([noted]))
    assert "The quality gate was not evaluated. Digits has no labels." in text
    assert "Sample quality" not in page
    assert ">passes<" not in page
    measured = with_quality(sections[0], quality_note="the data have no labels")
    ds = measured.dataset.drop_vars(["quality_gate", "quality_gate_reason"])
    text = quality_chapter(render([measured._replace(dataset=ds)]))
    assert text.count("0.12 (0.1 to 0.9)") == 3
    assert "2 of 3" not in text
    assert "The quality gate was not evaluated. The data have no labels." in text
    assert "Why" not in text


def plane_of(section: Section, **passes) -> tuple:
    """The axes of the first panel, and its dots by whether they are filled."""
    ds = section.dataset.assign(**passes)
    ax = figures(section._replace(dataset=ds))["plane"].axes[0]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    return ax, {line.get_markerfacecolor() != "none": line.get_xydata() for line in dots}


def test_the_plane_has_a_dot_per_seed_filled_if_it_passes(sections):
    section = with_quality(sections[0])
    change = np.array([[0.2, 1.5], [0.3, 0.9], [2.0, 0.1]])
    dims = ("optimizer", "run", "player")
    change = xr.DataArray(np.tile(change, (3, 1, 1)), dims=dims)
    ax, dots = plane_of(section, late_over_early=change)
    np.testing.assert_array_equal(dots[True], [[0.2, 1.5], [0.3, 0.9]])
    np.testing.assert_array_equal(dots[False], [[2.0, 0.1]])
    texts = {text.get_text() for text in ax.texts}
    only = {f"only the\n{player}\nfalls" for player in ("generator", "discriminator")}
    assert {"both", "neither"} | only <= texts
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_xlim() == ax.get_ylim()


def test_a_dot_beyond_the_plane_sits_on_its_edge(sections):
    change = xr.full_like(sections[1].dataset["late_over_early"], 1e-12)
    ax, dots = plane_of(sections[1], late_over_early=change)
    np.testing.assert_allclose(dots[False], ax.get_xlim()[0])
