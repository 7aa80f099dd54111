"""The run folder, its event log, and the study above it."""

import json
import math
import os
import resource
import signal
from typing import Annotated, Literal

import pytest
import yaml
from nops_train import (
    Config,
    InputError,
    RunFolder,
    Study,
    mean_and_spread,
    read_events,
    weights_source,
)
from nops_train._events import EventLog
from pydantic import Field

CONFIG = {"train": {"epochs": 2, "learning_rate": 1e-5, "freeze": ()}, "name": "ä", "none": None}


def open_run(root, *, name="a", config=CONFIG, **options):
    return RunFolder.open(root, app="toy", name=name, config=config, **options)


def open_trained(root, **options):
    """A run that has made a step."""
    run = open_run(root, **options)
    run.checkpoints.save("step_1.pt", {"position": {"step": 1}})
    return run


def test_a_new_folder(tmp_path):
    run = open_run(tmp_path / "runs")
    assert run.path == tmp_path / "runs/toy/a"
    assert run.name == "a"
    assert yaml.safe_load((run.path / "config.yaml").read_text()) == run.config
    assert run.config["train"] == {"epochs": 2, "learning_rate": 1e-5, "freeze": []}
    assert RunFolder.at(run.path).config == run.config
    assert run.report == run.path / "report.html"
    assert run.plots.is_dir()


def test_the_same_configuration_opens_it_again(tmp_path):
    first = open_run(tmp_path)
    before = (first.path / "config.yaml").stat().st_mtime_ns
    again = open_run(tmp_path)
    assert (again.path / "config.yaml").stat().st_mtime_ns == before
    assert not (again.path / "sessions.jsonl").exists()


def test_each_difference_is_a_line(tmp_path):
    run = open_trained(tmp_path)
    changed = {"train": {"epochs": 3, "freeze": ["a"], "new": 1}, "name": "ä", "none": None}
    with pytest.raises(InputError) as error:
        open_run(tmp_path, config=changed)
    assert str(run.path / "config.yaml") in str(error.value)
    assert str(error.value).split("\n")[1:5] == [
        "  train.epochs: the run has 2, asked for 3",
        "  train.learning_rate: the run has 1e-05, asked for nothing",
        "  train.freeze: the run has [], asked for ['a']",
        "  train.new: the run has nothing, asked for 1",
    ]
    assert RunFolder.at(run.path).config == run.config


def test_of_many_differences_the_first_are_shown(tmp_path):
    open_trained(tmp_path, config={f"k{n}": 0 for n in range(25)})
    with pytest.raises(InputError) as error:
        open_run(tmp_path, config={f"k{n}": 1 for n in range(25)})
    lines = str(error.value).split("\n")
    assert lines[20:22] == ["  k19: the run has 0, asked for 1", "  … and 5 more"]
    assert "k20" not in str(error.value)


def test_temporary_files_of_a_killed_process_are_removed(tmp_path):
    run = open_run(tmp_path)
    left = [run.path / ".summary.json.123.tmp", run.path / ".config.yaml.123.tmp"]
    for path in left:
        path.write_text("half")
    with run.locked():
        assert [path for path in left if path.exists()] == []


def test_nothing_is_not_the_same_as_a_null(tmp_path):
    open_trained(tmp_path, config={"a": None})
    with pytest.raises(InputError, match=r"a: the run has None, asked for nothing"):
        open_run(tmp_path, config={"b": 1})


def test_neutral_keys_may_differ(tmp_path):
    open_trained(
        tmp_path, config={"train": {"device": "cpu", "epochs": 1}, "evaluate": {"leads": [1]}}
    )
    changed = {"train": {"device": "cuda", "epochs": 1}, "evaluate": {"leads": [2], "more": 1}}
    neutral = ("train.device", "evaluate")
    run = open_run(tmp_path, config=changed, neutral=neutral)
    assert RunFolder.at(run.path).config == changed
    (note,) = read_events(run.path / "sessions.jsonl")
    assert note["event"] == "config_changed"
    assert len(note["changes"]) == 3
    with pytest.raises(InputError, match=r"train.device: the run has 'cuda'"):
        open_run(tmp_path, config={**changed, "train": {"device": "cpu", "epochs": 1}})


class Fixed(Config):
    """A section of one kind …"""

    kind: Literal["fixed"] = "fixed"
    value: float = 1.0


class Ramp(Config):
    """… or of another."""

    kind: Literal["ramp"] = "ramp"
    stop: float = 5.0


class Inner(Config):
    """A section that gained `width` and `rate`."""

    steps: int
    width: int = 8
    rate: float = 1e-5


class Whole(Config):
    """A configuration that gained a section, and keys in the others."""

    inner: Inner = Inner(steps=1, width=4)
    rule: Annotated[Fixed | Ramp, Field(discriminator="kind")] = Fixed(value=3.0)
    extra: Ramp = Ramp()
    words: tuple[str, ...] = ()


def open_older(root, stored, config, **options):
    """A run whose `config.yaml` is older than the class of `config`, opened with that."""
    open_trained(root, config=stored)
    return open_run(root, config=config, **options)


