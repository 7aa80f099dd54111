"""An enabled term that trains nothing stops the run by name."""

import pytest
import torch
from nops_train import InertTermError, InputError, check_inert_terms, rng_state
from torch import nn


@pytest.fixture
def parts():
    torch.manual_seed(0)
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "gate": nn.Linear(2, 1), "b": nn.Linear(2, 1)})
    nn.init.zeros_(model["gate"].weight)
    return model, dict(model.named_parameters()), torch.ones(3, 2)


def test_names_of_what_a_term_reaches(parts):
    model, parameters, x = parts
    hidden = model["a"](x)
    losses = {"direct": model["b"](x).square().mean(), "gated": model["gate"](hidden).mean()}
    reached = check_inert_terms(losses, parameters, enabled=["direct", "gated"])
    assert reached["direct"] == ("b.weight", "b.bias")
    # behind the zero gate nothing moves yet; the gate itself does, and that counts
    assert reached["gated"] == ("gate.weight", "gate.bias")
    assert all(p.grad is None for p in parameters.values())
    losses["direct"].backward()  # the graph is kept


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda m, x: m["b"](x).mean().detach(), "it has no graph"),
        (lambda m, x: x.clone().requires_grad_().mean(), "modules that are not in the optimizer"),
        (lambda m, x: (m["b"](x) * 0.0).mean(), "its gradient is zero for all 2 parameters"),
        (lambda m, x: (m["b"](x) * float("inf")).mean(), "its gradient is not finite"),
    ],
)
def test_likely_causes(parts, make, cause):
    model, parameters, x = parts
    with pytest.raises(
        InertTermError, match=f"L_inv_enc reaches no trainable parameter: .*{cause}"
    ):
        check_inert_terms({"L_inv_enc": make(model, x)}, parameters, enabled=["L_inv_enc"])


def test_a_term_that_was_not_computed(parts):
    _, parameters, _ = parts
    with pytest.raises(InertTermError, match=r"ic is enabled but was not computed: .* \['traj'\]"):
        check_inert_terms({"traj": torch.zeros(())}, parameters, enabled=["ic"])
    assert issubclass(InertTermError, InputError)
    assert check_inert_terms({}, parameters, enabled=[]) == {}


def test_frozen_modules_do_not_count(parts):
    model, parameters, x = parts
    model["b"].requires_grad_(False)
    trained = {name: p for name, p in parameters.items() if p.requires_grad}
    with pytest.raises(InertTermError, match="modules frozen"):
        check_inert_terms({"t": model["b"](x).mean()}, trained, enabled=["t"])


class Detached:
    """`size` is detached; it is enabled, though at weight 0 by schedule."""

    def __init__(self, model):
        self.model = model

    def losses(self, batch, *, epoch, step, active):
        pred = self.model(batch["x"])
        terms = {"fit": (pred - batch["y"]).square().mean(), "size": pred.detach().square().mean()}
        return {name: terms[name] for name in active}

    def metrics(self, batch):
        return {"error": torch.zeros(())}


class Ramp:
    observes = None

    def __init__(self, size):
        self.terms = {"fit": 1.0, "size": size}

    def active(self, *, epoch, step):
        return frozenset({"fit"})

    def weights(self, *, epoch, step):
        return {"fit": 1.0}

    def observe(self, values, **position):
        raise AssertionError

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_the_engine_checks_terms_that_are_still_at_zero(toy, tmp_path):
    made = toy.engine(tmp_path, task=Detached, weighting=Ramp(0.5))
    with pytest.raises(
        InertTermError, match="size reaches no trainable parameter: it has no graph"
    ):
        made.fit(toy.train)
    assert made.state.step == 0
    off = toy.engine(tmp_path, name="off", task=Detached, weighting=Ramp(0.0))
    assert off.fit(toy.train).status == "completed"


def test_the_engine_names_a_missing_term(toy, tmp_path):
    class Forgets(toy.Task):
        def losses(self, batch, **position):
            return {"fit": super().losses(batch, **position)["fit"]}

    with pytest.raises(InertTermError, match="size is enabled but was not computed"):
        toy.engine(tmp_path, task=Forgets).fit(toy.train)


def test_windows_are_checked_together(toy, tmp_path):
    class Windows(toy.Task):
        def losses(self, batch, **position):
            terms = super().losses(batch, **position)
            yield {"fit": terms["fit"].detach() + 0.0 * self.model.last.weight.sum()}  # inert here
            yield {"fit": super().losses(batch, **position)["fit"]}
            yield {"size": super().losses(batch, **position)["size"]}

    settings = toy.config(epochs=1)
    assert toy.engine(tmp_path, task=Windows, settings=settings).fit(toy.train).steps == 5


def test_the_check_leaves_no_trace(toy, tmp_path):
    """With and without it a run is the same: generators, buffers, codebook, gradients, data order."""
    settings = toy.config(ema_decay=0.9)
    checked = toy.engine_run(tmp_path / "a", settings, model={"codebook": True})
    plain = toy.engine(tmp_path / "b", settings=settings, model={"codebook": True})
    plain._check_start = lambda train, valid: None
    plain.fit(toy.train, toy.valid)
    a, b = toy.outcome(checked)["state"], toy.outcome(plain)["state"]
    assert toy.same({**a, "rng": None}, {**b, "rng": None})


def test_fp16_is_checked_in_full_precision(toy, tmp_path):
    class Small(toy.Task):
        def losses(self, batch, **position):
            terms = super().losses(batch, **position)
            weak = (self.model(batch["x"]) * 1e-5).square() * 1e-5  # its gradient is 0 in fp16
            return {**terms, "size": weak.mean()}

    settings = toy.config(precision="fp16", epochs=1)
    toy.engine(tmp_path, task=Small, settings=settings, model={"norm": False}).fit(toy.train)


def test_the_check_leaves_the_generators_alone(toy, tmp_path):
    made = toy.engine(tmp_path)
    before = rng_state()
    made._check_start(toy.train, toy.valid)
    assert toy.same(before, rng_state())
