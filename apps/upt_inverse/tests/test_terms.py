"""What a step computes and shares, and that its numbers are those of the definitions."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

SETS = {"encoder": "supernodes", "supernodes": 8, "radius": 0.2}
SAMPLED = {"enabled": True, "num_queries": 32}


class Counter:
    """Calls of encoder, approximator and decoder, with the points that each was asked for."""

    def __init__(self, built: Any) -> None:
        self.calls: dict[str, list[int]] = {"encoder": [], "approximator": [], "decoder": []}
        for name, calls in self.calls.items():
            getattr(built.model, name).register_forward_pre_hook(self._counted(calls))

    def _counted(self, calls: list[int]) -> Callable[..., None]:
        def count(module: Any, inputs: tuple[Any, ...]) -> None:
            first = inputs[0]
            calls.append(len(first) if isinstance(first, dict) else first.shape[-2])

        return count


def calls_of(built: Any, *active: str) -> dict[str, list[int]]:
    counter = Counter(built)
    built.losses(*active)
    return counter.calls


@pytest.mark.parametrize("preset", ["original", "seed"])
@pytest.mark.parametrize(
    ("active", "encoder", "decoder"),
    [
        (("L_forward",), 1, 1),
        (("L_forward", "L_inv_enc"), 1, 2),
        (("L_inv_enc",), 1, 1),
        (("L_forward", "L_inv_dec"), 2, None),
        (("L_forward", "L_inv_enc", "L_inv_dec"), 2, 2),
    ],
)
def test_a_term_at_weight_0_calls_nothing(
    build: Callable[..., Any],
    preset: str,
    active: tuple[str, ...],
    encoder: int,
    decoder: int | None,
) -> None:
    calls = calls_of(build(loss={"preset": preset}), *active)
    assert len(calls["encoder"]) == encoder
    # the re-encoded state is the decode that L_forward (original) or L_inv_enc (seed) made
    assert len(calls["decoder"]) == (decoder or {"original": 1, "seed": 2}[preset])
    stepped = "L_forward" in active or ("L_inv_dec" in active and preset == "original")
    assert len(calls["approximator"]) == int(stepped)


def test_a_grid_decodes_its_queries_alone_unless_a_state_is_encoded_again(
    build: Callable[..., Any],
) -> None:
    loss = {"query_sampling": SAMPLED, "L_rollout": 0.0}
    built = build(loss=loss)
    assert calls_of(built, "L_forward", "L_inv_enc")["decoder"] == [32, 32]
    assert calls_of(build(loss=loss))["decoder"] == [64, 32]


def test_a_set_encoder_reads_decodes_and_reads_again_the_sampled_points(
    build: Callable[..., Any],
) -> None:
    built = build(model=SETS, loss={"query_sampling": SAMPLED, "L_rollout": 0.0})
    seen: list[int] = []
    encode = built.model.encoder.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0]["u"].shape[1])
    )
    assert calls_of(built)["decoder"] == [32, 32]
    assert seen == [32, 32]
    encode.remove()


def mse(pred: dict[str, Tensor], target: Tensor) -> Tensor:
    return torch.nn.functional.mse_loss(pred["u"], target)


def states(built: Any) -> Tensor:
    """Normalised states [sample, time, point, 1] of the batch."""
    return built.batch["frames"].transpose(2, 3)


@pytest.mark.parametrize("preset", ["original", "seed"])
def test_terms_are_what_the_definitions_say(build: Callable[..., Any], preset: str) -> None:
    weights = {"L_inv_enc": 1.0, "L_inv_dec": 1.0, "L_rollout": 1.0, "L_forward_latent": 1.0}
    loss = {"preset": preset, "rollout_horizon": 3, "rollout_queries": 1.0, **weights}
    built = build(loss=loss)
    model, x, u = built.model, built.bundle.geometry.positions, states(built)
    z = model.encode({"u": u[:, 0]}, x)
    ahead = [z]
    for _ in range(3):
        ahead.append(model.step(ahead[-1]))
    again = {"original": ahead[1], "seed": z}[preset]
    expected = {
        "L_forward": mse(model.decode(x, ahead[1]), u[:, 1]),
        "L_inv_enc": mse(model.decode(x, z), u[:, 0]),
        "L_inv_dec": (model.encode(model.decode(x, again), x) - again).square().mean(),
        "L_rollout": (
            mse(model.decode(x, ahead[2]), u[:, 2]) + mse(model.decode(x, ahead[3]), u[:, 3])
        )
        / 2,
        "L_forward_latent": (ahead[1] - model.encode({"u": u[:, 1]}, x)).square().mean(),
    }
    found = built.losses()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value, rtol=1e-5, atol=1e-7)  # float32 sums in another order


def test_two_input_states_are_read_oldest_first_and_the_decode_comes_last(
    build: Callable[..., Any],
) -> None:
    model_config = {"patch_size": 4, "history": 2}
    built = build(model=model_config, loss={"L_rollout": 0.0, "rollout_horizon": 1})
    model, x, u = built.model, built.bundle.geometry.positions, states(built)
    z = model.encode({"u": torch.cat([u[:, 0], u[:, 1]], -1)}, x)
    ahead = model.step(z)
    decoded = model.decode(x, ahead)["u"]
    found = built.losses()
    assert_close(found["L_forward"], mse({"u": decoded}, u[:, 2]))
    assert_close(found["L_inv_enc"], mse(model.decode(x, z), u[:, 1]))
    back = model.encode({"u": torch.cat([u[:, 1], decoded], -1)}, x)
    assert_close(found["L_inv_dec"], (back - ahead).square().mean(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("preset", ["original", "seed"])
def test_with_time_each_latent_is_decoded_under_the_step_that_made_it(
    build: Callable[..., Any], preset: str
) -> None:
    loss = {"preset": preset, "L_inv_enc": 1.0, "L_inv_dec": 1.0, "rollout_horizon": 1}
    built = build(model={"patch_size": 4, "condition": ["time"]}, loss=loss)
    for weight in built.model.parameters():  # a modulation that starts at zero ignores time
        torch.nn.init.normal_(weight, std=0.2)
    model, x, u = built.model, built.bundle.geometry.positions, states(built)
    built.batch["start"] = start = torch.tensor([0, 1, 2, 3])

    def at(index: Tensor) -> Tensor:
        return index[:, None].float()

    z = model.encode({"u": u[:, 0]}, x, condition=at(start))
    ahead = model.step(z, condition=at(start))
    decoded = model.decode(x, ahead, condition=at(start))["u"]
    found = built.losses()
    assert_close(found["L_forward"], mse({"u": decoded}, u[:, 1]))
    # the first state has no step before it, the last (4) none after it
    own = model.decode(x, z[1:], condition=at(start[1:] - 1))["u"]
    assert_close(found["L_inv_enc"], mse({"u": own}, u[1:, 0]))
    if preset == "original":
        back = model.encode({"u": decoded[:3]}, x, condition=at(start[:3] + 1))
        expected = (back - ahead[:3]).square().mean()
    else:
        back = model.encode({"u": own}, x, condition=at(start[1:]))
        expected = (back - z[1:]).square().mean()
    assert_close(found["L_inv_dec"], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("model", [None, SETS], ids=["grid", "supernodes"])
def test_draws_depend_on_seed_and_step_not_on_what_else_is_computed(
    build: Callable[..., Any], model: dict | None
) -> None:
    loss = {"query_sampling": SAMPLED, "rollout_horizon": 2}
    built = build(model=model, loss=loss)
    alone = built.losses("L_forward", step=3)["L_forward"]
    torch.rand(7)  # the global generator has no part in it
    assert_close(built.losses(step=3)["L_forward"], alone)
    assert not torch.equal(built.losses("L_forward", step=4)["L_forward"], alone)
    other = build(model=model, loss=loss, train={"seed": 1})
    other.model.load_state_dict(built.model.state_dict())
    other.batch = built.batch
    assert not torch.equal(other.losses("L_forward", step=3)["L_forward"], alone)


def test_chunks_change_no_value_and_no_gradient(build: Callable[..., Any]) -> None:
    found = {}
    for chunk in (None, 5):
        built = build(loss={"chunk_size": chunk})
        losses = built.losses()
        torch.stack([*losses.values()]).sum().backward()
        gradients = [p.grad for p in built.model.parameters() if p.grad is not None]
        found[chunk] = [*losses.values(), *gradients]
    for whole, chunked in zip(*found.values(), strict=True):
        assert_close(chunked, whole, rtol=1e-4, atol=1e-6)


def test_physical_penalties_are_in_the_datas_units(build: Callable[..., Any]) -> None:
    built = build(plane=True, loss={"L_boundary": 1.0, "boundary_value": 0.3, "rollout_horizon": 1})
    model, x = built.model, built.bundle.geometry.positions
    values = built.batch["frames"].flatten(3).transpose(2, 3)[:, 0]
    fields = {"u": values[..., :1], "v": values[..., 1:]}
    pred = model.decode(x, model.step(model.encode(fields, x)))
    joined = torch.cat([pred["u"], pred["v"]], -1)
    physical = joined * built.bundle.normaliser.scale.float() + built.bundle.normaliser.mean.float()
    border = torch.ones(8, 8, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    expected = (physical[:, border.flatten()] - 0.3).square().mean()
    assert_close(built.losses("L_boundary")["L_boundary"], expected)


IMPORTANT = {"enabled": True, "num_queries": 16, "strategy": "importance"}


def test_important_points_are_weighed_by_their_chance(build: Callable[..., Any]) -> None:
    """Horvitz and Thompson: over draws, the terms of a few points are those of all points."""
    built = build(loss={"query_sampling": IMPORTANT, "rollout_horizon": 2, "rollout_queries": 0.25})
    names = ("L_forward", "L_inv_enc", "L_rollout")
    with torch.no_grad():
        built.model.eval()
        draws = [built.losses(*names, step=step) for step in range(200)]
        whole = build(loss={"rollout_horizon": 2, "rollout_queries": 1.0})
        whole.model.load_state_dict(built.model.state_dict())
        whole.batch = built.batch
        expected = whole.losses(*names)
    for name in names:
        found = torch.stack([losses[name] for losses in draws])
        error = found.std() / len(draws) ** 0.5
        assert error < 0.05 * expected[name]
        assert abs(found.mean() - expected[name]) < 4 * error, name


def test_points_are_drawn_where_the_true_state_is_steep(build: Callable[..., Any]) -> None:
    built = build(loss={"query_sampling": {**IMPORTANT, "importance_floor": 0.01}})
    frames = built.batch["frames"]
    frames.zero_()
    frames[..., 20:24] = torch.tensor([1.0, 3.0, -3.0, -1.0])  # steep between 19 and 24
    seen: list[Tensor] = []
    built.model.decoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    built.losses("L_forward")
    cells = (seen[0][..., 0] * 64).round()
    drawn = ((cells >= 19) & (cells <= 24)).sum(1)
    assert (drawn == 6).all()  # all six of them, and ten of the 58 others


def test_penalties_of_points_use_all_of_them_where_the_sample_is_uneven(
    build: Callable[..., Any],
) -> None:
    loss = {"L_conservation": 1.0, "L_positivity": 1.0, "positivity_minimum": 1.0}
    names = ("L_conservation", "L_positivity")
    important = build(loss={**loss, "query_sampling": IMPORTANT})
    whole = build(loss=loss)
    whole.batch = important.batch
    for name, value in whole.losses(*names).items():
        assert_close(important.losses(*names)[name], value, rtol=1e-5, atol=1e-7)
