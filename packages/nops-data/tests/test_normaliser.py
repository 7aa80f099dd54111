import math

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from nops_data import LayoutError, Normaliser, WellReader, WellWriter, write_stats


def close(got, expected, rtol=1e-12):
    """As torch.testing has it, without the seconds that its first call takes."""
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=rtol, atol=0)


def test_statistics_worked_by_hand():
    # Two trajectories of two frames, two channels, one point each.
    # Channel 0: 1, 3 | 5, 7: mean 4, variance (9 + 1 + 1 + 9) / 4 = 5; changes 2, 2.
    # Channel 1: 0, 4 | 4, 0: mean 2, variance 4; changes 4, -4: mean 0, deviation 4.
    first = torch.tensor([[[1.0], [0.0]], [[3.0], [4.0]]])
    second = torch.tensor([[[5.0], [4.0]], [[7.0], [0.0]]])
    fitted = Normaliser.fit([first, {"fields": second}])
    close(fitted.mean, [4.0, 2.0])
    close(fitted.std, [math.sqrt(5), 2.0])
    close(fitted.rms, [math.sqrt(21), math.sqrt(8)])
    close(fitted.increment_mean, [2.0, 0.0])
    close(fitted.increment_std, [0.0, 4.0])
    got = fitted.normalise(torch.tensor([[[4.0]], [[6.0]]]), channel_dim=-3)
    assert got.flatten().tolist() == [0.0, 2.0]


