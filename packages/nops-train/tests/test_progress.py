"""What the user sees."""

import io
import re
import sys

from nops_train._progress import Progress

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def test_plain_lines(toy, tmp_path, capsys):
    made = toy.engine(tmp_path, settings=toy.config(progress="plain"), progress=None)
    made.fit(toy.train, toy.valid)
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"Peak memory \S+ MiB \(the whole process\)", lines.pop())
    assert len(lines) == 2
    for number, line in enumerate(lines, start=1):
        pattern = (
            rf"{STAMP}  epoch {number}/2  loss \S+  error \S+  bias \S+  \S+ s  \S+ steps/s  "
            r"\d+:\d\d:\d\d left"
        )
        assert re.fullmatch(pattern, line), line


def test_the_argument_goes_before_the_configuration(toy, tmp_path, capsys):
    toy.engine_run(tmp_path, toy.config(progress="plain"))  # progress="none"
    assert capsys.readouterr().out == ""


def test_a_bar(toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nops_train._progress.REFRESH_SECONDS", 0.001)
    made = toy.engine(tmp_path)
    made._progress_mode = "bar"
    made.fit(toy.train, toy.valid)
    text = capsys.readouterr().err
    assert "epoch 2/2" in text
    assert "10/10" in text


def test_auto_is_plain_where_there_is_no_terminal(capsys):
    with Progress("auto", epochs=1, batches=2) as progress:
        progress.say("hello")
    assert capsys.readouterr().out == "hello\n"


def test_none_is_silent(capsys):
    with Progress("none", epochs=1, batches=2) as progress:
        progress.say("hello")
        progress.step(epoch=0, batch=1)
        progress.epoch(epoch=0, loss=1.0, metrics={}, seconds=1.0)
    assert capsys.readouterr() == ("", "")


def test_lines_of_a_log_stand_for_themselves_and_are_few(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("nops_train._progress.time.monotonic", lambda: now[0])
    with Progress("plain", epochs=2, batches=1000) as progress:
        for batch in range(1, 301):  # half a second each
            now[0] += 0.5
            progress.step(epoch=0, batch=batch)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5  # 150 s, one per 30 s
    # 299 steps in the 149.5 s since the first ended; 1700 are left, 850 s
    assert re.fullmatch(
        rf"{STAMP}  epoch 1/2  batch 300/1000  2\.00 steps/s  0:14:10 left", lines[-1]
    )


def test_no_rate_is_made_up(capsys):
    with Progress("plain", epochs=3, batches=1) as progress:
        progress.step(epoch=0, batch=1)
        progress.epoch(epoch=0, loss=0.5, metrics={}, seconds=1.0)
    assert capsys.readouterr().out.endswith("epoch 1/3  loss 0.5  1.0 s\n")


def test_a_terminal_without_the_letters(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with Progress("plain", epochs=1, batches=1) as progress:
        progress.say("✓ Loaded")
    assert raw.getvalue() == b"? Loaded\n"
