import subprocess
import sys

import pytest
import torch
from nops_train import _memory as memory
from nops_train._bptt import truncated_bptt
from nops_train._errors import InputError
from nops_train._memory import (
    MemoryForecast,
    check_memory,
    free_memory,
    peak_memory_bytes,
    predict_memory,
)
from torch import nn

MIB = 2**20


def forecast(**changes):
    numbers = {
        "per_sample": 100,
        "per_step": 50,
        "per_state": 10,
        "optimizer": 7,
        "batch_size": 4,
        "window": 8,
        "checkpoint_every": 0,
    }
    return MemoryForecast(**(numbers | changes))


# Formulas


@pytest.mark.parametrize(
    ("every", "activations"),
    [
        (0, 3600),  # 8 (4 x 100 + 50)
        (1, 770),  # 8 x 4 x 10 + 450
        (3, 1670),  # 320 + 3 x 450
        (8, 3920),  # 320 + 8 x 450
        (20, 3920),  # a segment is no longer than the window
    ],
)
def test_the_formula_by_hand(every, activations):
    made = forecast(checkpoint_every=every)
    assert made.activations == activations
    assert made.total == activations + 7


def test_the_formula_gives_the_published_scale():
    """Arithmetic of a dense spectral network at 64 x 64, batch 4: a 58.2 MiB, s 16 KiB, c 160 MiB."""
    big = {"per_sample": int(58.2 * MIB), "per_step": 160 * MIB, "per_state": 16 * 1024}
    for window, every, gibibytes in ((32, 0, 12.3), (256, 0, 98.0), (256, 1, 0.4)):
        made = forecast(**big, window=window, checkpoint_every=every)
        assert made.activations / 2**30 == pytest.approx(gibibytes, rel=0.01)


# Forecast of a module


def test_a_perceptron_saves_its_input_and_its_activation():
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))
    made = predict_memory(net, torch.zeros(3, 4), batch_size=5, window=6)
    assert made.per_sample == (4 + 8) * 4  # input, and tanh's result for itself and the next layer
    assert made.per_step == 0
    assert made.per_state == 4 * 4
    assert made.optimizer == 3 * (4 * 8 + 8 + 8 * 4 + 4) * 4
    assert (made.batch_size, made.window, made.checkpoint_every) == (5, 6, 0)


def test_what_does_not_grow_with_the_batch_is_counted_apart():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 4))

        def forward(self, x):
            return x @ (2 * self.weight)  # a new 4 x 4 matrix is saved in each call

    made = predict_memory(Scaled(), torch.zeros(1, 4), batch_size=1, window=1)
    assert (made.per_sample, made.per_step) == (4 * 4, 4 * 4 * 4)


def test_frozen_parameters_need_no_optimizer():
    net = nn.Linear(4, 4).requires_grad_(False)
    assert predict_memory(net, torch.zeros(1, 4), batch_size=1, window=1).optimizer == 0


def test_further_inputs_are_passed_on():
    net = nn.Bilinear(3, 2, 3)
    made = predict_memory(net, (torch.zeros(2, 3), torch.zeros(2, 2)), batch_size=1, window=1)
    assert made.per_sample >= (3 + 2) * 4
    assert made.per_state == 3 * 4


class Step(nn.Module):
    """One step of a convolutional surrogate, residual."""

    def __init__(self, channels=6, *, dropout=0.1):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 4 * channels, 3, padding=1),
            nn.GroupNorm(2, 4 * channels),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Conv2d(4 * channels, channels, 3, padding=1),
        )

    def forward(self, state):
        return state + 0.1 * self.body(state)


@pytest.mark.parametrize("every", [0, 1])
def test_the_forecast_is_what_a_rollout_saves(every):
    net, batch, window = Step(), 3, 6
    initial, target = torch.randn(batch, 6, 16, 16), torch.randn(batch, window, 6, 16, 16)
    sizes = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    held = {p.data_ptr() for p in net.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, memory.same):
        windows = truncated_bptt(
            net, initial, target, window=window, mode="last", checkpoint_every=every
        )
        part = next(windows)
    assert part.pred.requires_grad
    measured = sum(size for pointer, size in sizes.items() if pointer not in held)
    made = predict_memory(net, initial[:1], batch_size=batch, window=window, checkpoint_every=every)
    segment = every * (made.batch_size * made.per_sample + made.per_step)  # held in backward alone
    assert made.activations - segment == pytest.approx(measured, rel=0.03)


