"""Rollouts read by a vocabulary: validation and diagnosis of surrogates, each with one fault."""

import json
import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from noa.diagnosis import diagnose_model
from noa.evaluation import train_mean
from noa.readings import check_clips, clip_starts, read
from noa.validation import grade_of, validate_tokens
from nops_diagnostics import FeatureExtractor
from nops_train import CheckFailed, InputError

STEPS, SIDE, DIM, CLIP = 14, 16, 8, 8
THETAS, STARTS = 6, 6


def solve(initial, theta, num_steps=STEPS):
    """Waves that travel at speed ~ θ₀ and decay at rate ~ θ₁, `[sample, time + 1, 1, SIDE, SIDE]`."""
    k = torch.fft.rfftfreq(SIDE, d=1 / SIDE)
    time = torch.arange(num_steps + 1)[:, None, None, None]
    speed = 2 * math.pi / SIDE * (0.3 + 1.4 * theta[:, 0])
    turn = 1j * torch.einsum("b,k->bk", speed, k)[:, None, None, None]
    rate = (0.1 * theta[:, 1])[:, None, None, None, None] + turn
    return torch.fft.irfft(torch.fft.rfft(initial[:, None]) * torch.exp(-rate * time), n=SIDE)


class Surrogate(torch.nn.Module):
    """The solver, with a fault; what it knows of θ is in its bottleneck."""

    def __init__(self, *, told=None, adds=0.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.told, self.adds = told or (lambda theta: theta), adds

    def rollout(self, initial, parameters, *, num_steps):
        drift = self.adds * torch.arange(1, num_steps + 1)[:, None, None, None]
        return solve(initial, self.told(parameters), num_steps)[:, 1:] + drift

    def get_intermediate_features(self, state, which, *, parameters):
        assert which == "bottleneck"
        return self.told(parameters)[..., None, None].expand(-1, -1, 2, 2)


@dataclass(frozen=True)
class Words:
    """A vocabulary by hand: principal directions of the truth's features, a code per θ and offset."""

    extractor: Any
    basis: torch.Tensor
    table: torch.Tensor
    constant: str = ""
    clip_length: int = CLIP
    channels: tuple[str, ...] = ("u",)
    token_names: tuple[str, ...] = ("summary · 0",)
    num_codes: tuple[int, ...] = (4 * THETAS,)

    @property
    def names(self):
        return self.extractor.names

    @property
    def categories(self):
        return {"summary": tuple(range(len(self.names)))}

    def features(self, clips, initial=None):
        return self.extractor(clips, initial)

    def latents(self, features):
        found = features @ self.basis
        return [0 * found + self.table[:1] if self.constant == "latents" else found]

    def tokens(self, features):
        distances = torch.cdist(features @ self.basis, self.table)
        return (0 if self.constant == "tokens" else 1) * distances.argmin(1)[:, None]

    def reconstruct(self, features):
        return self.table[torch.cdist(features @ self.basis, self.table).argmin(1)] @ self.basis.T


@dataclass(frozen=True)
class World:
    frames: torch.Tensor
    theta: torch.Tensor
    probe: tuple
    words: Words

    def lookup(self, features):
        """The mean code of the nearest θ: what a projector that has learned its task gives."""
        apart = torch.cdist(features.mean((-2, -1)), self.theta[::STARTS])
        return self.words.table.view(4, THETAS, DIM).mean(0)[apart.argmin(1)]

    def diagnose(self, model=None, words=None, *, projector="lookup"):
        return diagnose_model(
            model or Surrogate(),
            words or self.words,
            projector=self.lookup if projector == "lookup" else projector,
            frames=self.frames,
            parameters=self.theta,
            mean=train_mean([{"frames": self.frames}], spatial_dims=2),
            probe=self.probe,
            to_data=lambda fields: fields,
            batch_size=16,
            bootstrap=5,
        ).report


@pytest.fixture(scope="module")
def world():
    generator = torch.Generator().manual_seed(1)
    theta = torch.rand(8, 2, generator=generator)
    x = torch.arange(SIDE) * (2 * math.pi / SIDE)
    place = x[:STARTS, None, None, None]  # one wave at different places, which no feature tells
    start = (torch.cos(x + place) + 0.3 * torch.cos(2 * (x + place))).expand(-1, 1, SIDE, SIDE)
    own = theta[:THETAS].repeat_interleave(STARTS, 0)
    frames = solve(start.repeat(THETAS, 1, 1, 1), own)
    eight = theta.repeat(4, 1)
    probe = (solve(start[:4].repeat_interleave(8, 0), eight).unflatten(0, (4, 8)), theta)
    clips = [frames[:, 1 + first :][:, :CLIP] for first in clip_starts(STEPS, length=CLIP)]
    given = [(clip, frames[:, 0]) for clip in clips]
    extractor = FeatureExtractor(families=("summary",)).fit(given)
    features = torch.cat([extractor(*clip) for clip in given])
    basis = torch.linalg.svd(features, full_matrices=False).Vh[:DIM].T
    latents = (features @ basis).view(len(clips), THETAS, STARTS, DIM)
    return World(frames, own, probe, Words(extractor, basis, latents.mean(2).flatten(0, 1)))


def test_the_oracle_is_excellent(world):
    report = world.diagnose()
    assert report.failed == ()
    assert report.verdict == "EXCELLENT"
    assert [section.points for section in report.sections.values()] == [4, 4, 3, 4]
    json.dumps(report.as_dict())


def test_without_a_projector_its_parts_drop_out(world):
    report = world.diagnose(projector=None)
    assert report.verdict == "EXCELLENT"
    assert report.sections["correlation"].grade == "not trained"


def test_a_constant_projection_fails(world):
    report = world.diagnose(
        projector=lambda features: world.words.table[:1].repeat(len(features), 1)
    )
    assert "collapse" in report.failed
    assert "skill" not in report.failed
    assert report.verdict == "POOR"


def test_a_constant_latent_fails(world):
    report = world.diagnose(words=replace(world.words, constant="latents"))
    assert "collapse" in report.failed
    assert any("rank of the latents" in reason for reason in report.gates["collapse"].reasons)
    assert report.verdict == "POOR"


def test_shuffled_parameters_fail(world):
    def shuffled(theta):  # a bijection of the cube: as much variety, for other θ
        return 1 - theta

    report = world.diagnose(Surrogate(told=shuffled))
    assert "parameters" in report.failed
    assert any("θ-shuffle" in reason for reason in report.gates["parameters"].reasons)
    assert report.gates["parameters"].figures["diversity"] > 0.5
    assert report.verdict == "POOR"


def test_a_drifting_rollout_fails(world):
    report = world.diagnose(Surrogate(adds=0.06))
    assert report.failed == ("skill",)
    assert all("skill over" in reason for reason in report.gates["skill"].reasons)
    assert any("at its end" in reason for reason in report.gates["skill"].reasons)
    assert report.verdict == "POOR"


def test_a_single_token_fails(world):
    report = world.diagnose(words=replace(world.words, constant="tokens"))
    assert report.failed == ("collapse",)
    assert report.gates["collapse"].reasons == ("quantiser 0 has one token alone",)
    assert report.verdict == "POOR"


def test_a_rollout_that_is_not_finite_has_no_tokens(world):
    with pytest.raises(CheckFailed, match="36 of 36 rollouts are not finite, the first at lead 1"):
        world.diagnose(Surrogate(adds=math.inf))


def test_the_truth_as_model(world):
    target, initial = world.frames[:, 1:], world.frames[:, 0]
    found = validate_tokens(world.words, target, target, initial, bootstrap=5)
    assert found.grade == "excellent"
    for ratio in found.ratio.values():
        assert (ratio.value, ratio.low, ratio.high) == (1, 1, 1)
    assert found.divergence.kl.tolist() == [0]
    assert found.distance.wasserstein.abs().max() < 1e-15  # rounding of a sum of shares
    assert set(found.distance.energy.values()) == {0}
    assert (found.distance.wasserstein_null > 0).all()
    assert found.agreement["rollouts"].value == 1
    assert found.agreement["shuffled"].value < 0.5
    plain = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert plain["counts"]["summary · 0"]["truth"] == plain["counts"]["summary · 0"]["rollouts"]


def test_another_dynamics_fails_the_validation(world):
    target, initial = world.frames[:, 1:], world.frames[:, 0]
    pred = Surrogate(adds=0.3).rollout(initial, world.theta, num_steps=STEPS)
    found = validate_tokens(world.words, pred, target, initial, bootstrap=20)
    assert found.grade == "failed"
    assert found.ratio["total"].low > 3
    model, truth = (read(world.words, frames, initial) for frames in (pred, target))
    by_hand = model.errors["total"].mean() / truth.errors["total"].mean()
    assert found.ratio["total"].value == pytest.approx(by_hand.item(), rel=1e-5)
    assert found.divergence.kl[0] > found.divergence.null[0]


def test_clips_are_spread_and_belong_to_their_trajectory(world):
    assert clip_starts(14, length=8) == [0, 2, 4, 6]
    assert clip_starts(8, length=8) == [0]
    assert clip_starts(9, length=8) == [0, 1]
    found = read(world.words, world.frames[:, 1:], world.frames[:, 0])
    assert found.trajectory.tolist() == 4 * list(range(36))
    own = world.words.features(world.frames[5:6, 1 + 4 :][:, :CLIP], world.frames[5:6, 0])
    torch.testing.assert_close(found.features[2 * 36 + 5], own[0])
    mean = found.by_trajectory(found.errors["total"])
    expected = found.errors["total"][found.trajectory == 5].mean()
    torch.testing.assert_close(mean[5], expected)


def test_borders_of_the_ratio():
    assert [grade_of(value) for value in (1.5, 1.51, 2.0, 3.0, 3.01, math.nan)] == [
        "excellent",
        "good",
        "good",
        "acceptable",
        "failed",
        "failed",
    ]


def test_trajectories_that_a_vocabulary_cannot_read(world):
    check_clips(world.words, num_steps=8, channels=("u",))
    with pytest.raises(InputError, match="rollouts of 7 steps, and the VQ-VAE reads clips of 8"):
        check_clips(world.words, num_steps=7, channels=("u",))
    with pytest.raises(InputError, match="channels v, the VQ-VAE was trained on u"):
        check_clips(world.words, num_steps=8, channels=("v",))
