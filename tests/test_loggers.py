"""Live logs: one logged run per run of a sweep, through interruption and failure."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from collections import defaultdict

import numpy as np
import pytest

import onesided_jax as osj
from onesided_jax.cli import main
from onesided_jax.runs import open_run
from onesided_jax.sweeps import Jsonl
from onesided_jax.sweeps.live import as_loggers

STEPS = [2, 4, 6]
NAMES = [f"sweep/run{run}-seed{run % 2}" for run in range(4)]


def sweep(loggers, out=None, **changes):
    runs = osj.grid(seeds=2, primal_learning_rate=(0.02, 0.03), dual_learning_rate=0.2)
    arguments = {"steps": 6, "checkpoint_every": 2, "loggers": loggers, "out": out, **changes}
    return osj.sweep(osj.games.carousel(), osj.adam, runs, **arguments)


def read_jsonl(folder):
    found = defaultdict(list)
    for line in map(json.loads, (folder / "log.jsonl").read_text().splitlines()):
        found[line["run"]].append((line["step"], line["metrics"]["loss_primal"]))
    return dict(found)


def read_tensorboard(folder):
    """With TensorBoard's own reader."""
    multiplexer = pytest.importorskip("tensorboard.backend.event_processing.event_multiplexer")
    found = multiplexer.EventMultiplexer().AddRunsFromDirectory(str(folder / "tb")).Reload()
    return {
        run: [(event.step, event.value) for event in found.Scalars(run, "loss_primal")]
        for run in found.Runs()
    }


LOGS = {"jsonl:{}/log.jsonl": read_jsonl, "tensorboard:{}/tb": read_tensorboard}


@pytest.fixture(params=LOGS)
def log(request, tmp_path):
    if request.param.startswith("tensorboard"):
        pytest.importorskip("tensorboardX")
    return request.param.format(tmp_path), lambda: LOGS[request.param](tmp_path)


def test_a_log_has_a_run_for_each_run_and_the_results_numbers(log):
    text, read = log
    result = sweep([text])
    logged = read()
    assert sorted(logged) == NAMES
    for run, name in enumerate(NAMES):
        assert [step for step, _ in logged[name]] == STEPS
        np.testing.assert_array_equal(
            np.float32([value for _, value in logged[name]]),
            result.metrics["loss_primal"][run, 1::2],
        )


