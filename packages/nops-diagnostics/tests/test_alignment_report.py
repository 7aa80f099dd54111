"""The diagnosis: the guide's grades, and surrogates of a small world, each with one fault."""

import json
import math
from dataclasses import dataclass

import pytest
import torch
from nops_diagnostics import (
    FeatureExtractor,
    alignment_report,
    diversity_ratio,
    mse,
    shuffle_ratio,
    skill,
)

STEPS, SIDE, DIM, CODES = 16, 16, 4, 6
DOUBLE = {"dtype": torch.float64}


def units(fields, seed, *shape):
    values = fields(seed, *shape)
    return values / values.norm(dim=-1, keepdim=True)


@pytest.fixture(scope="module")
def guide(fields):
    """Inputs with the figures of the training guide: 67.3 % of 1834 codes, 0.623, 0.055."""
    z = 12.345 * units(fields, 0, 1234, 8)
    aside = fields(1, 1234, 8)
    aside = aside - (aside * z).sum(1, keepdim=True) * z / z.square().sum(1, keepdim=True)
    aside = 12.345 * aside / aside.norm(dim=1, keepdim=True)
    p = 0.623 * z + math.sqrt(1 - 0.623**2) * aside
    steps = 1 + 0.055 * torch.tensor([1.0, -1.0] * 5, **DOUBLE)
    return {
        "reconstruction": {
            "total": 0.3245,
            "initial": 0.2134,
            "summary": 0.3891,
            "temporal": 0.371,
        },
        "indices": torch.arange(1234),
        "num_codes": 1834,
        "projected": p[:, None] * steps[:, None],
        "latent": z,
        "skill": {"persistence": [0.9, 0.5], "mean": [0.8, 0.2]},
        "theta_shuffle": 2.0,
        "diversity": 0.9,
    }


def test_the_grades_of_the_guide(guide):
    report = alignment_report(**guide)
    grades = [section.grade for section in report.sections.values()]
    assert grades == ["Good", "Good", "Moderate", "Good"]
    assert report.points == 2.75
    assert (report.verdict, report.ungated, report.failed) == ("GOOD", "GOOD", ())
    figures = report.sections
    assert figures["correlation"].figures["cosine"] == pytest.approx(0.623)
    assert figures["consistency"].figures["variation"] == pytest.approx(0.055)
    assert figures["diversity"].figures["entropy"] == pytest.approx(math.log(1234))


def test_the_block_of_the_guide(guide):
    text = alignment_report(**guide).text()
    for line in (
        "L_latent Alignment Diagnostics",
        "1. VQ Reconstruction Quality",
        "Total MSE: 0.3245",
        "  INITIAL : 0.2134",
        "➜ Quality Assessment: Good",
        "Overall utilization: 67.3% (1234/1834 codes)",
        "➜ Diversity Assessment: Good",
        "Cosine similarity: 0.623 ± 0.000 [0.623, 0.623]",
        "➜ Correlation Assessment: Moderate",
        "Latent norm: 12.345 ± 0.679",
        "Coefficient of variation: 0.055",
        "➜ Consistency Assessment: Good",
        "Temporal Consistency:   Good",
        "➜ Final Verdict: GOOD - L_latent provides meaningful alignment",
    ):
        assert f"{line}\n" in text


def test_a_failed_gate_decides_and_is_named(guide):
    report = alignment_report(**guide | {"diversity": 0.006})
    assert (report.verdict, report.ungated, report.failed) == ("POOR", "GOOD", ("parameters",))
    (reason,) = report.gates["parameters"].reasons
    assert reason == "diversity ratio: 0.006, expected at least 0.5"
    text = report.text()
    assert "POOR - failed gates: parameters (grades alone: GOOD)" in text
    assert reason in text


def test_a_failed_skill_says_over_what_and_when(guide):
    skill = {"persistence": [0.9, 0.5], "mean": [0.8, -0.2]}
    report = alignment_report(**guide | {"skill": skill})
    assert report.gates["skill"].reasons == ("skill over mean at its end: -0.2, expected above 0",)
    report = alignment_report(**guide | {"skill": {"persistence": [0.0], "mean": [0.1]}})
    (reason,) = report.gates["skill"].reasons
    assert "persistence at its end" in reason


def test_json_holds_all(guide):
    document = json.loads(json.dumps(alignment_report(**guide).as_dict(), allow_nan=False))
    assert document["sections"]["diversity"]["used"] == 1234
    assert document["sections"]["reconstruction"]["summary"] == 0.3891
    assert document["gates"]["skill"]["persistence"] == [0.9, 0.5]
    assert document["points"] == 2.75


