"""SIGTERM and SIGINT: in this process, in another thread, and on a real process."""

import os
import signal
import threading
import time
import warnings

import pytest
from nops_train import Interrupted, RunFolder, read_events
from nops_train._signals import SignalGuard


def test_handlers_are_put_back(toy, tmp_path):
    mine = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        toy.engine(tmp_path).fit(toy.train)
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    finally:
        signal.signal(signal.SIGTERM, mine)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_step_in_hand_is_finished_and_saved(toy, tmp_path, number, code):
    def stop(epoch, index, batch):
        if (epoch, index) == (0, 3):
            signal.raise_signal(number)
        return batch

    made = toy.engine(tmp_path)
    with pytest.raises(Interrupted) as error:
        made.fit(toy.Spoiled(toy.train, stop))
    assert (error.value.signal, error.value.exit_code) == (number, code)
    assert made.state.step == 4
    newest = made.run.checkpoints.newest()
    assert newest is not None
    assert newest.name == "step_4.pt"
    note = read_events(made.run.path / "sessions.jsonl")[-1]
    assert (note["event"], note["signal"], note["step"]) == ("interrupted", number.name, 4)
    assert RunFolder.at(made.run.path).summary()["status"] == "interrupted"


def test_a_signal_that_comes_too_late_stops_what_follows(toy, tmp_path, monkeypatch):
    made = toy.engine(tmp_path)
    finish = made._finish
    monkeypatch.setattr(made, "_finish", lambda: (signal.raise_signal(signal.SIGINT), finish())[1])
    with pytest.raises(Interrupted):
        made.fit(toy.train)
    assert RunFolder.at(made.run.path).summary()["status"] == "completed"


def test_an_error_of_a_worker_that_died_of_the_signal_is_no_failure(toy, tmp_path):
    def stop(epoch, index, batch):
        if index == 2 and epoch == 1:
            signal.raise_signal(signal.SIGINT)
            raise RuntimeError("DataLoader worker exited unexpectedly")
        return batch

    made = toy.engine(tmp_path)
    with pytest.raises(Interrupted):
        made.fit(toy.Spoiled(toy.train, stop))
    assert made.state.step == 7


def test_in_another_thread_nothing_is_installed(toy, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def note(epoch, index, batch):
        seen.append(signal.getsignal(signal.SIGTERM))
        return batch

    made = toy.engine(tmp_path)
    thread = threading.Thread(target=lambda: made.fit(toy.Spoiled(toy.train, note)))
    thread.start()
    thread.join()
    assert made.state.step == 10
    assert set(seen) == {before}


def test_a_second_signal_ends_at_once(monkeypatch):
    sent = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    with SignalGuard() as guard:
        signal.raise_signal(signal.SIGINT)
        assert guard.received == signal.SIGINT
        assert sent == []
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert sent == [(os.getpid(), signal.SIGINT)]


def child(toy, root, say):
    """What the process under test does: a run that gets SIGTERM, then one that gets SIGINT twice."""

    def slow(epoch, index, batch):
        time.sleep(0.02)
        return batch

    def stuck(epoch, index, batch):
        say("stuck")
        while made._signals.received is None:  # the first signal waits for this batch
            time.sleep(0.02)
        say("waiting")
        while True:  # which never comes
            time.sleep(0.02)

    made = toy.engine(root, settings=toy.config(epochs=500))
    try:
        made.fit(toy.Spoiled(toy.train, slow), toy.valid)
    except Interrupted as stop:
        say(f"{stop.exit_code} {made.state.step}")
    made = toy.engine(root, name="second")
    made._check_start = lambda train, valid: None
    made.fit(toy.Spoiled(toy.train, stuck), toy.valid)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_real_process(toy, tmp_path):
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forking beside threads, which do nothing here
        process = os.fork()
    if process == 0:
        signal.alarm(200)  # should its parent be gone
        try:
            child(toy, tmp_path, lambda text: os.write(write, f"{text}\n".encode()))
        finally:
            os._exit(99)
    os.close(write)
    with os.fdopen(read) as said:
        log = tmp_path / "toy/run/events.jsonl"
        while not (log.exists() and log.stat().st_size):
            time.sleep(0.02)
            assert os.waitpid(process, os.WNOHANG) == (0, 0)
        os.kill(process, signal.SIGTERM)
        code, step = said.readline().split()
        assert code == "143"
        found = RunFolder.at(tmp_path / "toy/run").checkpoints.newest()
        assert found is not None
        assert found.state["position"]["step"] == int(step)
        assert said.readline() == "stuck\n"
        os.kill(process, signal.SIGINT)
        assert said.readline() == "waiting\n"  # two of one kind that have not come yet are one
        assert os.waitpid(process, os.WNOHANG) == (0, 0)
        os.kill(process, signal.SIGINT)
        _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGINT
