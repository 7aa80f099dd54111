"""The same figures from tensors on a device; companions may lie on the CPU."""

import pytest
import torch
from nops_diagnostics import (
    FeatureExtractor,
    correlation_time,
    diversity_ratio,
    plot_spectra,
    rollout_scores,
    shuffle_ratio,
)
from torch.testing import assert_close

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_a_device_gives_the_figures_of_the_cpu(fields):
    path, pred = fields(0, 6, 5, 2, 16, 16).float(), fields(1, 6, 4, 2, 16, 16).float()
    theta, scale = fields(2, 6, 3).float(), torch.tensor([1.0, 2.0])
    mean, floor = torch.zeros(4, 2), torch.ones(4, 2)

    def measure(device: str) -> list[torch.Tensor]:
        near = [tensor.to(device) for tensor in (pred, path[:, 1:], path[:, 0], theta)]
        p, target, initial, parameters = near
        scores = rollout_scores(
            p, target, initial=initial, mean=mean, noise_floor=floor, scale=scale
        )
        shuffled = shuffle_ratio(
            lambda u, q: p * u[:, None, :, :1, :1] + q[:, :1, None, None, None],
            initial,
            parameters,
            target,
            scale=scale,
        )
        pairs = [field.unflatten(0, (2, 3)) for field in (p, target)]
        held = correlation_time(p, target, frame_interval=1.0)
        plot_spectra({"truth": target, "rollout": p}, lead_times=(1,))
        return [
            *(e.high for e in (scores.metrics | scores.skill).values()),
            shuffled.ratio.low,
            held.curve,
            diversity_ratio(*pairs, scale=scale),
        ]

    for there, here in zip(measure("cuda"), measure("cpu"), strict=True):
        assert there.device.type == "cpu"
        assert_close(there, here, rtol=1e-9, atol=1e-12)  # float64 sums in another order


def test_features_and_their_gradients_are_those_of_the_cpu(fields):
    clips = fields(3, 8, 5, 2, 16, 16).cumsum(1)
    extractor = FeatureExtractor().fit(clips)

    def measure(device: str) -> tuple[torch.Tensor, torch.Tensor]:
        clip = clips.to(device).requires_grad_()
        features = extractor(clip)
        assert features.device == clip.device
        return features.cpu(), torch.autograd.grad(features.square().sum(), clip)[0].cpu()

    for there, here in zip(measure("cuda"), measure("cpu"), strict=True):
        assert_close(there, here, rtol=1e-6, atol=1e-8)  # float64, other FFT and eigenvalue solver