@pytest.mark.parametrize(
    ("stored", "config"),
    [
        ({}, Whole()),
        (
            {"inner": {"steps": 1}},
            Whole(),
        ),  # of the section in the class, not of the section's class
        ({"inner": {"steps": 7, "width": 4}}, Whole(inner=Inner(steps=7, width=4))),
        ({"rule": {"kind": "fixed"}}, Whole()),
        ({"rule": {"kind": "ramp"}}, Whole(rule=Ramp())),
        ({"words": []}, Whole()),
    ],
)
def test_a_key_that_an_older_run_lacks_counts_as_its_default(tmp_path, stored, config):
    run = open_older(tmp_path, stored, config)
    assert RunFolder.at(run.path).config == run.config == config.model_dump(mode="json")
    (note,) = read_events(run.path / "sessions.jsonl")
    assert note["event"] == "config_completed"
    assert "extra.stop" in note["keys"]
    before = (run.path / "config.yaml").stat().st_mtime_ns
    open_run(tmp_path, config=config)
    assert (run.path / "config.yaml").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("stored", "config", "lines"),
    [
        ({}, Whole(extra=Ramp(stop=6.0)), ["  extra.stop: the run has 5.0, asked for 6.0"]),
        (
            {"inner": {"steps": 2}},
            Whole(inner=Inner(steps=2)),
            ["  inner.width: the run has 4, asked for 8"],
        ),
        (
            {"inner": {"steps": 2}, "words": ["a"]},
            Whole(),
            [
                "  inner.steps: the run has 2, asked for 1",
                "  words: the run has ['a'], asked for []",
            ],
        ),
        (
            {"rule": {"kind": "ramp"}},
            Whole(),
            [
                "  rule.kind: the run has 'ramp', asked for 'fixed'",
                "  rule.stop: the run has 5.0, asked for nothing",
                "  rule.value: the run has nothing, asked for 3.0",
            ],
        ),
    ],
)
def test_any_other_value_of_it_is_a_difference(tmp_path, stored, config, lines):
    with pytest.raises(InputError) as error:
        open_older(tmp_path, stored, config)
    assert str(error.value).split("\n")[1:-1] == lines
    assert open_older(tmp_path, stored, config, resume="force").config == config.model_dump(
        mode="json"
    )


def test_a_key_that_is_gone_is_a_difference(tmp_path):
    with pytest.raises(InputError) as error:
        open_older(tmp_path, {"gone": 1}, Whole())
    assert "  gone: the run has 1, asked for nothing" in str(error.value).split("\n")


def test_plain_values_have_no_defaults(tmp_path):
    with pytest.raises(InputError, match=r"extra.stop: the run has nothing, asked for 5.0"):
        open_older(tmp_path, {}, Whole().model_dump(mode="json"))


def test_force_takes_the_new_configuration(tmp_path):
    open_trained(tmp_path)
    run = open_run(tmp_path, config={"other": 1}, resume="force")
    assert RunFolder.at(run.path).config == {"other": 1}


def test_a_run_without_a_checkpoint_takes_corrected_settings(tmp_path):
    first = open_run(tmp_path)
    run = open_run(tmp_path, config={"other": 1})
    assert RunFolder.at(run.path).config == {"other": 1}
    (note,) = read_events(run.path / "sessions.jsonl")
    assert note["event"] == "config_changed"
    with first.locked(), pytest.raises(InputError, match="is training in this folder"):
        open_run(tmp_path, config={"other": 2})
    assert RunFolder.at(run.path).config == {"other": 1}


def test_weights_are_the_best_or_the_last(tmp_path):
    run = open_run(tmp_path)
    with pytest.raises(InputError, match="a: holds no checkpoint yet"):
        weights_source(run, "best")
    run = open_trained(tmp_path)
    assert weights_source(run, "best") == run.path
    assert weights_source(run, "last") == run.path / "checkpoints/step_1.pt"


def test_a_figure_over_seeds():
    assert mean_and_spread([0.25]) == 0.25
    assert mean_and_spread([1.0, 2.0, 3.0]) == "2 ± 1"


def test_what_is_no_plain_configuration(tmp_path):
    with pytest.raises(TypeError, match="config must hold plain values"):
        open_run(tmp_path, config={"a": object()})


