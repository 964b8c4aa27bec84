"""Bad input: one clear error, no traceback, exit code 2, nothing created; no pickle is loaded."""

from __future__ import annotations

import collections
import io
import json
import os
import pickle
import random
import string
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onesided_jax import cli
from onesided_jax.cli import _work
from onesided_jax.sweeps import recipes

from .workload import recipe

QUICK = settings(
    deadline=None,
    max_examples=int(os.environ.get("FAULTS_EXAMPLES", "40")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


GIVEN: collections.Counter[str] = collections.Counter()


@pytest.fixture(autouse=True)
def _count(request):
    """Counts what was given and refused, for ``python -m tests.faults``."""
    given, refused = GIVEN["given"], GIVEN["refused"]
    yield
    if path := os.environ.get("FAULTS_COUNTS"):
        name = request.node.originalname
        counts = json.loads(Path(path).read_text()) if Path(path).exists() else {}
        old = counts.get(name, [0, 0])
        counts[name] = [old[0] + GIVEN["given"] - given, old[1] + GIVEN["refused"] - refused]
        Path(path).write_text(json.dumps(counts))


class Accepted(BaseException):
    """The input was good: work would begin now."""


@pytest.fixture
def no_work(monkeypatch, tmp_path):
    """Commands check their input and stop where work would begin."""

    def begin(*_, **__):
        raise Accepted

    monkeypatch.setattr(recipes, "train_stored", begin)
    monkeypatch.setattr(_work, "analyze_run", begin)
    monkeypatch.setattr(_work, "draw_report", begin)
    monkeypatch.chdir(tmp_path)


def outcome(arguments, capsys) -> int | None:
    """The exit code, or None if work would have begun; the output has been checked."""
    GIVEN["given"] += 1
    try:
        code = cli.main(arguments)
    except Accepted:
        capsys.readouterr()
        return None
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out
    if code == 2:
        GIVEN["refused"] += 1
        assert said.err.strip(), arguments
    return code


def refused(arguments, out, capsys) -> bool:
    """Whether the input was refused as promised; the alternative is that it was good."""
    code = outcome([*arguments, "--out", str(out)], capsys)
    assert code in (None, 2), code
    if code == 2:
        assert not out.exists()
    else:
        for path in sorted(out.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        out.rmdir()
    return code == 2


VALID = json.loads(recipe().to_json())
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 40)
    | st.sampled_from([2**31, 2**32, 2**63, 10**30, 10**400, -(10**18)])
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["..", "/etc/passwd", "\ud800", "a\x00b", "\x1b[2J", "[/]", "a" * 300, "NaN"])
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(content, prefix=()):
    """The path to every value of a JSON document."""
    yield prefix
    items = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for key, value in items:
        yield from places(value, (*prefix, key))


def replaced(content, place, value):
    """The document with one value replaced."""
    if not place:
        return value
    copy = content.copy()
    copy[place[0]] = replaced(content[place[0]], place[1:], value)
    return copy


@given(place=st.sampled_from(sorted(places(VALID), key=str)), value=VALUES)
@QUICK
def test_a_recipe_with_any_value_replaced(place, value, no_work, tmp_path, capsys):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(replaced(VALID, place, value)))
    refused(["sweep", str(path)], tmp_path / "run", capsys)


SIMPLE = (None, True, 0, -1, 3, 2.5, float("nan"), "", "x", [], [None], {}, {"x": None})


@pytest.mark.parametrize("value", SIMPLE, ids=repr)
def test_a_recipe_with_each_value_replaced_by_a_simple_one(value, no_work, tmp_path, capsys):
    path = tmp_path / "recipe.json"
    for place in places(VALID):
        path.write_text(json.dumps(replaced(VALID, place, value)))
        refused(["sweep", str(path)], tmp_path / "run", capsys)


@given(
    text=st.binary(max_size=60)
    | st.builds(
        lambda cut, extra: json.dumps(VALID).encode()[:cut] + extra,
        st.integers(0, 400),
        st.binary(max_size=3),
    )
    | st.sampled_from(
        [
            b"[" * 100_000,
            b'{"steps": ' + b"9" * 5000 + b"}",
            b"\xef\xbb\xbf{}",
            b'{"name": "a", "name": "b"}',
            b"NaN",
        ]
    )
)
@QUICK
def test_a_recipe_file_of_any_bytes(text, no_work, tmp_path, capsys):
    path = tmp_path / "recipe.json"
    path.write_bytes(text)
    assert refused(["sweep", str(path)], tmp_path / "run", capsys)


