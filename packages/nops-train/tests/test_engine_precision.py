"""Steps of the engine: clipping, codebooks, averaged weights, half precision, batches of mixed types, buffers."""

import pytest
import torch
from nops_train import InputError, Interrupted, ListSource, read_events
from torch import nn


def test_clipping_takes_the_norm_over_all_parameters(toy, tmp_path):
    made = toy.engine(
        tmp_path,
        settings=toy.config(grad_clip=0.01, epochs=1, log_every=1),
        optimizer=lambda net: torch.optim.SGD(net.parameters(), lr=1.0),
        model={"norm": False},
    )
    before = [p.detach().clone() for p in made.net.parameters()]
    made.fit(ListSource(toy.batches(1)))
    moved = torch.cat(
        [(p - b).flatten() for p, b in zip(made.net.parameters(), before, strict=True)]
    )
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-4)
    assert read_events(made.run.path)[0]["gradient_norm"] > 0.01  # logged before clipping


def test_a_codebook_moves_once_per_step(toy, tmp_path):
    books = []
    for parts in (1, 2):
        made = toy.engine(
            tmp_path,
            name=str(parts),
            settings=toy.config(accumulate=parts, epochs=1),
            model={"codebook": True, "norm": False, "dropout": 0.0},
        )
        made.fit(toy.train, toy.valid)
        books.append(made.net.codebook)
    assert books[0].calls == books[1].calls == ["discard"] + ["apply"] * 5
    assert books[1].count == 5
    torch.testing.assert_close(books[0].mean, books[1].mean, rtol=1e-5, atol=1e-6)


def test_average_of_weights(toy, tmp_path):
    # d = min(0.5, (1 + n) / (10 + n)): 0.1, 2/11, 3/12 ... for the first updates
    decay = [min(0.5, (1 + n) / (10 + n)) for n in range(5)]
    seen = []
    made = toy.engine(tmp_path, settings=toy.config(ema_decay=0.5, epochs=1))
    expected = {name: p.detach().clone() for name, p in made.net.named_parameters()}
    made.net.register_forward_pre_hook(
        lambda module, _: (
            None if module.training else seen.append(module.last.weight.detach().clone())
        )
    )
    update = made._stepper.average.update

    def follow():
        d = decay[made._stepper.average.num_updates]
        for name, p in made.net.named_parameters():
            expected[name] = d * expected[name] + (1 - d) * p.detach()
        update()

    made._stepper.average.update = follow
    made.fit(toy.train, toy.valid)
    for name, value in made._stepper.average.average.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)
    # validation computed with the average (the check before training with the start)
    torch.testing.assert_close(seen[-1], expected["last.weight"], rtol=1e-5, atol=1e-7)
    assert not torch.equal(made.net.last.weight, expected["last.weight"])


def test_bf16_computes_in_half_and_keeps_full_weights(toy, tmp_path):
    kinds = set()

    class Watches(toy.Task):
        def losses(self, batch, **position):
            kinds.add(self.model(batch["x"]).dtype)
            return super().losses(batch, **position)

    # which values drop out depends on their type, and a norm over four samples magnifies rounding
    still = {"dropout": 0.0, "norm": False}
    made = toy.engine(tmp_path, settings=toy.config(precision="bf16"), task=Watches, model=still)
    result = made.fit(toy.train, toy.valid)
    assert kinds == {torch.bfloat16}
    assert {p.dtype for p in made.net.parameters()} == {torch.float32}
    assert result.skipped == 0
    full = toy.engine(tmp_path, name="full", model=still).fit(toy.train, toy.valid)
    assert result.metrics["error"] == pytest.approx(full.metrics["error"], rel=0.05)


def test_fp16_lowers_its_scale_without_counting_towards_divergence(toy, tmp_path):
    settings = toy.config(precision="fp16", max_skipped_in_row=2, epochs=2)
    made = toy.engine(tmp_path, settings=settings, model={"norm": False})
    scaler = made._stepper.precision.scaler
    scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0**40})
    result = made.fit(ListSource(toy.batches(20)), toy.valid)
    skipped = [e for e in read_events(made.run.path) if e["event"] == "skipped"]
    assert len(skipped) == result.skipped > 2
    assert all(e["scale"] and e["in_row"] == 0 for e in skipped)
    assert scaler.get_scale() < 2.0**40
    assert result.steps == 40 - result.skipped
    epochs = [e for e in read_events(made.run.path) if e["event"] == "epoch"]
    assert sum(e["applied"] for e in epochs) == result.steps
    assert sum(e["skipped"] for e in epochs) == result.skipped
    assert result.status == "completed"


def test_fp16_goes_on_with_its_scale(toy, tmp_path):
    import signal

    def run(root, act=None):
        settings = toy.config(precision="fp16", ema_decay=0.9)
        made = toy.engine(root, settings=settings, model={"norm": False})
        made.fit(toy.Spoiled(toy.train, act) if act else toy.train, toy.valid)
        return toy.outcome(made)

    def stop(epoch, index, batch):
        if (epoch, index) == (1, 2):
            signal.raise_signal(signal.SIGTERM)
        return batch

    whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", stop)
    assert toy.same(whole, run(tmp_path / "cut"))
    assert whole["state"]["scaler"]["_growth_tracker"] > 0


def test_batches_keep_their_type_and_are_split_by_sample():
    from collections import namedtuple

    from nops_train._engine_batch import num_samples, split_batch, to_device

    Pair = namedtuple("Pair", "x extra")
    batch = {
        "pair": Pair(torch.arange(5), [torch.zeros(5, 2), ("name", torch.ones(5))]),
        "scalar": torch.tensor(3.0),
    }
    parts = split_batch(batch, 2)
    assert [num_samples(part) for part in parts] == [2, 3]
    assert isinstance(parts[0]["pair"], Pair)
    assert torch.cat([part["pair"].x for part in parts]).tolist() == [0, 1, 2, 3, 4]
    assert parts[1]["pair"].extra[1][0] == "name"
    assert parts[1]["scalar"] == 3.0
    assert split_batch(batch, 1) == [batch]
    assert len(split_batch(torch.zeros(2), 5)) == 2
    assert num_samples({"name": "no tensor"}) == 1

    class Graph:
        def to(self, device):
            return f"on {device}"

    assert to_device(Graph(), torch.device("cpu")) == "on cpu"
    with pytest.raises(InputError, match="needs batches of tensors"):
        split_batch(Graph(), 2)


def test_buffers_without_a_version_are_guarded():
    from nops_train._engine_buffers import BufferGuard

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("quiet", torch.zeros(2))
            self.register_buffer("replaced", torch.zeros(2))
            self.register_buffer("constant", torch.ones(2))
            self.register_buffer("nothing", None)

        def forward(self):
            self.quiet.data.add_(1)  # raises no version
            self.replaced = self.replaced + 1

    module = Odd()
    guard = BufferGuard(module)
    guard.remember()
    module()
    guard.find_changing()
    guard.restore()
    assert module.quiet.tolist() == module.replaced.tolist() == [0, 0]
    for expected in (1, 2):
        guard.remember()
        module()
        assert module.quiet.tolist() == module.replaced.tolist() == [expected] * 2
    guard.remember()
    module()
    guard.restore()
    assert module.quiet.tolist() == module.replaced.tolist() == [2, 2]
    assert guard._changing == {0, 1}
