"""The gradient norm of each weighted term."""

import pytest
import torch
from nops_train import read_events
from torch import nn
from torch.utils.checkpoint import checkpoint


def norms(made):
    return [
        e.get("gradient_norm_by_term") for e in read_events(made.run.path) if e["event"] == "train"
    ]


def without_norms(events):
    return [{k: v for k, v in e.items() if k != "gradient_norm_by_term"} for e in events]


def windows(toy):
    class Windows(toy.Task):
        """Two windows, `size` with the second only."""

        def losses(self, batch, **position):
            for number, part in enumerate((slice(0, 2), slice(2, 4))):
                pred = self.model(batch["x"][part])
                terms = {"fit": (pred - batch["y"][part]).square().mean()}
                if number == 1:
                    terms["size"] = pred.square().mean()
                yield terms

    return Windows


def recomputing(toy):
    class Recomputing(toy.Task):
        """A forward pass that is made again in every backward pass, batch norm and dropout included."""

        def losses(self, batch, *, active, **position):
            pred = checkpoint(self.model, batch["x"], use_reentrant=False)
            return {"fit": (pred - batch["y"]).square().mean(), "size": pred.square().mean()}

    return Recomputing


def owning(toy):
    class Owning(toy.Weights):
        """Owns the backward pass."""

        def accumulate(self, losses, params):
            sum(self.weights(epoch=0, step=0)[k] * v for k, v in losses.items()).backward()

        def apply(self, params, *, reduce):
            pass

    return Owning


CASES = {
    "plain": {},
    "accumulated": {"settings": {"accumulate": 2, "batch_size": 4}},
    "average": {"settings": {"ema_decay": 0.9}},
    "bf16": {"settings": {"precision": "bf16"}},
    "fp16": {"settings": {"precision": "fp16"}},
    "codebook": {"model": {"codebook": True}},
    "windows": {"task": windows},
    "recomputing": {"task": recomputing},
    "owning": {"weighting": owning},
}


@pytest.mark.parametrize("case", CASES)
def test_measuring_changes_nothing(toy, tmp_path, case):
    options = dict(CASES[case])
    settings = options.pop("settings", {})
    task = options.pop("task", None)
    weighting = options.pop("weighting", None)
    outcomes = []
    for asked in (False, True):
        given = {**options, **({"task": task(toy)} if task else {})}
        made = toy.engine_run(
            tmp_path / str(asked),
            toy.config(gradient_norm_per_term=asked, log_every=1, **settings),
            weighting=weighting(toy)() if weighting else None,
            **given,
        )
        found = norms(made)
        assert all((row is not None) == asked for row in found)
        outcome = toy.outcome(made)
        outcome["state"].pop("config")
        outcomes.append({**outcome, "events": without_norms(outcome["events"])})
    assert toy.same(*outcomes)
    assert all(set(row) == {"fit", "size"} and min(row.values()) > 0 for row in found)


class Line(nn.Module):
    """a x: the gradients are known."""

    def __init__(self, **_):
        super().__init__()
        self.a = nn.Parameter(torch.tensor([3.0, 4.0]))

    def forward(self, x):
        return (self.a * x).sum()


class TwoTerms:
    """`first` is mean(x) . a, so its gradient is mean(x); `second` is |a|^2 / 2, so its gradient is a."""

    def __init__(self, model):
        self.model = model

    def losses(self, batch, *, epoch, step, active):
        return {
            "first": (batch["x"] @ self.model.a).mean(),
            "second": 0.5 * self.model.a.square().sum(),
        }

    def metrics(self, batch):
        return {"error": torch.zeros(())}


class Fixed:
    terms = {"first": 2.0, "second": 0.5}  # noqa: RUF012
    observes = None

    def active(self, **_):
        return frozenset(self.terms)

    def weights(self, **_):
        return self.terms

    def observe(self, values, **_):
        pass

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_by_hand(toy, tmp_path, accumulate, precision):
    from nops_train import Engine, RunFolder

    settings = toy.config(
        epochs=1,
        log_every=1,
        batch_size=2,
        accumulate=accumulate,
        gradient_norm_per_term=True,
        grad_clip=0.1,
        precision=precision,
    )
    model = Line()
    run = RunFolder.open(tmp_path, app="toy", name="line", config={})
    engine = Engine(
        task=TwoTerms(model),
        weighting=Fixed(),
        model=model,
        config=settings,
        run=run,
        progress="none",
    )
    from nops_train import ListSource

    # fp16 skips steps until the loss scale fits, and nothing has moved before the first that counts
    engine.fit(ListSource([{"x": torch.tensor([[2.0, 0.0], [4.0, 8.0]])}] * 8))
    row = norms(engine)[0]
    # first: weight 2, mean of (2, 0) and (4, 8) is (3, 4), of norm 5; second: weight 1/2, a = (3, 4)
    assert row == pytest.approx({"first": 10.0, "second": 2.5})
    event = next(e for e in read_events(run.path) if e["event"] == "train")
    assert event["gradient_norm"] == pytest.approx(12.5)  # parallel, so they add


def test_only_logged_steps_are_measured(toy, tmp_path, monkeypatch):
    from nops_train._engine_term_norms import TermNorms

    made_at = []
    original = TermNorms.of.__func__
    monkeypatch.setattr(
        TermNorms, "of", classmethod(lambda cls, s: made_at.append(1) or original(cls, s))
    )
    settings = toy.config(gradient_norm_per_term=True, log_every=4)
    made = toy.engine_run(tmp_path, settings)
    assert len(made_at) == 3  # steps 0, 4, 8
    assert len(norms(made)) == 3