def test_folders_that_cannot_be_made_or_read(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/toy/a: cannot be made: Not a directory"):
        open_run(tmp_path / "file")
    with pytest.raises(InputError, match=r"no run folder: it has no config.yaml"):
        RunFolder.at(tmp_path)
    run = open_run(tmp_path)
    (run.path / "config.yaml").write_text("a: [")
    with pytest.raises(InputError, match=r"config.yaml: no YAML"):
        RunFolder.at(run.path)
    (run.path / "config.yaml").write_text("- 1")
    with pytest.raises(InputError, match="holds list, expected keys"):
        open_run(tmp_path)
    (run.path / "summary.json").write_text("{")
    with pytest.raises(InputError, match=r"summary.json: no JSON"):
        run.summary()
    (run.path / "summary.json").write_text("[1]")
    with pytest.raises(InputError, match=r"summary.json: holds list, expected names"):
        run.summary()


def test_the_summary_is_merged_and_keeps_odd_numbers(tmp_path):
    run = open_run(tmp_path)
    assert run.summary() == {}
    run.update_summary(a=1, best=math.inf)
    run.update_summary(b={"x": math.nan})
    summary = run.summary()
    assert (summary["a"], summary["best"]) == (1, math.inf)
    assert math.isnan(summary["b"]["x"])
    json.loads((run.path / "summary.json").read_text(), parse_constant=pytest.fail)


def test_further_records_are_kept_whole(tmp_path):
    run = open_run(tmp_path)
    assert run.record("diagnosis.json") == {}
    run.keep("diagnosis.json", {"a": 1, "b": 2})
    run.keep("diagnosis.json", {"a": [math.inf]})
    assert run.record("diagnosis.json") == {"a": [math.inf]}
    assert run.summary() == {}


def test_events_are_valid_json_whatever_the_numbers(tmp_path):
    log = EventLog(tmp_path / "events.jsonl")
    log.write("a", raw={"x": math.nan, "y": [math.inf, -math.inf, 1.5]}, path=tmp_path)
    log.write("b", text="ä\n")
    log.close()
    text = log.path.read_text()
    assert text.count("\n") == 2
    json.loads(text.split("\n")[0], parse_constant=pytest.fail)
    first, second = read_events(tmp_path)
    assert math.isnan(first["raw"]["x"])
    assert first["raw"]["y"] == [math.inf, -math.inf, 1.5]
    assert second["text"] == "ä\n"
    assert first["time"] > 1.7e9


def test_an_event_is_on_file_at_once_and_can_be_cut_off_again(tmp_path):
    log = EventLog(tmp_path / "events.jsonl")
    log.write("a")
    length = log.sync()
    assert length == log.path.stat().st_size > 0
    log.write("b")
    assert len(read_events(log.path)) == 2
    found = log.truncate(length)
    assert found > length
    log.write("c")
    log.close()
    assert [e["event"] for e in read_events(log.path)] == ["a", "c"]
    log.write("d")  # opens again, at the end
    log.close()
    assert [e["event"] for e in read_events(log.path)] == ["a", "c", "d"]


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "a"}\n{"event": "b"')
    assert read_events(path) == [{"event": "a"}]
    path.write_text('{"event": "a"\n{"event": "b"}\n')
    with pytest.raises(InputError, match=r"events.jsonl: line 1 is no JSON object"):
        read_events(tmp_path)
    with pytest.raises(InputError, match="no such event log"):
        read_events(tmp_path / "none")


def test_a_session_note_after_a_cut_line_is_still_read(tmp_path):
    run = open_run(tmp_path)
    cut = '{"event": "' + "interrupted" * 20
    (run.path / "sessions.jsonl").write_text('{"event": "started"}\n' + cut)
    run.note("resumed", step=3)
    assert (run.path / "sessions.jsonl").read_text().endswith('"step": 3}\n')
    assert [e["event"] for e in read_events(run.path / "sessions.jsonl")] == ["started", "resumed"]


def test_a_full_disk_is_told_by_the_log(tmp_path):
    log = EventLog(tmp_path / "events.jsonl")
    log.write("a")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limit[1]))
    try:
        with pytest.raises(InputError, match=r"events.jsonl: cannot be written: File too large"):
            log.write("b", text="x" * 300)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
        log.close()
    assert read_events(tmp_path)[0]["event"] == "a"


def test_the_lock_is_given_back(tmp_path):
    run, other = open_run(tmp_path), open_run(tmp_path)
    with run.locked():
        message = f"process {os.getpid()} is training in this folder"
        with pytest.raises(InputError, match=message), other.locked():
            pass
    with other.locked():
        pass


def test_a_study_is_a_folder_of_ordinary_runs(tmp_path):
    study = Study.open(tmp_path, app="toy", name="seeds")
    assert study.path == tmp_path / "toy/seeds"
    for seed in (1, 0):
        run = study.run(f"seed_{seed}", config={"seed": seed})
        run.checkpoints.save("step_1.pt", {})
        run.update_summary(status="completed", metrics={"error": float(seed)})
    assert [run.name for run in study.children()] == ["seed_0", "seed_1"]
    study.update(question="does the seed matter?", spread=math.nan)
    content = study.read()
    assert content["runs"]["seed_1"]["metrics"] == {"error": 1.0}
    assert content["question"] == "does the seed matter?"
    study.update(answer="no")
    assert study.read()["question"] == "does the seed matter?"
    assert study.report == study.path / "report.html"
    with pytest.raises(InputError, match="seed: the run has 0, asked for 5"):
        study.run("seed_0", config={"seed": 5})
    with pytest.raises(InputError, match="cannot be made"):
        Study.open(study.path / "study.json", app="toy", name="a")
    (study.path / "study.json").write_text("{")
    with pytest.raises(InputError, match=r"study.json: no JSON"):
        study.read()
