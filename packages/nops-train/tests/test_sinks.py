"""Watching a run: TensorBoard read back, Weights & Biases faked, a sink of one's own."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from nops_train import InputError, Interrupted, Sink, read_events

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    EventAccumulator = None
needs_tensorboard = pytest.mark.skipif(
    EventAccumulator is None, reason="tensorboard is not installed"
)


class Recorder:
    """A sink that keeps what it is fed with."""

    def __init__(self):
        self.begun, self.events, self.images, self.calls = [], [], [], []

    def begin(self, events, *, step):
        self.begun.append((list(events), step))

    def event(self, record):
        self.events.append(dict(record))

    def image(self, name, image, *, step):
        self.images.append((name, image, step))

    def flush(self):
        self.calls.append("flush")

    def close(self):
        self.calls.append("close")


def pictured(toy):
    class Pictured(toy.Task):
        """Draws at random, as a careless task would."""

        def images(self, batch):
            assert not self.model.training
            assert not torch.is_grad_enabled()
            noise = torch.rand(1, 4, 5)
            return {
                "truth": noise,
                "error/far": torch.full((3, 4, 5), 2.0 * float(batch["x"].shape[0])),
            }

    return Pictured


def stop_at(made, *position):
    def act(epoch, index, batch):
        if (epoch, index) == position:
            made._signals.received = 15
        return batch

    return act


def test_a_sink_sees_what_the_log_sees_and_changes_nothing(toy, tmp_path):
    assert isinstance(Recorder(), Sink)
    plain = toy.engine_run(tmp_path / "plain", toy.config(), task=pictured(toy))
    sink = Recorder()
    made = toy.engine_run(tmp_path / "seen", toy.config(), task=pictured(toy), sinks=[sink])
    assert toy.same(toy.outcome(plain), toy.outcome(made))
    logged = read_events(made.run.path)
    assert toy.timeless(sink.events) == toy.timeless(logged)
    assert sink.begun == [([], 0)]
    assert [(name, step) for name, _, step in sink.images] == [
        ("truth", 4),
        ("error/far", 4),
        ("truth", 9),
        ("error/far", 9),
    ]
    image = sink.images[1][1]
    assert (image.dtype, tuple(image.shape), int(image.min())) == (torch.uint8, (3, 4, 5), 255)
    assert sink.calls[-1] == "close"
    assert "flush" in sink.calls


def test_a_sink_that_fails_is_left_out_and_the_run_goes_on(toy, tmp_path):
    class Broken(Recorder):
        def event(self, record):
            if record["step"] == 4:
                raise OSError("no space left")
            super().event(record)

    sink, other = Broken(), Recorder()
    made = toy.engine_run(tmp_path, toy.config(), sinks=[sink, other])
    assert made.state.step == 10
    assert [e["step"] for e in sink.events] == [0, 2]
    assert len(other.events) == len(read_events(made.run.path))
    notes = [json.loads(x) for x in (made.run.path / "sessions.jsonl").read_text().splitlines()]
    (warning,) = [note["message"] for note in notes if note["event"] == "warning"]
    assert warning == "Broken failed and is left out from here on: no space left"


def test_a_sink_that_does_not_start_stops_the_run_before_training(toy, tmp_path):
    class Dead(Recorder):
        def begin(self, events, *, step):
            raise RuntimeError("no key")

    made = toy.engine(tmp_path, sinks=[Dead()])
    with pytest.raises(InputError, match="Dead did not start: no key"):
        made.fit(toy.train, toy.valid)
    assert made.state.step == 0


def test_a_picture_of_another_shape_is_told_before_training(toy, tmp_path):
    class Wrong(toy.Task):
        def images(self, batch):
            return {"flat": torch.zeros(4, 5)}

    made = toy.engine(tmp_path, task=Wrong, sinks=[Recorder()])
    with pytest.raises(InputError, match=r"task\.images returned flat of shape \(4, 5\), expected"):
        made.fit(toy.train, toy.valid)
    assert made.state.step == 0
    toy.engine_run(tmp_path / "unseen", toy.config(), task=Wrong)  # nobody looks: nobody asks


def accumulated(folder):
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    return found


def curve(found, name):
    return [(item.step, item.value) for item in found.Scalars(name)]


def f32(value):
    return torch.tensor(value).item()


def expected_curve(events, kind, *path, shift=0):
    values = []
    for event in events:
        value = event if event["event"] == kind else None
        for key in path:
            value = None if value is None else value.get(key)
        if value is not None:
            values.append((event["step"] - shift, f32(value)))
    return values


@needs_tensorboard
def test_tensorboard_holds_the_events(toy, tmp_path):
    settings = toy.config(log_to=("tensorboard",), gradient_norm_per_term=True)
    made = toy.engine_run(tmp_path, settings, task=pictured(toy))
    events, found = read_events(made.run.path), accumulated(made.run.path / "tensorboard")
    for term in ("fit", "size"):
        for kind in ("raw", "weight", "weighted"):
            assert curve(found, f"{kind}/{term}") == expected_curve(events, "train", kind, term)
        by_term = expected_curve(events, "train", "gradient_norm_by_term", term)
        assert curve(found, f"gradient_norm/{term}") == by_term
    for name in ("loss", "gradient_norm", "learning_rate"):
        assert curve(found, name) == expected_curve(events, "train", name)
        assert curve(found, f"epoch/{name}") == expected_curve(events, "epoch", name, shift=1)
    valid = expected_curve(events, "validation", "metrics", "error", shift=1)
    assert curve(found, "valid/error") == valid
    assert [item.step for item in found.Images("truth")] == [4, 9]
    assert found.Images("error/far")[0].width == 5
    text = found.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "epochs: 2" in text


@needs_tensorboard
@pytest.mark.parametrize("place", [(0, 3), (0, 4), (1, 0), (1, 3)])
def test_tensorboard_goes_on_without_gap_or_repetition(toy, tmp_path, place):
    settings = toy.config(log_to=("tensorboard",), log_every=1, epochs=3)
    made = toy.engine(tmp_path, settings=settings, task=pictured(toy))
    with pytest.raises(Interrupted):
        made.fit(toy.Spoiled(toy.train, stop_at(made, *place)), toy.valid)
    again = toy.engine_run(tmp_path, settings, task=pictured(toy))
    events, found = read_events(again.run.path), accumulated(again.run.path / "tensorboard")
    assert curve(found, "loss") == expected_curve(events, "train", "loss")
    assert len(curve(found, "loss")) == 15
    assert [item.step for item in found.Images("truth")] == [4, 9, 14]
    valid = expected_curve(events, "validation", "metrics", "error", shift=1)
    assert curve(found, "valid/error") == valid


@needs_tensorboard
def test_what_a_killed_process_showed_beyond_its_checkpoint_is_hidden(toy, tmp_path):
    class ProcessDiedError(Exception):
        pass

    settings = toy.config(log_to=("tensorboard",), log_every=1, save_every=2)
    made = toy.engine(tmp_path, settings=settings)
    made._session.failed = lambda error, **_: None  # as if nothing could be saved any more

    def kill(epoch, index, batch):
        if (epoch, index) == (1, 4):
            raise ProcessDiedError
        return batch

    with pytest.raises(ProcessDiedError):
        made.fit(toy.Spoiled(toy.train, kill), toy.valid)
    assert made.run.checkpoints.newest().state["position"]["step"] == 8
    other = toy.config(log_to=("tensorboard",), log_every=1, save_every=2, learning_rate=0.5)
    again = toy.engine(tmp_path, settings=other, resume="force")
    again.fit(toy.train, toy.valid)
    events, found = read_events(again.run.path), accumulated(again.run.path / "tensorboard")
    assert curve(found, "learning_rate") == expected_curve(events, "train", "learning_rate")
    assert [step for step, _ in curve(found, "loss")] == list(range(10))


class FakeWandb(SimpleNamespace):
    """A module `wandb` with one run per identity that outlives a process, as the server does."""

    def __init__(self):
        super().__init__(runs={}, calls=[], Image=lambda array: ("image", array.shape))

    def init(self, **options):
        self.calls.append(options)
        return FakeRun(self.runs.setdefault(options["id"], []))


class FakeRun:
    def __init__(self, rows):
        self.rows, self.metrics, self.finished = rows, [], False

    @property
    def step(self):
        return self.rows[-1][0] + 1 if self.rows else 0

    def define_metric(self, name, step_metric=None):
        self.metrics.append((name, step_metric))

    def log(self, values, *, step):
        assert not self.finished
        assert step >= self.step, "W&B drops what goes back"
        self.rows.append((step, values))

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return fake


def test_wandb_goes_on_with_the_same_run(toy, tmp_path, wandb):
    settings = toy.config(log_to=("wandb",), epochs=3)
    made = toy.engine(tmp_path, settings=settings, task=pictured(toy))
    with pytest.raises(Interrupted):
        made.fit(toy.Spoiled(toy.train, stop_at(made, 1, 2)), toy.valid)
    again = toy.engine_run(tmp_path, settings, task=pictured(toy))
    first, second = wandb.calls
    assert first == second
    assert first["id"] == (again.run.path / "wandb_id.txt").read_text().strip()
    assert len(first["id"]) == 16
    expected = {"project": "toy", "name": "run", "resume": "allow", "dir": str(again.run.path)}
    assert {key: first[key] for key in expected} == expected
    assert first["config"]["train"]["epochs"] == 3
    assert "mode" not in first  # WANDB_MODE decides
    (rows,) = wandb.runs.values()
    events = read_events(again.run.path)
    shown = [e for e in events if e["event"] in ("train", "epoch", "validation")]
    assert [events.index(e) for e in shown] == [number for number, _ in rows]
    for event, (_, values) in zip(shown, rows, strict=True):
        if event["event"] == "train":
            assert values["step"] == event["step"]
            assert values["weighted/size"] == event["weighted"]["size"]
            assert values["learning_rate"] == event["learning_rate"]
    valid = [values for _, values in rows if "valid/error" in values]
    assert [v["step"] for v in valid] == [4, 9, 14]
    pictures = [values for _, values in rows if "truth" in values]
    assert [p["truth"] for p in pictures] == [("image", (4, 5))] * 3
    assert [p["error/far"] for p in pictures] == [("image", (4, 5, 3))] * 3


def test_wandb_is_sent_what_a_killed_process_had_not(toy, tmp_path, wandb):
    settings = toy.config(log_to=("wandb",), epochs=2)
    whole = toy.engine_run(tmp_path / "whole", settings)
    (complete,) = (list(rows) for rows in wandb.runs.values())
    wandb.runs.clear()
    made = toy.engine(tmp_path, settings=settings)
    with pytest.raises(Interrupted):
        made.fit(toy.Spoiled(toy.train, stop_at(made, 1, 2)), toy.valid)
    (rows,) = wandb.runs.values()
    del rows[1:]  # the process that sends died early
    again = toy.engine_run(tmp_path, settings)
    assert rows == complete
    assert toy.same(toy.outcome(whole), toy.outcome(again))


def test_the_environment_names_the_project(toy, tmp_path, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    toy.engine_run(tmp_path, toy.config(log_to=("wandb",), epochs=1))
    assert wandb.calls[0]["project"] == "mine"


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_told_with_the_command(toy, tmp_path, monkeypatch, name):
    for module in [
        m for m in sys.modules if m.split(".")[0] == name or m.startswith("torch.utils.tens")
    ]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf'pip install "nops-train\[{name}\]"'):
        toy.engine(tmp_path, settings=toy.config(log_to=(name,)))


def test_a_sink_is_named_once(toy):
    with pytest.raises(ValueError, match="twice"):
        toy.config(log_to=("wandb", "wandb"))
    with pytest.raises(ValueError, match="'tensorboard' or 'wandb'"):
        toy.config(log_to=("mlflow",))