def test_without_a_projector_its_parts_drop_out(guide):
    report = alignment_report(**guide | {"projected": None})
    assert [s.grade for s in report.sections.values()][2:] == ["not trained", "not trained"]
    assert report.points == 3.0  # of two sections
    assert report.gates["correspondence"].passed is None
    assert report.verdict == "GOOD"
    assert "correspondence: not trained" in report.text()
    assert alignment_report(**guide | {"projected": None, "diversity": 0.0}).verdict == "POOR"


@pytest.mark.parametrize(
    ("name", "value", "gate"),
    [
        ("theta_shuffle", 1.19, "parameters"),
        ("theta_shuffle", math.nan, "parameters"),
        ("skill", {"persistence": [0.9, 0.0], "mean": [0.8, 0.2]}, "skill"),
        ("skill", {"persistence": [0.9, 0.5], "mean": [-0.1, 0.2]}, "skill"),
    ],
)
def test_borders_of_the_gates(guide, name, value, gate):
    assert alignment_report(**guide | {name: value}).failed == (gate,)
    assert alignment_report(**guide | {"theta_shuffle": 1.2, "diversity": 0.5}).failed == ()


@pytest.mark.parametrize(
    ("total", "grade"), [(0.099, "Excellent"), (0.1, "Good"), (0.5, "Moderate"), (1.0, "Poor")]
)
def test_borders_of_a_grade(guide, total, grade):
    report = alignment_report(**guide | {"reconstruction": {"total": total}})
    assert report.sections["reconstruction"].grade == grade


@dataclass(frozen=True)
class World:
    """Truth, states to start from, parameters, and a tokeniser fitted to the truth."""

    initial: torch.Tensor
    theta: torch.Tensor
    truth: torch.Tensor
    extractor: FeatureExtractor
    basis: torch.Tensor
    codes: torch.Tensor

    def latents(self, clip):
        return self.extractor(clip) @ self.basis

    def error(self, clip):
        features = self.extractor(clip)
        code = self.codes[self.tokens(clip)] @ self.basis.T
        return (features - code).square().mean() / self.extractor(self.truth).square().mean()

    def tokens(self, clip):
        return torch.cdist(self.latents(clip), self.codes).argmin(1)


def solve(initial, theta):
    """Waves that move with speed ~ θ₀ and decay with rate ~ θ₁: `[sample, time, 1, side, side]`."""
    k = torch.fft.rfftfreq(SIDE, d=1 / SIDE, **DOUBLE)
    time = torch.arange(1, STEPS + 1, **DOUBLE)[:, None, None, None]
    speed = 2 * math.pi / SIDE * (0.3 + 1.4 * theta[:, 0])
    rate = (0.1 * theta[:, 1])[:, None, None, None, None] + 1j * torch.einsum("b,k->bk", speed, k)[
        :, None, None, None
    ]
    return torch.fft.irfft(torch.fft.rfft(initial[:, None]) * torch.exp(-rate * time), n=SIDE)


@pytest.fixture(scope="module")
def world(fields):
    generator = torch.Generator().manual_seed(0)
    theta = torch.rand(CODES, 2, generator=generator, **DOUBLE).repeat_interleave(8, 0)
    x = torch.arange(SIDE, **DOUBLE) * (2 * math.pi / SIDE)
    phase = 6.28 * torch.rand(48, 1, 1, 1, generator=generator, **DOUBLE)
    initial = (torch.cos(x + phase) + 0.3 * torch.cos(2 * x - phase)).expand(48, 1, SIDE, SIDE)
    truth = solve(initial, theta)
    extractor = FeatureExtractor(families=("summary",)).fit(truth)
    features = extractor(truth)
    basis = torch.linalg.svd(features, full_matrices=False).Vh[:DIM].T
    codes = (features @ basis).view(CODES, 8, DIM).mean(1)
    return World(initial, theta, truth, extractor, basis, codes)