@given(
    shapes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    block=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_statistics_do_not_depend_on_the_blocks(monkeypatch, shapes, block, seed):
    rng = np.random.default_rng(seed)
    data = [rng.normal(3.0, 2.0, size=(frames, 2, 3, 2)) for frames in shapes]
    monkeypatch.setattr("nops_data._normaliser._BLOCK", block)
    fitted = Normaliser.fit([torch.from_numpy(x).float() for x in data])
    data = [x.astype(np.float32).astype(np.float64) for x in data]
    flat = np.concatenate(data).transpose(1, 0, 2, 3).reshape(2, -1)
    close(fitted.mean, flat.mean(axis=1).tolist(), rtol=1e-10)
    close(fitted.std, flat.std(axis=1).tolist(), rtol=1e-10)
    changes = np.concatenate([np.diff(x, axis=0) for x in data])
    if len(changes):
        flat = changes.transpose(1, 0, 2, 3).reshape(2, -1)
        close(fitted.increment_std, flat.std(axis=1).tolist(), rtol=1e-10)
    else:
        assert fitted.increment_std.tolist() == [0.0, 0.0]


def test_a_large_mean_costs_no_digits():
    rng = np.random.default_rng(0)
    data = [torch.from_numpy(1e6 + rng.normal(size=(5, 1, 40))) for _ in range(20)]
    fitted = Normaliser.fit(data)
    expected = torch.cat(data).flatten().std(correction=0)
    close(fitted.std[0], expected, rtol=1e-9)


def test_a_reader_gives_the_statistics_of_its_trajectories(toy, monkeypatch):
    reader = WellReader(toy, split="train")
    whole = Normaliser.fit([reader[i] for i in range(len(reader))])
    monkeypatch.setattr("nops_data._normaliser._BLOCK", 85)  # two frames of 40 values
    fitted = Normaliser.fit(reader)
    assert fitted.channels == ("u", "v")
    for name in ("mean", "std", "increment_mean", "increment_std"):
        close(getattr(fitted, name), getattr(whole, name), rtol=1e-10)


@given(seed=st.integers(0, 99), channel_dim=st.sampled_from([-4, -3, -2, -1, 0, 1]))
def test_denormalise_undoes_normalise(seed, channel_dim):
    rng = np.random.default_rng(seed)
    fitted = Normaliser.fit([torch.from_numpy(rng.normal(5, 3, size=(6, 3, 4, 4)))])
    values = torch.from_numpy(rng.normal(size=(3, 3, 3, 3)))
    normal = fitted.normalise(values, channel_dim=channel_dim)
    close(fitted.denormalise(normal, channel_dim=channel_dim), values, rtol=1e-9)
    moved = values.movedim(channel_dim, 0)
    expected = (moved[1] - fitted.mean[1]) / fitted.std[1]
    close(normal.movedim(channel_dim, 0)[1], expected)


def test_the_training_data_become_standard(toy):
    reader = WellReader(toy, split="train")
    fitted = Normaliser.fit(reader)
    values = torch.stack([reader[i]["fields"] for i in range(len(reader))])
    normal = fitted.normalise(values).double().movedim(2, 0).flatten(1)
    assert torch.allclose(normal.mean(1), torch.zeros(2, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(normal.std(1, correction=0), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_types_are_kept_and_halves_are_computed_in_single(dtype):
    fitted = Normaliser.fit([torch.full((2, 1, 2), 1000.0) + torch.arange(4.0).reshape(2, 1, 2)])
    values = torch.tensor([[[1000.0, 1003.0]]]).to(dtype)
    got = fitted.normalise(values, channel_dim=1)
    assert got.dtype == dtype
    expected = (values.double() - fitted.mean) / fitted.std
    assert torch.allclose(got.double(), expected, rtol=1e-2)


def test_a_channel_that_never_changes_is_centred_only():
    values = torch.full((3, 2, 4), 0.1)
    values[:, 1] = torch.arange(12.0).reshape(3, 4)
    fitted = Normaliser.fit([values, values])
    assert fitted.constant.tolist() == [True, False]
    normal = fitted.normalise(values, channel_dim=1)
    assert normal[:, 0].abs().max() < 1e-7
    assert torch.allclose(fitted.denormalise(normal, channel_dim=1), values)
    zeros = Normaliser.fit([torch.zeros(2, 1, 3)])
    assert zeros.normalise(torch.ones(1, 1, 1), channel_dim=1).item() == 1.0


def test_the_state_travels(toy):
    fitted = Normaliser.fit(WellReader(toy, split="train"))
    state = fitted.state_dict()
    other = Normaliser.fit([{"fields": torch.randn(4, 2, 3)}])
    other.channels = ("u", "v")
    other.normalise(torch.ones(1, 2, 1), channel_dim=1)  # whatever it keeps must be forgotten
    other.load_state_dict(state)
    values = torch.randn(2, 2, 5, 4)
    assert torch.equal(other.normalise(values), fitted.normalise(values))
    for name in ("mean", "std", "increment_mean", "increment_std"):
        assert torch.equal(getattr(other, name), getattr(fitted, name))
    state["mean"].zero_()
    assert fitted.mean.abs().min() > 0  # a copy


def test_states_that_do_not_fit_are_refused(toy):
    fitted = Normaliser.fit(WellReader(toy, split="train"))
    state = fitted.state_dict()
    with pytest.raises(ValueError, match=r"found keys \['mean'\], expected"):
        fitted.load_state_dict({"mean": state["mean"]})
    with pytest.raises(ValueError, match=r"found channels \('v', 'u'\)"):
        fitted.load_state_dict({**state, "channels": ["v", "u"]})
    with pytest.raises(ValueError, match=r"\(3\), expected .* \(2\)"):
        fitted.load_state_dict({**state, "mean": torch.zeros(3)})


def test_only_the_train_split_is_fitted(toy):
    with pytest.raises(ValueError, match="split: found 'test', expected 'train'"):
        Normaliser.fit(WellReader(toy, split="test"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "trajectories: found none"),
        ([torch.zeros(3)], r"trajectory 0: found shape \(3,\)"),
        ([torch.zeros(0, 2, 3)], r"trajectory 0: found shape \(0, 2, 3\)"),
        ([torch.zeros(2, 2, 3), torch.zeros(2, 3, 3)], "found 3 channels, expected 2"),
    ],
)
def test_trajectories_that_do_not_fit_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        Normaliser.fit(data)


def test_values_that_are_not_finite_are_refused():
    bad = torch.zeros(4, 2, 3)
    bad[2, 1, 0] = math.nan
    message = "trajectory 1, step 2, channel 1: found nan, expected a finite value"
    with pytest.raises(LayoutError, match=message):
        Normaliser.fit([torch.zeros(4, 2, 3), bad])


def test_values_that_do_not_fit_are_refused():
    fitted = Normaliser.fit([torch.randn(4, 2, 3)])
    with pytest.raises(ValueError, match="found 3 channels at axis -1 of"):
        fitted.normalise(torch.zeros(2, 3), channel_dim=-1)
    with pytest.raises(ValueError, match="channel_dim: found -3"):
        fitted.denormalise(torch.zeros(2, 3))


def test_stats_worked_by_hand(tmp_path):
    # One sample, two frames, one point. p: 0, 2: mean 1, std 1, rms sqrt 2, change 2.
    # v: (1, 10), (3, 10): means 2, 10, stds 1, 0; changes (2, 0). c: 5, with no changes.
    # S = [[0, 1], [2, 3]] twice.
    one = (1, 2, 1, 1)
    fields = {
        "p": np.float32([0, 2]).reshape(one),
        "v": np.float32([[1, 10], [3, 10]]).reshape(*one, 2),
        "S": np.float32([[[0, 1], [2, 3]]] * 2).reshape(*one, 2, 2),
    }
    constants = {"c": np.float32([5]).reshape(1, 1, 1)}
    writer = WellWriter(tmp_path, dataset_name="s")
    writer.write("train", fields, [0, 1], constants=constants)
    path = write_stats(tmp_path)
    assert path == tmp_path / "stats.yaml"
    stats = yaml.safe_load(path.read_text())
    assert stats == {
        "mean": {"p": 1.0, "v": [2.0, 10.0], "S": [[0.0, 1.0], [2.0, 3.0]], "c": 5.0},
        "std": {"p": 1.0, "v": [1.0, 0.0], "S": [[0.0, 0.0], [0.0, 0.0]], "c": 0.0},
        "rms": {
            "p": 1.4142,
            "v": [2.2361, 10.0],
            "S": [[0.0, 1.0], [2.0, 3.0]],
            "c": 5.0,
        },
        "mean_delta": {"p": 2.0, "v": [2.0, 0.0], "S": [[0.0, 0.0], [0.0, 0.0]]},
        "std_delta": {"p": 0.0, "v": [0.0, 0.0], "S": [[0.0, 0.0], [0.0, 0.0]]},
        "rms_delta": {"p": 2.0, "v": [2.0, 0.0], "S": [[0.0, 0.0], [0.0, 0.0]]},
    }
    assert "p: 1.4142E+00" in path.read_text()


def test_the_root_mean_square_of_changes(fresh):
    # Changes 1 and 3: mean 2, deviation 1; changes 4 and 0: mean and deviation 2, root of 8.
    first = torch.tensor([[[1.0], [0.0]], [[2.0], [4.0]]])
    second = torch.tensor([[[5.0], [4.0]], [[8.0], [4.0]]])
    fitted = Normaliser.fit([first, second])
    fitted.channels = ("u", "v")
    stats = yaml.safe_load(write_stats(fresh, normaliser=fitted).read_text())
    assert stats["std_delta"] == {"u": 1.0, "v": 2.0}
    assert stats["rms_delta"] == {"u": 2.2361, "v": 2.8284}


def test_stats_of_a_normaliser_at_hand(toy, fresh):
    expected = (toy / "stats.yaml").read_text()
    (fresh / "stats.yaml").unlink()
    fitted = Normaliser.fit(WellReader(fresh, split="train"))
    assert write_stats(fresh, normaliser=fitted).read_text() == expected
    other = Normaliser.fit([torch.randn(4, 2, 3)])
    with pytest.raises(ValueError, match=r"found channels \(\), expected \('u', 'v'\)"):
        write_stats(fresh, normaliser=other)
