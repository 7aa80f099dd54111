"""What only a CUDA device can show: half precision, the compiler, NCCL, memory."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from nops_train._engine_feed import AHEAD, Feeder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
SCRIPT = Path(__file__).with_name("world_cases.py")


def trained(toy: Any, folder: Path, **settings: Any) -> Any:
    """The engine after eight epochs on the device, without anything random."""
    made = toy.engine(
        folder,
        model={"norm": False, "dropout": 0.0},
        settings=toy.config(device="cuda", epochs=8, **settings),
    )
    made.fit(toy.train, toy.valid)
    assert made.state.step > 0
    return made


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_as_full(toy, tmp_path, precision):
    full = trained(toy, tmp_path / "full").state.metrics["error"]
    half = trained(toy, tmp_path / "half", precision=precision).state.metrics["error"]
    assert half == pytest.approx(full, rel=0.25)  # fp16 skips the steps that find its loss scale


def test_the_compiler_changes_nothing(toy, tmp_path):
    plain = trained(toy, tmp_path / "plain").net.state_dict()
    compiled = trained(toy, tmp_path / "compiled", compile=True).net.state_dict()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-4)


def test_one_rank_over_nccl_equals_a_plain_process(tmp_path):
    found = []
    for name, words in (("plain", []), ("nccl", ["-m", "torch.distributed.run", "--standalone"])):
        folder = tmp_path / name
        folder.mkdir()
        subprocess.run(
            [sys.executable, *words, str(SCRIPT), str(folder), "fit"],
            env={**os.environ, "NOPS_CASES_DEVICE": "cuda"},
            timeout=300,
            check=True,
        )
        found.append(torch.load(folder / "fit_0.pt", weights_only=True, map_location="cpu"))
    for name, value in found[0]["model"].items():
        torch.testing.assert_close(found[1]["model"][name], value, rtol=1e-5, atol=1e-6)


def test_the_peak_is_the_devices(toy, tmp_path):
    torch.cuda.reset_peak_memory_stats()
    made = toy.engine(tmp_path, settings=toy.config(device="cuda", epochs=1))
    made.fit(toy.train)
    assert made.run.summary()["peak_memory_bytes"] == torch.cuda.max_memory_allocated()


def test_no_step_waits_for_the_device_between_two_lines_of_the_log(toy, tmp_path):
    """torch itself refuses to read from the device in each step that has no line."""
    settings = toy.config(device="cuda", log_every=4, ema_decay=0.9, epochs=4, accumulate=2)
    made = toy.engine(tmp_path, settings=settings, weighting=toy.Weights(observes="epoch"))
    assert made._stepper._waits
    step = made._train_step

    def refusing(batch, samples):
        quiet = made._ledger.step % 4 and made._ledger.step > 0
        torch.cuda.set_sync_debug_mode("error" if quiet else "default")
        try:
            step(batch, samples)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    made._train_step = refusing
    result = made.fit(toy.train, toy.valid)
    assert (result.steps, result.skipped) == (20, 0)


def test_a_verdict_that_waits_changes_no_step(toy, tmp_path):
    found = []
    for name, waits in (("now", False), ("later", True)):
        settings = toy.config(device="cuda", log_every=4, ema_decay=0.05, epochs=3)
        weighting = toy.Weights(observes="epoch")
        made = toy.engine(tmp_path / name, settings=settings, weighting=weighting)
        made._stepper._waits = waits
        bad = {(0, 1), (1, 0), (1, 1)}
        source = toy.Spoiled(
            toy.train,
            lambda e, i, b, bad=bad: {**b, "x": b["x"] * float("nan")} if (e, i) in bad else b,
        )
        result = made.fit(source, toy.valid)
        assert (result.steps, result.skipped) == (12, 3)
        found.append((made.net.state_dict(), made._stepper.average.average))
    for (name, now), later in zip(found[0][0].items(), found[1][0].values(), strict=True):
        torch.testing.assert_close(later, now, rtol=1e-5, atol=1e-6, msg=name)
    for name, now in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], now, rtol=1e-5, atol=1e-6)


def test_batches_arrive_whole_beside_a_busy_device():
    """Copies overtake what the device is busy with, and no step sees a batch that is not there yet."""
    device = torch.device("cuda")
    feeder = Feeder(device)
    sums = []
    for number in range(20):
        torch.cuda._sleep(5_000_000)  # cycles: a step of some milliseconds
        x = torch.full((256, 1024), float(number))
        sent = feeder.send({"x": x, "wide": x[:1].expand(4, -1), "there": x[0].to(device)})
        x.fill_(-1.0)  # the source may use its memory again
        assert sent["x"].device.type == "cuda"
        sums.append((sent["x"].mean(), sent["wide"].mean(), sent["there"].mean()))
        del sent  # its memory may be used again, though not before it was read
    for number, found in enumerate(sums):
        assert [value.item() for value in found] == [number] * 3


def test_batches_do_not_pile_up_on_the_device():
    feeder = Feeder(torch.device("cuda"))
    size = 8 << 20
    batch = torch.zeros(size, dtype=torch.uint8).pin_memory()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_stats()["active_bytes.all.current"]
    for _ in range(30):
        sent = feeder.send(batch)
        torch.cuda._sleep(20_000_000)
        sent.add_(1)
        del sent
    torch.cuda.synchronize()
    # "active": given back, though still read by a step
    peak = torch.cuda.memory_stats()["active_bytes.all.peak"]
    assert size <= peak - before <= (AHEAD + 3) * size
