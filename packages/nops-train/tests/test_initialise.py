"""Start weights from another run."""

import pytest
import torch
from nops_train import (
    CheckpointError,
    InputError,
    Interrupted,
    export,
    initialise_from,
    read_events,
    save_checkpoint,
)
from safetensors.torch import save_file
from torch import nn


class Wider(nn.Module):
    """As the toy model, with another input width and one layer more."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 4)
        self.last = nn.Linear(4, 1)
        self.extra = nn.Linear(1, 1)


def test_the_report_says_what_fits_and_what_does_not(toy, tmp_path):
    made = toy.engine_run(tmp_path, toy.config())
    best = made.run.checkpoints.load("best_model.pt")["model"]
    model = Wider()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = initialise_from(model, made.run.path)
    assert report.matched == {"first.bias": (4,), "last.weight": (1, 4), "last.bias": (1,)}
    assert report.missing == {"extra.weight": (1, 1), "extra.bias": (1,)}
    assert report.mismatched == {"first.weight": ((4, 3), (4, 5))}
    assert {k for k in report.unexpected if "num_batches" not in k} == {
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
    }
    after = model.state_dict()
    for name in report.matched:
        assert torch.equal(after[name], best[name])
    for name in (*report.missing, *report.mismatched):
        assert torch.equal(after[name], before[name])
    lines = str(report).splitlines()
    assert lines[0].endswith("best_model.pt: 3 of 6 tensors")
    assert "  missing      extra.weight" in lines[1]
    assert any("found (4, 3), expected (4, 5)" in line for line in lines)
    assert any(line.startswith("  not used     norm.weight") for line in lines)


def test_every_kind_of_source_gives_the_same_weights(toy, tmp_path):
    made = toy.engine_run(tmp_path, toy.config(ema_decay=0.9))
    best = made.run.path / "checkpoints/best_model.pt"
    folder = export(made.run.path, tmp_path / "shared")
    models = {}
    sums = set()
    for source in (made.run.path, best, folder, folder / "model.safetensors"):
        models[source] = toy.Model()
        report = initialise_from(models[source], str(source), strict=True)
        assert report.is_complete
        sums.add(report.sha256)
    first, *others = (dict(model.state_dict()) for model in models.values())
    assert all(toy.same(first, other) for other in others)
    assert len(sums) == 1
    average = made.run.checkpoints.load("best_model.pt")["ema"]["average"]
    assert toy.same({k: first[k] for k in average}, average)


@pytest.mark.parametrize("key", [None, "model", "model_state_dict", "state_dict"])
def test_the_state_dict_of_another_loop(toy, tmp_path, key):
    model, other = toy.Model(), toy.Model()
    weights = dict(model.state_dict())
    save_checkpoint(tmp_path / "a.pt", weights if key is None else {"step": 3, key: weights})
    initialise_from(other, tmp_path / "a.pt", strict=True)
    assert toy.same(weights, dict(other.state_dict()))


def test_another_type_is_converted(tmp_path):
    save_file({"weight": torch.tensor([[1.5]], dtype=torch.bfloat16)}, tmp_path / "a.safetensors")
    model = nn.Linear(1, 1, bias=False)
    initialise_from(model, tmp_path / "a.safetensors", strict=True)
    assert model.weight.dtype == torch.float32
    assert model.weight.item() == 1.5


def test_nothing_that_fits_is_refused_and_changes_nothing(tmp_path):
    save_file({"other": torch.ones(2), "weight": torch.ones(7)}, tmp_path / "a.safetensors")
    model = nn.Linear(1, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError, match=r"no tensor fits(.|\n)*found \(7,\), expected \(1, 1\)"):
        initialise_from(model, tmp_path / "a.safetensors")
    save_file({"weight": torch.ones(1, 1)}, tmp_path / "b.safetensors")
    with pytest.raises(InputError, match=r"every tensor has to match(.|\n)*missing +bias"):
        initialise_from(model, tmp_path / "b.safetensors", strict=True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"nonsense", "no safetensors file"), (None, "no such file")],
)
def test_a_bad_file_is_named(tmp_path, content, message):
    path = tmp_path / "a.safetensors"
    if content:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"a\.safetensors: .*{message}"):
        initialise_from(nn.Linear(1, 1), path)


def test_a_checkpoint_without_weights_is_named(tmp_path):
    save_checkpoint(tmp_path / "a.pt", {"step": 3})
    with pytest.raises(CheckpointError, match=r"no weights in it.*'step'"):
        initialise_from(nn.Linear(1, 1), tmp_path / "a.pt")


def test_a_new_run_starts_from_them_and_its_average_too(toy, tmp_path):
    source = toy.engine_run(tmp_path, toy.config(), name="source")
    settings = toy.config(epochs=1, init_from=str(source.run.path), ema_decay=0.999)
    made = toy.engine(tmp_path, name="next", settings=settings)
    seen = []
    average = made._stepper.average

    class Watching(toy.Task):
        def losses(self, batch, **where):
            if not seen:
                seen.append({k: v.clone() for k, v in self.model.state_dict().items()})
                seen.append({k: v.clone() for k, v in average.average.items()})
            return super().losses(batch, **where)

    made._stepper.task = Watching(made.net)
    made.fit(toy.train, toy.valid)
    best = source.run.checkpoints.load("best_model.pt")["model"]
    # the start-up check reads first, before any step
    assert toy.same(dict(seen[0]), dict(best))
    assert toy.same(seen[1], {k: v for k, v in best.items() if k in seen[1]})
    first = read_events(made.run.path)[0]
    assert first["event"] == "initialised"
    assert first["matched"] == len(best)
    assert first["sha256"] == initialise_from(toy.Model(), source.run.path).sha256


def test_a_run_that_goes_on_does_not_start_again(toy, tmp_path):
    source = toy.engine_run(tmp_path, toy.config(), name="source")
    settings = toy.config(epochs=3, init_from=str(source.run.path))
    whole = toy.engine_run(tmp_path / "whole", settings)

    made = toy.engine(tmp_path, name="next", settings=settings)

    def stop(epoch, index, batch):
        if (epoch, index) == (1, 2):
            made._signals.received = 15
        return batch

    with pytest.raises(Interrupted):
        made.fit(toy.Spoiled(toy.train, stop), toy.valid)
    for file in (source.run.path / "checkpoints").iterdir():
        file.unlink()  # the source is not needed any more
    again = toy.engine_run(tmp_path, settings, name="next")
    assert toy.same(toy.outcome(whole), toy.outcome(again))


def test_a_run_killed_before_its_first_step_keeps_its_start(toy, tmp_path):
    source = toy.engine_run(tmp_path, toy.config(), name="source")
    settings = toy.config(init_from=str(source.run.path))
    whole = toy.engine_run(tmp_path / "whole", settings)
    made = toy.engine(tmp_path, name="next", settings=settings)
    made._session.failed = lambda error, **_: None  # as if it had been killed

    def die(epoch, index, batch):
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        made.fit(toy.Spoiled(toy.train, die), toy.valid)
    other = toy.engine_run(tmp_path, toy.config(seed=3), name="other").run.path
    for file in (source.run.path / "checkpoints").iterdir():
        file.write_bytes((other / "checkpoints" / file.name).read_bytes())  # it has trained on
    again = toy.engine_run(tmp_path, settings, name="next")
    assert toy.same(toy.outcome(whole), toy.outcome(again))


def test_other_start_weights_are_another_run(toy, tmp_path):
    source = toy.engine_run(tmp_path, toy.config(), name="source")
    settings = toy.config(init_from=str(source.run.path))
    toy.engine_run(tmp_path, settings, name="next")
    assert toy.config(init_from=f"{source.run.path}/").init_from == settings.init_from
    with pytest.raises(
        InputError, match=r"train\.init_from: the run has .*source'.*asked for None"
    ):
        toy.engine(tmp_path, name="next", settings=toy.config())
    with pytest.raises(InputError, match=r"train\.init_from: .*asked for 'elsewhere'"):
        toy.engine(tmp_path, name="next", settings=toy.config(init_from="elsewhere"))