def test_a_resume_repeats_no_point_and_leaves_none_out(log, tmp_path):
    text, read = log

    def stop(progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep([text], tmp_path / "run", on_chunk=stop)
    # Killed before this checkpoint was written, and after its chunk was logged.
    shutil.rmtree(open_run(tmp_path / "run").store("sweep").path / "4")
    result = sweep([text], tmp_path / "run")
    sweep([text], tmp_path / "run")  # finished: logs nothing
    for run, name in enumerate(NAMES):
        assert [step for step, _ in read()[name]] == STEPS
        np.testing.assert_array_equal(
            np.float32([value for _, value in read()[name]]),
            result.metrics["loss_primal"][run, 1::2],
        )


def test_tensorboard_knows_the_hyperparameters(tmp_path):
    pytest.importorskip("tensorboardX")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams import metadata

    sweep(f"tensorboard:{tmp_path}")
    found = accumulator.EventAccumulator(str(tmp_path / NAMES[3])).Reload()
    summary = found.summary_metadata[metadata.SESSION_START_INFO_TAG]
    content = metadata.parse_session_start_info_plugin_data(summary.plugin_data.content)
    assert dict(content.hparams)["primal_learning_rate"].number_value == 0.03
    assert dict(content.hparams)["optimizer"].string_value == "sweep"
    assert dict(content.hparams)["seed"].number_value == 1


def read_wandb(path):
    """The records of an offline run: LevelDB's log format, blocks of 32 KiB after a header."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, records, part, at = path.read_bytes(), [], b"", 7
    while at + 7 <= len(content):
        if (left := 2**15 - at % 2**15) < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        part, at = part + content[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):  # whole, or the last part
            records.append(Record.FromString(part))
            part = b""
    return records


def values_of(items):
    return {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    result = sweep("wandb:project")
    wandb.teardown()  # W&B writes in a process of its own
    found = {}
    for path in tmp_path.glob("wandb/offline-run-*/*.wandb"):
        records = read_wandb(path)
        (run,) = [record.run for record in records if record.HasField("run")][:1]
        history = [values_of(r.history.item) for r in records if r.HasField("history")]
        found[run.display_name] = (run, history)
    assert sorted(found) == NAMES
    for row, name in enumerate(NAMES):
        run, history = found[name]
        assert (run.project, run.run_group) == ("project", "sweep")
        assert values_of(run.config.update)["primal_learning_rate"] == (0.02, 0.03)[row // 2]
        assert [point["_step"] for point in history] == STEPS
        np.testing.assert_array_equal(
            np.float32([point["loss_primal"] for point in history]),
            result.metrics["loss_primal"][row, 1::2],
        )


def test_a_logger_of_your_own_sees_all_records_and_is_closed(tmp_path):
    class Mine:
        steps, closed = [], 0

        def log(self, records):
            self.steps += records.steps.tolist()
            assert records.metrics["loss_dual"].shape == (4, len(records.steps))
            assert records.settings(2)["primal_learning_rate"] == 0.03

        def close(self):
            self.closed += 1

    seen = []
    mine = Mine()
    sweep([mine, lambda records: seen.append(records.names)])
    assert mine.steps == [1, 2, 3, 4, 5, 6]
    assert mine.closed == 1
    assert seen == [NAMES] * 3


def test_a_logger_that_fails_is_told_once_and_ends_nothing(tmp_path):
    def broken(records):
        raise OSError("no space left")

    with pytest.warns(RuntimeWarning, match="logger a function failed.*no space left") as told:
        result = sweep([broken, f"jsonl:{tmp_path}/log.jsonl"])
    assert len(told) == 1
    assert result.metrics["loss_primal"].shape == (4, 6)
    assert [step for step, _ in read_jsonl(tmp_path)[NAMES[0]]] == STEPS


def test_a_line_that_a_kill_cut_off_is_written_again(tmp_path):
    path = tmp_path / "log.jsonl"
    sweep(Jsonl(path), tmp_path / "run", steps=2)
    whole = path.read_text()
    path.write_text(whole[:-20])
    shutil.rmtree(open_run(tmp_path / "run").store("sweep").path)
    sweep(Jsonl(path), tmp_path / "run", steps=2)
    assert sorted(path.read_text().splitlines()) == sorted(whole.splitlines())


def test_a_diverged_run_logs_no_number_that_is_not_finite(tmp_path):
    runs = osj.grid(seeds=1, primal_learning_rate=(1e30, 0.01), dual_learning_rate=1e30)
    osj.sweep(
        osj.games.bilinear(), osj.sgda, runs, steps=20, checkpoint_every=10,
        loggers=f"jsonl:{tmp_path}/log.jsonl",
    )  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    first = [line for line in lines if line["run"] == "sweep/run0-seed0"]
    assert [line["metrics"] for line in first] == [{}, {}]
    assert all(0 < line["diverged_at"] <= 10 for line in first)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("tensorbord:x", ValueError, "tensorbord:x.*expected tensorboard:DIR.*did you mean"),
        ("jsonl", ValueError, "jsonl:FILE"),
        ("wandb:", ValueError, "wandb:PROJECT"),
        ([3], TypeError, "loggers holds 3: expected a function of records"),
        ([Jsonl], TypeError, r"log\(records\) and close\(\)"),
    ],
)
def test_what_is_no_logger(given, error, message):
    with pytest.raises(error, match=message):
        sweep(given)


@pytest.mark.parametrize(
    ("text", "package", "extra"),
    [("tensorboard:x", "tensorboardX", "tensorboard"), ("wandb:x", "wandb", "wandb")],
)
def test_a_missing_extra_is_said_before_any_work(text, package, extra, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"log needs {package}: pip install 'onesided-jax\[{extra}\]'"
    with pytest.raises(ImportError, match=message):
        sweep(text, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command_line_logs_and_names_every_cell(tmp_path, capsys):
    path, log = tmp_path / "tiny.json", f"jsonl:{tmp_path}/log.jsonl"
    rates = {"primal_learning_rate": 0.02, "dual_learning_rate": 0.2}
    cells = tuple(osj.OptimizerSpec(name, axes=rates) for name in ("adam", "sgda"))
    recipe = osj.Recipe("tiny", osj.GameSpec("bilinear"), cells, (0, 1), 20, 10)
    path.write_text(recipe.to_json())
    given = ["--width", "2"]
    command = ["sweep", str(path), "--out", str(tmp_path / "run"), *given]
    assert main([*command, "--log", "josnl:x"]) == 2
    assert "did you mean 'jsonl'" in capsys.readouterr().err
    assert main([*command, "--log", log, "--log", f"jsonl:{tmp_path}/two.jsonl"]) == 0
    run = open_run(tmp_path / "run")
    names = set(read_jsonl(tmp_path))
    expected = {
        f"{cell}/run{i}-seed{seed}" for cell in run.cells for i, seed in enumerate(run.seeds(cell))
    }
    assert names == expected
    assert main(["resume", str(tmp_path / "run"), "--log", log]) == 0
    assert {step for points in read_jsonl(tmp_path).values() for step, _ in points} == {10, 20}
    assert all(len(points) == 2 for points in read_jsonl(tmp_path).values())


def test_texts_become_loggers_once():
    (one,) = as_loggers("jsonl:x/log.jsonl")
    assert as_loggers([one]) == [one]
