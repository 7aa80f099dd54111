"""One optimizer step: micro-batches, windows, weightings that own the backward pass."""

import math
import weakref

import pytest
import torch
from nops_train import InputError, ListSource, read_events


def gradients(toy, root, *, batch, settings=None, **options):
    """Gradients of the first step, before clipping changes them."""
    made = toy.engine(
        root,
        settings=settings or toy.config(grad_clip=None),
        model={"norm": False, "dropout": 0.0},
        weighting=options.pop("weighting", None) or toy.Weights(observes=None),
        **options,
    )
    made._stepper._apply = lambda norm, rate: None
    made._stepper.make(batch, epoch=0, step=0, rate=None)
    return {name: p.grad.clone() for name, p in made.net.named_parameters()}


@pytest.mark.parametrize("parts", [2, 3, 4, 7])
def test_micro_batches_equal_one_batch(toy, tmp_path, parts):
    (batch,) = toy.batches(1, batch=7)
    whole = gradients(toy, tmp_path / "one", batch=batch)
    settings = toy.config(accumulate=4, batch_size=8, grad_clip=None)
    settings = settings.model_copy(update={"accumulate": parts})
    split = gradients(toy, tmp_path / "many", batch=batch, settings=settings)
    for name, gradient in whole.items():
        # float32, sums of 7 products in another order
        torch.testing.assert_close(split[name], gradient, rtol=1e-6, atol=1e-7)


def test_logged_terms_of_micro_batches_equal_those_of_one_batch(toy, tmp_path):
    logs = []
    for parts in (1, 3):
        made = toy.engine(
            tmp_path,
            name=str(parts),
            settings=toy.config(accumulate=parts, epochs=1, log_every=1, batch_size=5),
            model={"norm": False, "dropout": 0.0},
        )
        made.fit(ListSource(toy.batches(1, batch=5)))
        logs.append(read_events(made.run.path)[0])
    assert logs[1]["raw"] == pytest.approx(logs[0]["raw"], rel=1e-6)
    assert logs[1]["gradient_norm"] == pytest.approx(logs[0]["gradient_norm"], rel=1e-6)


def test_micro_batches_need_one_length(toy, tmp_path):
    bad = [{"x": torch.zeros(4, 3), "y": torch.zeros(3, 1)}]
    made = toy.engine(tmp_path, settings=toy.config(accumulate=2))
    with pytest.raises(InputError, match=r"batch.x has 4 and batch.y 3"):
        made.fit(ListSource(bad))


class Windows:
    """Two windows of one batch, each with a graph of its own; `size` comes with the second only."""

    def __init__(self, model):
        self.model = model
        self.pending = 0

    def losses(self, batch, *, epoch, step, active):
        for number, part in enumerate((slice(0, 2), slice(2, 4))):
            assert self.pending == 0, "the window before was not back-propagated"
            pred = self.model(batch["x"][part])
            pred.register_hook(lambda gradient: setattr(self, "pending", 0))
            self.pending = 1
            terms = {"fit": 0.5 * (pred - batch["y"][part]).square().mean()}
            if number == 1:
                terms["size"] = pred.square().mean()
            yield terms

    def metrics(self, batch):
        return {"error": torch.zeros(())}


def test_windows_are_back_propagated_one_by_one_and_equal_their_sum(toy, tmp_path):
    (batch,) = toy.batches(1)

    class Sum(Windows):
        def losses(self, batch, **position):
            pred = self.model(batch["x"])
            return {
                "fit": (pred - batch["y"]).square().mean(),
                "size": pred[2:].square().mean(),
            }

    one = gradients(toy, tmp_path / "sum", batch=batch, task=Sum)
    two = gradients(toy, tmp_path / "windows", batch=batch, task=Windows)
    for name, gradient in one.items():
        torch.testing.assert_close(two[name], gradient, rtol=1e-6, atol=1e-7)


def test_the_graph_of_a_window_is_gone_before_the_next_is_built(toy, tmp_path):
    alive = []

    class LetsGo(Windows):
        def losses(self, batch, *, epoch, step, active):
            for _ in range(3):
                pred = self.model(batch["x"])
                terms = {"fit": pred.square().mean(), "size": pred.abs().mean()}
                del pred
                loss = weakref.ref(terms["fit"])
                yield terms
                del terms
                alive.append(loss() is not None)

    (batch,) = toy.batches(1)
    gradients(toy, tmp_path, batch=batch, task=LetsGo)
    assert alive == [False, False, False]


def test_windows_in_half_precision_share_no_cast_weights(toy, tmp_path):
    """Weights cast for one window belong to its graph, which is gone when the next is computed."""
    made = toy.engine(
        tmp_path, task=Windows, settings=toy.config(precision="bf16", epochs=1, accumulate=1)
    )
    assert made.fit(toy.train).steps == 5