MEASURE = """
import sys
import torch
from nops_train._bptt import truncated_bptt
from nops_train._memory import peak_memory_bytes, predict_memory

torch.set_num_threads(1)
batch, window = 4, 12
net = torch.nn.Sequential(
    torch.nn.Conv2d(4, 16, 1), torch.nn.GELU(), torch.nn.Conv2d(16, 4, 1), torch.nn.Tanh()
)
initial = torch.zeros(batch, 4, 128, 128)
target = torch.zeros(batch, window, 4, 128, 128)
net(initial).sum().backward()  # libraries and buffers of first use
made = predict_memory(net, initial, batch_size=batch, window=window)
before = peak_memory_bytes()
(part,) = truncated_bptt(net, initial, target, window=window, mode="last")
print(made.activations, peak_memory_bytes() - before)
"""


def test_the_forecast_is_what_the_process_takes():
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True
    )
    predicted, measured = map(int, done.stdout.split())
    assert (
        predicted == 12 * 4 * (4 + 16 + 16 + 4) * 128 * 128 * 4
    )  # input, in and out of GELU, tanh
    # The stacked prediction adds 4 of 40 channels, workspaces of the convolutions a little.
    assert 0.85 * predicted < measured < 1.3 * predicted


def test_measuring_leaves_module_and_random_state_as_they_were():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    sample = torch.randn(4, 4)
    state = torch.get_rng_state()
    net.eval()  # batch statistics of one sample are refused in training
    predict_memory(net, sample, batch_size=2, window=2)
    net.train()
    predict_memory(nn.Dropout(0.5), sample, batch_size=2, window=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert not sample.requires_grad


def test_buffers_that_a_call_changes_are_put_back():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return torch.tanh(x)

    net = Counter()
    predict_memory(net, torch.zeros(1, 4), batch_size=1, window=1)
    assert net.calls == 0


@pytest.mark.parametrize(
    ("sample", "changes", "message"),
    [
        (torch.zeros(0, 4), {}, "one sample at least"),
        (torch.zeros(()), {}, "one sample at least"),
        ((), {}, "one sample at least"),
        (torch.zeros(1, 4), {"batch_size": 0}, "got 0, 1 and 0"),
        (torch.zeros(1, 4), {"window": 0}, "got 1, 0 and 0"),
        (torch.zeros(1, 4), {"checkpoint_every": -1}, "got 1, 1 and -1"),
    ],
)
def test_impossible_questions_are_refused(sample, changes, message):
    settings = {"batch_size": 1, "window": 1} | changes
    with pytest.raises(ValueError, match=message):
        predict_memory(nn.Tanh(), sample, **settings)


# What is free, and what does not fit

KEYS = {"window_key": "rollout.window", "checkpoint_key": "rollout.checkpoint_every"}


def test_free_memory_of_this_machine():
    assert 0 < free_memory("cpu") <= memory.psutil.virtual_memory().total


def test_a_container_s_limit_counts_less_what_can_be_reclaimed(tmp_path):
    assert memory.container_memory(tmp_path) is None  # no control groups
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 250\n")
    assert memory.container_memory(tmp_path) == 550
    (tmp_path / "memory.current").write_text("2000\n")
    assert memory.container_memory(tmp_path) == 0
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.container_memory(tmp_path) is None


def test_a_container_of_version_1_is_read_too(tmp_path):
    folder = tmp_path / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text("1000\n")
    (folder / "memory.usage_in_bytes").write_text("700\n")
    (folder / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 250\n")
    assert memory.container_memory(tmp_path) == 550


def test_free_memory_respects_the_container(monkeypatch):
    monkeypatch.setattr(memory, "container_memory", lambda: 12345)
    assert free_memory("cpu") == 12345


def test_a_forecast_that_fits_is_accepted():
    check_memory(forecast(), device="cpu", free=3607)  # 3600 + 7
    with pytest.raises(InputError, match="memory forecast"):
        check_memory(forecast(), device="cpu", free=3606)
    check_memory(forecast(window=1, batch_size=1), device="cpu")


def test_a_forecast_above_what_is_free_is_refused_with_settings_that_fit():
    big = forecast(per_sample=100 * MIB, per_step=50 * MIB, per_state=10 * MIB, optimizer=7 * MIB)
    with pytest.raises(InputError) as caught:
        check_memory(big, device="cpu", free=2000 * MIB, **KEYS)
    message = str(caught.value)
    assert "memory forecast 3.5 GiB: activations 3.5 GiB (window 8, 4 samples at once)" in message
    assert "only 2.0 GiB are free on cpu" in message
    assert "rollout.checkpoint_every 1 (777.0 MiB)" in message  # 770 + 7
    # 8 (2 x 100 + 50) + 7 = 2007 is too much, 8 x 150 + 7 = 1207 is not
    assert (
        "1 samples at once (train.batch_size 1, or a larger train.accumulate) (1.2 GiB)" in message
    )
    assert "rollout.window 4 (1.8 GiB)" in message  # 4 x 450 + 7 = 1807


def test_a_forecast_that_nothing_can_help_says_so():
    with pytest.raises(InputError, match="take a smaller model or grid"):
        check_memory(forecast(batch_size=1, window=1), device="cpu", free=100, **KEYS)


def test_only_settings_that_the_app_names_are_offered():
    big = forecast()  # 3607
    with pytest.raises(InputError) as caught:
        check_memory(big, device="cpu", free=3000, window_key="train.unroll")
    assert "train.unroll 6" in str(caught.value)
    assert "checkpoint_every" not in str(caught.value)
    with pytest.raises(InputError) as caught:
        check_memory(big, device="cpu", free=3000)
    assert "samples at once (train.batch_size 3" in str(caught.value)
    assert "unroll" not in str(caught.value)


def test_every_setting_offered_fits():
    for free in range(0, 3607, 50):
        for text, changed in memory.alternatives(forecast(), free=free, **KEYS):
            assert changed.total <= free, text


@pytest.mark.parametrize("every", [0, 1, 3])
def test_the_largest_that_fits_is_offered(every):
    big = forecast(checkpoint_every=every)
    for free in range(0, 3607, 50):
        texts = [text for text, _ in memory.alternatives(big, free=free, **KEYS)]
        fits = [w for w in range(1, 8) if memory.replace(big, window=w).total <= free]
        assert (f"rollout.window {max(fits, default=0)}" in texts) == bool(fits)


def test_a_slip_of_many_zeros_is_answered_at_once():
    slip = forecast(batch_size=10**18, window=10**18)
    (batch, _), *_ = memory.alternatives(slip, free=10**30, **KEYS)
    assert batch.startswith("9999999999 samples")  # 1e18 x (1e10 x 100 + 50) is too much by 50e18


def test_the_peak_covers_what_is_held():
    held = torch.ones(40 * MIB // 4)
    resident = memory.psutil.Process().memory_info().rss
    assert (
        peak_memory_bytes() > 0.9 * resident > 0.9 * held.nbytes
    )  # counted in steps by the system


@pytest.mark.parametrize(("system", "factor"), [("linux", 1024), ("darwin", 1)])
def test_without_a_process_file_the_peak_is_asked_of_the_system(
    monkeypatch, tmp_path, system, factor
):
    import resource

    class Usage:
        ru_maxrss = 5

    monkeypatch.setattr(memory, "PROCESS_STATUS", tmp_path / "none")
    monkeypatch.setattr(memory.sys, "platform", system)
    monkeypatch.setattr(resource, "getrusage", lambda who: Usage)
    assert peak_memory_bytes() == 5 * factor


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_forecast_is_what_the_device_takes():
    net, batch, window = Step(32, dropout=0.0).cuda(), 8, 8
    initial = torch.randn(batch, 32, 64, 64, device="cuda")
    target = torch.randn(batch, window, 32, 64, 64, device="cuda")
    made = predict_memory(net, initial, batch_size=batch, window=window)
    before = torch.cuda.memory_allocated()
    (part,) = truncated_bptt(net, initial, target, window=window, mode="last")
    held = torch.cuda.memory_allocated() - before - part.pred.nbytes
    assert made.activations == pytest.approx(held, rel=0.05)
    assert peak_memory_bytes("cuda") >= held
    assert 0 < free_memory("cuda") <= torch.cuda.mem_get_info()[1]
