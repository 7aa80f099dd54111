"""What the user sees."""

import io
import sys

from nops_train._progress import Progress


def test_plain_lines(toy, tmp_path, capsys):
    made = toy.engine(tmp_path)
    made._progress_mode = "plain"
    made.fit(toy.train, toy.valid)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "loss" in lines[0]
    assert "error" in lines[0]


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


def test_long_epochs_show_rate_and_time_left(capsys, monkeypatch):
    monkeypatch.setattr("nops_train._progress.LINE_SECONDS", 0.0)
    clock = iter([0.0, 10.0, 12.0, 20.0, 22.0])
    monkeypatch.setattr("nops_train._progress.time.monotonic", lambda: next(clock))
    with Progress("plain", epochs=2, batches=10) as progress:
        progress.step(epoch=0, batch=5)  # the first of this session
        progress.step(epoch=0, batch=9)
    last = capsys.readouterr().out.splitlines()[-1]
    # 5 steps in the 10 s since the first began; 11 are left
    assert last == "epoch 1/2  batch 9/10  0.50 steps/s  22 s left"


def test_a_terminal_without_the_letters(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with Progress("plain", epochs=1, batches=1) as progress:
        progress.say("✓ Loaded")
    assert raw.getvalue() == b"? Loaded\n"