def test_the_log_shows_the_sum_over_windows(toy, tmp_path):
    class Counts(Windows):
        def losses(self, batch, *, epoch, step, active):
            for value in (1.0, 2.0, 4.0):
                yield {"fit": 0.0 * self.model(batch["x"]).sum() + value}

    weighting = toy.Weights(observes=None, size=0.0)
    made = toy.engine(tmp_path, task=Counts, weighting=weighting, settings=toy.config(epochs=1))
    made._check_start = lambda train, valid: None  # its gradient is zero on purpose
    made.fit(toy.train)
    assert read_events(made.run.path)[0]["raw"] == {"fit": 7.0}


class Balancing:
    """Owns the backward pass: sums the gradients of each term, each scaled to norm 1."""

    def __init__(self, toy):
        self.terms = {"fit": 1.0, "size": 1.0}
        self.observes = None
        self.calls = []
        self.rows = {}
        self.staged = self.committed = 0

    def active(self, *, epoch, step):
        return frozenset(self.terms)

    def weights(self, *, epoch, step):
        self.calls.append("weights")
        return {"fit": 1.0, "size": 1.0 + self.staged}

    def observe(self, values, *, epoch, step, split):
        raise AssertionError("observes is None")

    def note_residuals(self, vectors):
        self.calls.append("residuals")

    def balance(self, losses, params, *, epoch, step):
        self.calls.append("balance")
        # the graph is kept for the backward pass that follows
        torch.autograd.grad(losses["fit"], params, retain_graph=True, allow_unused=True)
        self.staged += 1

    def accumulate(self, losses, params):
        self.calls.append("accumulate")
        for name, loss in losses.items():
            rows = torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True)
            rows = [
                torch.zeros_like(p) if r is None else r for r, p in zip(rows, params, strict=True)
            ]
            old = self.rows.get(name, [torch.zeros_like(p) for p in params])
            self.rows[name] = [a + b for a, b in zip(old, rows, strict=True)]

    def apply(self, params, *, reduce):
        self.calls.append("apply")
        assert reduce is None
        for i, p in enumerate(params):
            p.grad = sum(rows[i] for rows in self.rows.values())
        self.rows = {}

    def apply_update(self):
        self.calls.append("apply_update")
        self.committed = self.staged

    def discard_update(self):
        self.calls.append("discard_update")
        self.staged = self.committed

    def state_dict(self):
        return {"committed": self.committed}

    def load_state_dict(self, state):
        self.staged = self.committed = state["committed"]


class Residuals:
    """A task that offers its residual vectors where they are wanted."""

    note_residuals = None

    def __init__(self, model):
        self.model = model
        self.offers = []

    def losses(self, batch, *, epoch, step, active):
        pred = self.model(batch["x"])
        self.offers.append(self.note_residuals is not None)
        if self.note_residuals is not None:
            self.note_residuals({"fit": pred - batch["y"]})
        return {"fit": (pred - batch["y"]).square().mean(), "size": pred.square().mean()}

    def metrics(self, batch):
        return {"error": torch.zeros(())}


@pytest.mark.parametrize("parts", [1, 2])
def test_a_weighting_may_own_the_backward_pass(toy, tmp_path, parts):
    (batch,) = toy.batches(1)
    plain = gradients(toy, tmp_path / "plain", batch=batch, weighting=toy.Weights(size=1.0))
    owner = Balancing(toy)
    settings = toy.config(accumulate=parts, grad_clip=None)
    owned = gradients(
        toy,
        tmp_path / "owned",
        batch=batch,
        settings=settings,
        weighting=owner,
        task=Residuals,
    )
    for name, gradient in plain.items():
        torch.testing.assert_close(owned[name], gradient, rtol=1e-5, atol=1e-6)
    chunks = ["residuals", "balance", "weights", "accumulate"] + ["accumulate"] * (parts - 1)
    assert owner.calls == [*chunks, "apply"]


def test_a_composite_names_the_weighting_in_charge(toy, tmp_path):
    class Composite(toy.Weights):
        active_weighting = Balancing(toy)

    composite = Composite(size=1.0)
    toy.engine(tmp_path, weighting=composite, settings=toy.config(epochs=1)).fit(toy.train)
    calls = composite.active_weighting.calls
    assert calls.count("balance") == calls.count("apply") == calls.count("apply_update") == 5
    assert "weights" not in calls  # the composite's own weights count


def test_residuals_are_asked_for_once_per_step(toy, tmp_path):
    made = toy.engine(
        tmp_path,
        weighting=Balancing(toy),
        task=Residuals,
        settings=toy.config(epochs=1, accumulate=2),
    )
    made.fit(toy.train)
    # the start-up check asks for none; then the first micro-batch of each step
    assert made._task.offers == [False] + [True, False] * 5
    other = toy.engine(tmp_path, name="other", task=Residuals, settings=toy.config(epochs=1))
    other.fit(toy.train)
    assert other._task.offers == [False] * 6


def test_a_skipped_step_discards_what_balance_staged(toy, tmp_path):
    owner = Balancing(toy)
    spoiled = toy.Spoiled(toy.train, lambda e, i, b: {**b, "x": b["x"] * math.nan} if i == 2 else b)
    toy.engine(tmp_path, weighting=owner, settings=toy.config(epochs=1)).fit(spoiled)
    assert owner.committed == 4
    assert owner.calls.count("discard_update") == 2  # the start-up check, and the skipped step