WORDS = [
    *("demo", "sweep", "resume", "analyze", "report", "sample", "recipes", "games"),
    *("carousel", "demo", "ring", "none.json", ".", "", "--help", "--"),
    *("--out", "--steps", "--checkpoint-every", "--seeds", "--set", "--width", "--count"),
    *("1", "0", "-1", "10", "999999999999999999999", "1e3", "nan", "b2=0.9", "b2=", "=1"),
    *("x=1,,2", "[/]", "[bold]", "\ud800", "\x00", "a" * 5000, "\x1b[31m", "../../x"),
    "primal_learning_rate=1e-3",
]


@given(
    arguments=st.lists(st.sampled_from(WORDS) | st.text(string.printable, max_size=8), max_size=7)
)
@settings(QUICK, max_examples=3 * QUICK.max_examples)
def test_any_arguments_of_the_command_line(arguments, no_work, tmp_path, capsys):
    code = outcome(arguments, capsys)
    assert code in (None, 0, 2)
    if code == 2:
        assert list(tmp_path.iterdir()) == []
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def images() -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), np.uint8)
    np.savez_compressed(file, x_train=pixels)
    return file.getvalue()


def archive(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return file.getvalue()


def member(header: str, body: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


LOADED: list[str] = []


class Trap:
    """What a pickle runs when it is loaded."""

    def __reduce__(self):
        return LOADED.append, ("loaded",)


def pickled() -> bytes:
    file = io.BytesIO()
    np.savez(file, x_train=np.array([Trap()], object), allow_pickle=True)
    return file.getvalue()


FILES = {
    "pickled objects": pickled(),
    "a pickle": pickle.dumps(Trap()),
    "a pickle called .npy": archive(**{"x_train.npy": pickle.dumps(Trap())}),
    "empty": b"",
    "no archive": b"PK\x03\x04" + bytes(40),
    "an array without an archive": member(
        "{'descr': '|u1', 'fortran_order': False, 'shape': (2,)}"
    ),
    "no arrays": archive(),
    "oversized": archive(
        **{
            "x.npy": member(
                f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({10**15}, 8, 8)}}"
            )
        }
    ),
    "overflowing": archive(
        **{
            "x.npy": member(
                f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**62}, {2**62}, 8)}}"
            )
        }
    ),
    "negative": archive(
        **{"x.npy": member("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 8, 8)}")}
    ),
    "code in the header": archive(**{"x.npy": member("__import__('os').abort()")}),
    "floats": archive(
        **{
            "x.npy": member(
                "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1)}", bytes(4)
            )
        }
    ),
    "a path that climbs": archive(
        **{
            "../../x.npy": member(
                "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1)}", bytes(1)
            )
        }
    ),
}


def npz_recipe(tmp_path, content: bytes):
    (tmp_path / "images.npz").write_bytes(content)
    options = {"dataset": f"npz:{tmp_path / 'images.npz'}", "network": "dcgan", "width": 4}
    document = replaced(VALID, ("game", "options"), options)
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(document))
    return str(path)


@pytest.mark.parametrize("case", FILES)
def test_a_data_file_that_is_none(case, no_work, tmp_path, capsys):
    path = npz_recipe(tmp_path, FILES[case])
    before = sorted(tmp_path.rglob("*"))
    assert refused(["sweep", path], tmp_path / "run", capsys)
    assert sorted(tmp_path.rglob("*")) == before
    assert LOADED == []


@given(seed=st.integers(0, 2**32), edits=st.integers(1, 4), cut=st.booleans())
@QUICK
def test_a_data_file_with_damage(seed, edits, cut, no_work, tmp_path, capsys):
    rng, content = random.Random(seed), bytearray(images())
    for _ in range(edits):
        content[rng.randrange(len(content))] = rng.randrange(256)
    if cut:
        content = content[: rng.randrange(len(content))]
    refused(["sweep", npz_recipe(tmp_path, bytes(content))], tmp_path / "run", capsys)


def test_the_undamaged_file_is_accepted(no_work, tmp_path, capsys):
    assert not refused(["sweep", npz_recipe(tmp_path, images())], tmp_path / "run", capsys)
