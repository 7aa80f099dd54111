"""What a step whose verdict waits is made of: optimizer, average and buffers that skip by themselves."""

import math
from typing import Any

import pytest
import torch
from nops_train._ema import WeightAverage
from nops_train._engine_buffers import BufferGuard
from nops_train._engine_verdict import can_fuse, can_skip, can_wait, keep_kernel, step_unless
from nops_train._precision import Precision
from torch import nn

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Own(nn.Parameter):
    """A parameter of another kind."""


def test_which_runs_wait():
    def can(optimizer=None, *, device=CUDA, precision: Any = "fp32", deferred=()):
        made = torch.optim.AdamW(parameters, fused=True) if optimizer is None else optimizer
        name = Precision(precision, device=CPU)
        return can_wait(made, device=device, precision=name, deferred=deferred)

    parameters = list(nn.Linear(2, 2).parameters())
    assert can()
    assert can(precision="bf16")
    assert can(torch.optim.Adam(parameters, fused=True))
    assert not can(device=CPU)
    assert not can(precision="fp16")
    assert not can(deferred=(object(),))
    assert not can(torch.optim.AdamW(parameters))
    assert not can(torch.optim.SGD(parameters, lr=0.1, fused=True))
    groups = [{"params": parameters[:1]}, {"params": parameters[1:], "fused": False}]
    assert not can(torch.optim.AdamW(groups, fused=True))
    own = Own(torch.zeros(2))  # such as the rows of a sharded parameter
    assert not can(torch.optim.AdamW([*parameters, own], fused=True))


def test_the_fused_kernel_is_taken_where_it_fits(toy, tmp_path):
    parameters = list(nn.Linear(2, 2).parameters())
    assert can_fuse(parameters, device_type="cpu")
    assert not can_fuse(parameters)
    assert not can_fuse([*parameters, Own(torch.zeros(2))], device_type="cpu")
    imaginary = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    assert not can_fuse([*parameters, imaginary], device_type="cpu")
    made = toy.engine(tmp_path)  # as it always was on a CPU
    assert not can_skip(made._optimizer)
    assert made._optimizer.param_groups[0]["fused"] is None
    assert not made._stepper._waits


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_a_bad_step_of_the_optimizer_is_none(kind, dtype):
    one, other = (nn.Parameter(torch.ones(3, dtype=dtype)) for _ in range(2))
    made, plain = (kind([p], lr=0.1, weight_decay=0.1, fused=True) for p in (one, other))
    for number, bad in enumerate([True, False, True, True, False]):
        one.grad = torch.full_like(one, math.nan if bad else 1.0 + number)
        step_unless(made, torch.tensor(bad))
        if not bad:
            other.grad = torch.full_like(other, 1.0 + number)
            plain.step()
    assert torch.equal(one, other)
    assert made.state[one].keys() == plain.state[other].keys()
    for name, value in made.state[one].items():
        assert torch.equal(value, plain.state[other][name])
    assert not hasattr(made, "found_inf")


@pytest.mark.parametrize(("before", "after"), [(None, True), (True, None)])
def test_an_optimizer_that_is_restored_keeps_its_kernel(before, after):
    parameter = nn.Parameter(torch.ones(3))

    def made(kernel):
        optimizer = torch.optim.AdamW([parameter], lr=0.1, fused=kernel)
        keep_kernel(optimizer)
        return optimizer

    old, new = made(before), made(after)
    parameter.grad = torch.ones(3)
    old.step()
    state = old.state_dict()
    new.load_state_dict(state)
    assert new.param_groups[0]["fused"] is after
    assert state["param_groups"][0]["fused"] is before  # what was given stays
    new.step()
    assert float(new.state[parameter]["step"]) == 2
    more = torch.optim.AdamW([{"params": [parameter]}, {"params": [nn.Parameter(torch.ones(1))]}])
    with pytest.raises(ValueError, match="different number of parameter groups"):
        new.load_state_dict(more.state_dict())


def test_the_average_stays_where_the_step_was_bad():
    weight = nn.Parameter(torch.tensor([1.0, -0.0]))
    average = WeightAverage({"w": weight}, decay=0.9)
    weight.data = torch.tensor([math.nan, math.inf])
    average.update_unless(torch.tensor(True))
    assert torch.equal(average.average["w"], torch.tensor([1.0, 0.0]))
    assert average.average["w"].signbit().tolist() == [False, True]
    assert average.num_updates == 1
    average.num_updates = 0
    weight.data = torch.tensor([3.0, 1.0])
    average.update_unless(torch.tensor(False))  # decay (1 + 0) / (10 + 0)
    torch.testing.assert_close(average.average["w"], torch.tensor([2.8, 0.9]))


class Odd(nn.Module):
    """Buffers that change in several ways."""

    def __init__(self, *, grows):
        super().__init__()
        self.register_buffer("quiet", torch.zeros(2))
        self.register_buffer("replaced", torch.zeros(2))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("constant", torch.ones(2))
        self.register_buffer("nothing", None)
        self.register_buffer("grown", torch.zeros(1))
        self.grows = grows

    def forward(self):
        self.get_buffer("quiet").data.add_(1)  # raises no version
        self.replaced = self.replaced + math.nan
        self.count += 1
        if self.grows:
            self.grown = torch.zeros(len(self.grown) + 1)


@pytest.mark.parametrize("grows", [False, True])
def test_buffers_are_put_back_where_the_step_was_bad(grows):
    module: Any = Odd(grows=grows)
    guard = BufferGuard(module)
    guard.remember()
    module()
    guard.find_changing()
    guard.restore()
    for bad in (True, False, True):
        guard.remember()
        before = {name: value.clone() for name, value in module.named_buffers()}
        module()
        guard.restore_where(torch.tensor(bad))
        for name, value in module.named_buffers() if bad else ():
            torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    # one good step
    assert module.count == 1
    assert module.quiet.tolist() == [1, 1]
    assert module.replaced.isnan().all()
    assert len(module.grown) == (2 if grows else 1)