def diagnose(world, rollout, *, latent=None, indices=None):
    """All that the report asks for, measured on a surrogate's own rollouts."""
    pred = rollout(world.initial, world.theta)
    z = world.latents(pred) if latent is None else latent
    p = z[:, None] * (1 + 0.01 * torch.randn(10, 1, generator=torch.Generator().manual_seed(1)))
    error = mse(pred, world.truth, reduction="none").mean((0, 2))
    stay = mse(world.initial[:, None].expand_as(pred), world.truth, reduction="none").mean((0, 2))
    mean = mse(world.truth.mean(0).expand_as(pred), world.truth, reduction="none").mean((0, 2))
    leads = [STEPS // 2 - 1, STEPS - 1]
    pairs = [world.theta[::8].repeat(4, 1), world.initial[:4].repeat_interleave(CODES, 0)]
    grid = [f(pairs[1], pairs[0]).unflatten(0, (4, CODES)) for f in (rollout, solve)]
    shuffle = shuffle_ratio(rollout, world.initial, world.theta, world.truth, bootstrap=2)
    return alignment_report(
        reconstruction={"total": float(world.error(pred))},
        indices=world.tokens(pred) if indices is None else indices,
        num_codes=CODES,
        projected=p,
        latent=z,
        skill={"persistence": skill(error, stay)[leads], "mean": skill(error, mean)[leads]},
        theta_shuffle=float(shuffle.ratio.value[-1]),
        diversity=float(diversity_ratio(*grid)[-1]),
    )


def nearly(initial, theta):
    return solve(initial, theta) * 0.999


def test_the_oracle_is_excellent(world):
    report = diagnose(world, nearly)
    assert report.failed == ()
    assert report.verdict == "EXCELLENT"


def test_a_surrogate_that_ignores_its_parameters(world):
    def ignores(initial, theta):  # right about what all have in common
        return solve(initial, 0.9 * theta.mean(0) + 0.1 * theta)

    report = diagnose(world, ignores)
    assert "parameters" in report.failed
    assert report.verdict == "POOR"
    assert any("diversity" in reason for reason in report.gates["parameters"].reasons)


def test_a_surrogate_with_the_wrong_parameters(world):
    def shuffled(initial, theta):
        return solve(initial, theta.roll(8, 0))

    report = diagnose(world, shuffled)
    assert "parameters" in report.failed
    assert any("θ-shuffle" in reason for reason in report.gates["parameters"].reasons)
    assert report.gates["parameters"].figures["diversity"] == pytest.approx(1, abs=0.01)
    assert report.verdict == "POOR"


def test_a_rollout_that_drifts(world):
    def drifts(initial, theta):
        growth = 0.15 * torch.arange(1, STEPS + 1, **DOUBLE)[:, None, None, None]
        return solve(initial, theta) + growth

    report = diagnose(world, drifts, latent=world.latents(world.truth))
    assert report.failed[0] == "skill"
    assert report.verdict == "POOR"
    early = diagnose(world, lambda u, theta: solve(u, theta))
    assert early.failed == ()


def test_a_constant_latent_has_the_best_grades_and_fails(world, fields):
    constant = fields(3, 1, DIM).expand(48, DIM) + 1e-9 * fields(4, 48, 1)
    report = diagnose(world, nearly, latent=constant)
    assert report.ungated == "EXCELLENT"
    assert "collapse" in report.failed
    assert "skill" not in report.failed
    assert report.verdict == "POOR"


def test_a_single_token_fails(world):
    two = torch.stack([world.tokens(world.truth), torch.zeros(48, dtype=torch.long)], 1)
    report = diagnose(world, nearly, indices=two)
    assert report.failed == ("collapse",)
    assert report.gates["collapse"].reasons == ("quantiser 1 has one token alone",)


def test_a_projector_that_says_the_same_for_all(guide, fields):
    bulk = guide["latent"].mean(0) + 20  # latents far from 0: any vector near has high cosine
    z = guide["latent"] / 12 + bulk
    p = (bulk + fields(7, 1234, 8) / 3)[:, None].expand(-1, 2, -1)
    report = alignment_report(**guide | {"latent": z, "projected": p})
    assert report.sections["correlation"].grade == "Strong"
    assert report.failed == ("correspondence",)
    assert abs(report.gates["correspondence"].figures["cosine"]) < 0.1  # of centred vectors


@pytest.mark.usefixtures("unchecked")
def test_refused_input(guide):
    for change, message in (
        ({"reconstruction": {"initial": 0.1}}, "'total'"),
        ({"skill": {"persistence": [0.1, 0.2]}}, "two values over mean"),
        ({"skill": {"persistence": [0.1, 0.2], "mean": [1.0] * 3}}, "two values over mean"),
        ({"num_codes": 100}, "quantiser 0, range from 0 to 1233"),
        ({"projected": guide["latent"]}, "projected has shape"),
        ({"projected": guide["projected"][:, :1]}, "at least 2 steps"),
        ({"latent": guide["latent"][:7]}, "same samples"),
    ):
        with pytest.raises(ValueError, match=message):
            alignment_report(**guide | change)
