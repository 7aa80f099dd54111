"""Terms and metrics over rollouts: values by hand, fading in, and what is not computed."""

from collections import Counter
from typing import Any

import nops_losses
import pytest
import torch
from nops_models import FNO, FNOConfig
from nops_train import InputError
from torch.utils._python_dispatch import TorchDispatchMode
from turbulence.config_loss import LossConfig
from turbulence.task import FlowTask, faded
from turbulence.terms import (
    Domain,
    check_domain,
    check_terms,
    import_function,
    make_metrics,
    make_terms,
)

PERIODIC = Domain(shape=(16, 16), lengths=(6.28, 6.28), periodic=(True, True))
ALL = (
    *("predFieldError", "coherenceError", "sobolevError", "spectrumError", "bspError"),
    *("anisotropicSpectrumError", "waveletError"),
)


def distance(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """What a user supplies as `lsim`."""
    return (pred - target).abs().mean((-3, -2, -1))


def fields(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def task(loss: LossConfig, **options: Any) -> FlowTask:
    torch.manual_seed(0)
    model = FNO(FNOConfig(in_channels=2, base_channels=4, num_layers=1, modes=3)).double()
    torch.nn.init.normal_(model.output.weight, std=0.1)
    return FlowTask(
        model=model,
        terms=(terms := make_terms(loss, PERIODIC)),
        metrics_of=make_metrics(loss, PERIODIC, terms=terms),
        val_weights={"predFieldError": 0.3, "spectrumError": 0.35},
        **options,
    )


def batch(steps: int = 2) -> dict[str, torch.Tensor]:
    return {"frames": fields(3, steps + 1, 2, 16, 16), "parameters": torch.zeros(3, 0)}


@pytest.mark.parametrize("name", ALL)
def test_every_term_is_its_loss_function_over_all_predicted_frames(name: str) -> None:
    loss = LossConfig()
    pred, target = fields(3, 2, 2, 16, 16), fields(3, 2, 2, 16, 16, seed=1)
    lengths = {"lengths": PERIODIC.lengths}
    function, options = {
        "predFieldError": (nops_losses.field_error, {}),
        "coherenceError": (nops_losses.coherence_error, lengths),
        "sobolevError": (nops_losses.sobolev_error, {**lengths, "squared": True}),
        "spectrumError": (nops_losses.log_spectrum_error, lengths),
        "bspError": (nops_losses.binned_spectral_power_error, lengths),
        "anisotropicSpectrumError": (nops_losses.anisotropic_spectrum_error, lengths),
        "waveletError": (nops_losses.wavelet_error, {}),
    }[name]
    found = make_terms(loss, PERIODIC)[name](pred, target).mean()
    torch.testing.assert_close(found, function(pred, target, **options))


def test_published_spectrum_error_and_true_squares() -> None:
    pred, target = fields(3, 2, 2, 16, 16), fields(3, 2, 2, 16, 16, seed=1)
    terms = make_terms(LossConfig(spectrum_kind="relative_log", legacy_mse="mse"), PERIODIC)
    torch.testing.assert_close(
        terms["spectrumError"](pred, target).mean(),
        nops_losses.relative_log_spectrum_error(pred, target),
    )
    torch.testing.assert_close(
        terms["predFieldError"](pred, target).mean(), torch.nn.functional.mse_loss(pred, target)
    )


def test_a_function_of_the_users_is_a_term_and_a_metric() -> None:
    loss = LossConfig(lsim=f"{__name__}:distance", predLSIM=1.0)
    made = task(loss)
    held = batch()
    active = frozenset({"predLSIM"})
    pred = made.model.rollout(held["frames"][:, 0], num_steps=2)
    expected = (pred - held["frames"][:, 1:]).abs().mean()
    value = made.losses(held, epoch=0, step=0, active=active)["predLSIM"]
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(made.metrics(held)["lsim"].mean(), expected)
    with pytest.raises(InputError, match="cannot import nowhere:f"):
        import_function("nowhere:f")
    with pytest.raises(InputError, match="expected a function"):
        import_function(f"{__name__}:ALL")


def test_fading_in_leaves_the_first_frame_and_scales_the_others() -> None:
    values = torch.ones(2, 4, 3)
    assert faded(values, 0.25)[0, :, 0].tolist() == [1.0, 0.25, 0.25, 0.25]
    held = batch(steps=2)
    made = task(LossConfig(), fade=(10, 30))
    active = frozenset({"predFieldError", "spectrumError"})
    by_epoch = {e: made.losses(held, epoch=e, step=0, active=active) for e in (0, 20, 40)}
    pred = made.model.rollout(held["frames"][:, 0], num_steps=2)
    each = nops_losses.field_error(pred, held["frames"][:, 1:], reduction="none").mean((0, 2))
    for epoch, factor in ((0, 0.0), (20, 0.5), (40, 1.0)):
        expected = (each[0] + factor * each[1]) / 2
        torch.testing.assert_close(by_epoch[epoch]["predFieldError"], expected)
    assert by_epoch[0]["spectrumError"] == by_epoch[40]["spectrumError"]  # of all frames


@pytest.mark.parametrize(
    ("linear", "steps"),
    [(False, {0: 1, 9: 1, 10: 3, 30: 5, 99: 5}), (True, {0: 1, 10: 2, 17: 3, 24: 4, 30: 5})],
)
def test_training_rollouts_grow_over_epochs_and_validation_does_not(
    linear: bool, steps: dict[int, int]
) -> None:
    made = task(LossConfig(), growth=(10, 30), grows_linearly=linear)
    held = batch(steps=5)
    active = frozenset({"predFieldError"})
    pred = made.model.rollout(held["frames"][:, 0], num_steps=5)
    each = nops_losses.field_error(pred, held["frames"][:, 1:], reduction="none").mean((0, 2))
    for epoch, count in steps.items():
        found = made.losses(held, epoch=epoch, step=0, active=active)["predFieldError"]
        torch.testing.assert_close(found, each[:count].mean())
    torch.testing.assert_close(made.metrics(held)["field_error"].mean(), each.mean())


def test_validation_publishes_every_metric_whatever_the_weights() -> None:
    made = task(LossConfig())
    held = batch()
    metrics = made.metrics(held)
    assert set(metrics) == {
        *("field_error", "spectrum_error", "log_spectrum_error", "relative_log_spectrum_error"),
        *("wavelet_error", "coherence_error", "relative_l2", "val_loss"),
    }
    assert all(value.shape == (3,) for value in metrics.values())
    total = 0.3 * metrics["field_error"] + 0.35 * metrics["spectrum_error"]
    torch.testing.assert_close(metrics["val_loss"], total)


def test_noise_moves_the_training_loss_alone() -> None:
    held, active = batch(), frozenset({"predFieldError"})
    quiet, noisy = task(LossConfig()), task(LossConfig(), noise=0.5)
    plain = quiet.losses(held, epoch=0, step=0, active=active)["predFieldError"]
    assert noisy.losses(held, epoch=0, step=0, active=active)["predFieldError"] != plain
    torch.testing.assert_close(noisy.metrics(held), quiet.metrics(held))


class Counted(TorchDispatchMode):
    """Counts operators by name."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    def transforms(self) -> int:
        """Fourier transforms so far."""
        return sum(count for name, count in self.calls.items() if "fft" in name)


def transforms(active: set[str]) -> int:
    made, held = task(LossConfig()), batch()
    with Counted() as counted:
        made.losses(held, epoch=0, step=0, active=frozenset(active))
    return counted.transforms()


def test_a_term_without_weight_costs_no_transform() -> None:
    model = transforms({"predFieldError"})
    assert transforms({"predFieldError", "spectrumError"}) == model + 2  # of pred and of target


def test_a_metric_of_several_names_is_computed_once() -> None:
    made, held = task(LossConfig()), batch()
    with Counted() as counted:
        made.metrics(held)
    # of pred and target: the log spectrum under two names and in val_loss, the published one, coherence
    assert counted.transforms() == transforms({"predFieldError"}) + 3 * 2


def test_jumps_at_walls_and_obstacles_are_refused_by_key() -> None:
    walls = Domain(shape=(16, 16), lengths=(4.0, 2.0), periodic=(True, False))
    used = frozenset({"predFieldError", "spectrumError"})
    with pytest.raises(InputError) as caught:
        check_domain(LossConfig(), walls, used)
    for word in ("loss.spectrumError", "axis [1]", "loss.spectrum_options.window", "waveletError"):
        assert word in str(caught.value)
    windowed = LossConfig.model_validate({"spectrum_options": {"window": "hann"}})
    check_domain(windowed, walls, used)
    check_domain(LossConfig(), walls, frozenset({"predFieldError", "waveletError"}))
    with pytest.raises(InputError, match="derivatives"):
        check_domain(windowed, walls, frozenset({"sobolevError"}))
    masked = Domain(
        shape=(16, 16), lengths=(1, 1), periodic=(True, True), mask=torch.ones(16, 16).bool()
    )
    with pytest.raises(InputError, match="obstacle"):
        check_domain(LossConfig(), masked, frozenset({"sobolevError"}))


def test_metrics_of_fields_with_walls_are_windowed() -> None:
    walls = Domain(shape=(16, 16), lengths=(6.28, 6.28), periodic=(True, False))
    pred, target = fields(1, 1, 2, 16, 16), fields(1, 1, 2, 16, 16, seed=1)
    found = make_metrics(LossConfig(), walls)["log_spectrum_error"](pred, target).mean()
    expected = nops_losses.log_spectrum_error(
        pred, target, lengths=walls.lengths, window="hann", detrend="mean"
    )
    torch.testing.assert_close(found, expected)


def test_what_lies_in_an_obstacle_does_not_count() -> None:
    mask = torch.ones(16, 16, dtype=torch.bool)
    mask[4:8, 4:8] = False
    domain = Domain(shape=(16, 16), lengths=(6.28, 6.28), periodic=(True, True), mask=mask)
    pred, target = fields(3, 2, 2, 16, 16), fields(3, 2, 2, 16, 16, seed=1)
    other = pred.where(mask, 100.0)
    for name, function in make_metrics(LossConfig(wavelet="haar"), domain).items():
        torch.testing.assert_close(function(other, target), function(pred, target), msg=name)


def test_a_grid_that_wavelets_cannot_halve_is_told_by_the_key_or_measured_otherwise() -> None:
    odd = Domain(shape=(15, 15), lengths=(1.0, 1.0), periodic=(True, True))
    terms = {"waveletError": make_terms(LossConfig(), odd)["waveletError"]}
    with pytest.raises(InputError, match=r"loss\.waveletError: .*undecimated=True"):
        check_terms(terms, odd, channels=2)
    loss = LossConfig(wavelet_undecimated=True)
    check_terms({"waveletError": make_terms(loss, odd)["waveletError"]}, odd, channels=2)
    pred, target = fields(1, 1, 2, 15, 15), fields(1, 1, 2, 15, 15, seed=1)
    found = make_metrics(LossConfig(), odd)["wavelet_error"](pred, target).mean()
    expected = nops_losses.wavelet_error(pred, target, undecimated=True)
    torch.testing.assert_close(found, expected)
