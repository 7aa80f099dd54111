import re

import h5py
import numpy as np
import pytest
import torch
from nops_data import (
    LayoutError,
    SplitPlan,
    WellReader,
    check_well,
    generate,
    pending,
    stored_attributes,
    verify,
)


def test_what_a_generated_file_says_of_itself(toy, plan, solve):
    path = toy / "data" / "train" / "toy_train_00001.hdf5"
    theta = plan().splits["train"].theta[4:8]
    with h5py.File(path) as file:
        group = file["nops"]
        attributes = dict(group.attrs)
        for name in ("ic_seed", "weight_seed", "noise_seed"):
            assert group[name].dtype == np.uint64
        assert group["ic_seed"][()].tolist() == [4, 5, 6, 7]
        assert group["weight_seed"][()].tolist() == [0, 0, 0, 0]
        assert group["done"][()].tolist() == [True] * 4
        assert group["ic_kind"].asstr()[()].tolist() == ["kind 1", "kind 2", "kind 0", "kind 1"]
        assert np.array_equal(group["theta_unit"][()], theta)
        assert np.allclose(file["scalars/rate"][()], 3 * theta[:, 0])
        assert np.allclose(file.attrs["rate"], 3 * theta[:, 0])
        assert file["t0_fields/u"].chunks == (1, 3, 5, 4)
    expected = {"domain": "decay", "solver_version": "1", "frame_interval": 0.25}
    expected |= {"units": "metres, seconds", "noise_scale": 0.0, "split": "train"}
    expected |= {"shard": 1, "num_shards": 3, "first_index": 4, "num_in_split": 10}
    assert {key: attributes[key] for key in expected} == expected


def test_what_a_folder_says_of_itself(toy, tmp_path, foreign):
    stored = stored_attributes(toy)
    assert stored["domain"] == "decay"
    assert stored["noise_scale"] == 0.0
    assert type(stored["num_shards"]) is int
    assert stored_attributes(tmp_path) == {}
    foreign(tmp_path, fields={"u": (0, np.zeros((2, 6, 5, 4), dtype=np.float32), {})})
    assert stored_attributes(tmp_path) == {}


def test_seeds_keep_all_their_bits(toy):
    with h5py.File(toy / "data" / "test" / "toy_test_00000.hdf5") as file:
        assert file["nops/ic_seed"][()].tolist() == [2**63, 2**63 + 1, 2**63 + 2]
        assert file["nops/weight_seed"][()].tolist() == [7, 7, 7]


def test_sums_are_those_of_the_trajectories(toy):
    import hashlib

    reader = WellReader(toy, split="train")
    with h5py.File(toy / "data" / "train" / "toy_train_00002.hdf5") as file:
        stored = file["nops/sha256"].asstr()[1]
    values = reader[9]["fields"].numpy().astype("<f4")
    assert stored == hashlib.sha256(values.tobytes()).hexdigest()


def test_the_solver_gets_what_the_plan_says(tmp_path, plan, solve):
    requests = []
    generate(
        tmp_path,
        plan=plan(),
        solve=lambda request: requests.append(request) or solve(request),
        batch_size=3,
    )
    assert [(r.split, r.index) for r in requests] == [
        ("train", (0, 1, 2)),
        ("train", (3,)),
        ("train", (4, 5, 6)),
        ("train", (7,)),
        ("train", (8, 9)),
        ("test", (0, 1, 2)),
    ]
    assert requests[2].ic_seed == (4, 5, 6)
    assert requests[5].weight_seed == (7, 7, 7)
    assert all(type(seed) is int for seed in requests[5].ic_seed)
    assert np.array_equal(requests[2].theta, plan().splits["train"].theta[4:7])
    assert len(requests[1]) == 1


def test_a_second_call_computes_nothing(fresh, plan, contents):
    before = {path: contents(path) for path in fresh.rglob("*.hdf5")}

    def never(request):
        raise AssertionError

    result = generate(fresh, plan=plan(), solve=never, batch_size=3)
    assert (result.written, result.kept, result.notes, result.pending) == (0, 13, (), ())
    assert {path: contents(path) for path in fresh.rglob("*.hdf5")} == before


def test_the_batch_size_changes_nothing(tmp_path, toy, plan, solve, contents):
    for batch_size in (1, 64):
        folder = tmp_path / str(batch_size)
        generate(folder, plan=plan(), solve=solve, batch_size=batch_size)
        for path in toy.rglob("*.hdf5"):
            assert contents(folder / path.relative_to(toy)) == contents(path)
        assert (folder / "stats.yaml").read_text() == (toy / "stats.yaml").read_text()


def test_files_are_equal_byte_for_byte(tmp_path, toy, plan, solve):
    generate(tmp_path, plan=plan(), solve=solve, batch_size=3)
    for path in toy.rglob("*.hdf5"):
        assert (tmp_path / path.relative_to(toy)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_ranks_share_the_shards(tmp_path, toy, plan, solve, contents, world_size):
    results = [
        generate(tmp_path, plan=plan(), solve=solve, batch_size=3, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert sum(result.written for result in results) == 13
    assert all(result.kept == 0 for result in results)
    names = sorted(path.name for path in toy.rglob("*.hdf5"))
    assert sorted(path.name for path in tmp_path.rglob("*.hdf5")) == names
    assert [len(result.pending) for result in results[:2]] == {
        2: [2, 0],
        3: [2, 1],  # four shards: the first rank has two
        7: [3, 2],
    }[world_size]
    for path in toy.rglob("*.hdf5"):
        assert contents(tmp_path / path.relative_to(toy)) == contents(path)
    assert (tmp_path / "stats.yaml").exists()


def test_ranks_come_from_the_environment(tmp_path, plan, solve, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = generate(tmp_path, plan=plan(), solve=solve, batch_size=3)
    assert result.written == 4 + 3
    assert [path.name for path in pending(tmp_path, plan=plan())] == [
        "toy_train_00000.hdf5",
        "toy_train_00002.hdf5",
    ]
    assert result.pending == pending(tmp_path, plan=plan())
    assert not (tmp_path / "stats.yaml").exists()
    with pytest.raises(ValueError, match="rank: found 2, expected 0 <= rank < world_size = 2"):
        generate(tmp_path, plan=plan(), solve=solve, batch_size=3, rank=2)


def test_progress_counts_to_the_end(tmp_path, plan, solve):
    seen = []
    generate(tmp_path, plan=plan(), solve=solve, batch_size=3, progress=seen.append)
    assert [step.done for step in seen] == [0, 3, 4, 4, 7, 8, 8, 10, 10, 13]
    assert {step.total for step in seen} == {13}
    seen.clear()
    generate(tmp_path, plan=plan(), solve=solve, batch_size=3, progress=seen.append)
    assert [step.done for step in seen] == [4, 8, 10, 13]


def test_tensors_and_answers_without_kinds(tmp_path, plan, solve):
    generate(tmp_path, plan=plan(), solve=lambda r: torch.from_numpy(solve(r)[0]), batch_size=3)
    assert check_well(tmp_path) == []
    assert verify(tmp_path, replay=solve).problems == []
    with h5py.File(tmp_path / "data" / "test" / "toy_test_00000.hdf5") as file:
        assert file["nops/ic_kind"].asstr()[()].tolist() == [""] * 3


def test_data_without_parameters_and_in_one_dimension(tmp_path, plan):
    splits = {"valid": SplitPlan(theta=np.zeros((2, 0)), ic_seed=[3, 4])}
    line = plan(splits=splits, parameter_names=(), shape=(6,), channels=("u",), boundary="wall")
    result = generate(
        tmp_path,
        plan=line,
        solve=lambda r: np.stack([np.full((7, 1, 6), s, np.float32) for s in r.ic_seed]),
        batch_size=1,
    )
    assert result.pending == ()
    assert not (tmp_path / "stats.yaml").exists()  # there is no train split
    reader = WellReader(tmp_path, split="valid")
    assert reader.parameters.shape == (2, 0)
    assert reader.boundary == (("wall", "wall"),)
    assert reader[1]["fields"].unique().tolist() == [4.0]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"solver_version": "2"}, "'/nops' attribute 'solver_version': found 1, expected 2"),
        ({"domain": "growth"}, "'/nops' attribute 'domain': found decay, expected growth"),
        ({"frame_interval": 0.5}, "'/nops' attribute 'frame_interval': found 0.25, expected 0.5"),
        ({"units": ""}, "'/nops' attribute 'units'"),
        ({"attributes": {"noise_scale": 0.1}}, "'/nops' attribute 'noise_scale': found 0.0"),
        ({"attributes": {"more": 1}}, "'/nops' attribute 'more': found None, expected 1"),
        ({"num_frames": 8}, "dataset '/t0_fields/u': found (4, 7, 5, 4), expected (4, 8, 5, 4)"),
        ({"shape": (4, 5)}, "dataset '/t0_fields/u'"),
        ({"channels": ("u", "w")}, "dataset '/t0_fields/w': found None"),
        ({"lengths": (2.0, 1.0)}, "dataset '/dimensions/x'"),
        ({"boundary": "open"}, "dataset '/dimensions/x'"),
    ],
)
def test_a_folder_of_another_plan_is_refused(fresh, plan, solve, change, where):
    before = {path: path.read_bytes() for path in fresh.rglob("*.hdf5")}
    with pytest.raises(LayoutError, match="choose another") as caught:
        generate(fresh, plan=plan(**change), solve=solve, batch_size=3)
    assert f"toy_train_00000.hdf5: {where}" in str(caught.value)
    assert {path: path.read_bytes() for path in fresh.rglob("*.hdf5")} == before


def test_another_boundary_alone_is_refused(tmp_path, plan, solve):
    generate(tmp_path, plan=plan(boundary="wall"), solve=solve, batch_size=3)
    with pytest.raises(LayoutError, match=r"boundary: found \(\('wall', 'wall'\)"):
        generate(tmp_path, plan=plan(boundary="open"), solve=solve, batch_size=3)


def test_other_trajectories_are_refused(fresh, plan, solve):
    splits = dict(plan().splits)
    for change, where in (
        ({"ic_seed": range(1, 11)}, "'/nops/ic_seed'"),
        ({"noise_seed": 1}, "'/nops/noise_seed'"),
        ({"theta": 0.5 * splits["train"].theta}, "'/nops/theta_unit'"),
        ({"parameters": splits["train"].theta}, "'/scalars/rate'"),
    ):
        settings = vars(splits["train"]) | change
        other = {**splits, "train": SplitPlan(**settings)}
        with pytest.raises(LayoutError, match=re.escape(where)):
            generate(fresh, plan=plan(splits=other), solve=solve, batch_size=3)


def test_files_that_belong_to_nothing_are_refused(fresh, plan, solve):
    (fresh / "data" / "train" / "mine.hdf5").write_bytes(b"precious")
    with pytest.raises(LayoutError, match=r"mine.hdf5: found a file that is not part of"):
        generate(fresh, plan=plan(), solve=solve, batch_size=3)
    assert (fresh / "data" / "train" / "mine.hdf5").read_bytes() == b"precious"


def test_a_readable_file_of_somebody_elses_is_never_overwritten(tmp_path, plan, solve, foreign):
    fields = {"u": (0, np.zeros((2, 6, 5, 4), dtype=np.float32), {})}
    path = foreign(tmp_path, name="toy_train_00000.hdf5", fields=fields)
    before = path.read_bytes()
    with pytest.raises(LayoutError, match=r"group '/nops': found none, expected our own file"):
        generate(tmp_path, plan=plan(), solve=solve, batch_size=3)
    assert path.read_bytes() == before


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_stop_with_their_origin(tmp_path, plan, solve, bad):
    def spoiled(request):
        values, kinds = solve(request)
        if 6 in request.index:
            values[request.index.index(6), 5, 1, 2, 3] = bad
        return values, kinds

    place = (
        "split 'train', sample 6 (weight_seed 0, noise_seed 0, ic_seed 6), step 5, channel 'v', "
        f"grid point [2, 3]: found {bad}, expected a finite value."
    )
    with pytest.raises(LayoutError, match=re.escape(place)):
        generate(tmp_path, plan=plan(), solve=spoiled, batch_size=3)
    result = generate(tmp_path, plan=plan(), solve=solve, batch_size=3)
    assert result.kept == 4  # the shard before


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda v, k: v[:, :-1], r"solve: found float32 \(3, 6, 2, 5, 4\), expected float32 \(3"),
        (lambda v, k: v[:1], r"found float32 \(1, 7, 2, 5, 4\)"),
        (lambda v, k: v.astype(np.float64), "solve: found float64"),
        (lambda v, k: (v, k[:-1]), r"solve: found kinds \['kind 0', 'kind 1'\], expected 3"),
        (lambda v, k: (v, ["x" * 129] * 3), "of at most 128 bytes"),
    ],
)
def test_answers_that_do_not_fit_are_refused(tmp_path, plan, solve, answer, message):
    with pytest.raises(ValueError, match=message):
        generate(tmp_path, plan=plan(), solve=lambda r: answer(*solve(r)), batch_size=3)


def test_batches_of_nothing_are_refused(tmp_path, plan, solve):
    with pytest.raises(ValueError, match="batch_size: found 0"):
        generate(tmp_path, plan=plan(), solve=solve, batch_size=0)


THETA = np.full((2, 2), 0.25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"splits": {}}, r"splits: found \[\], expected some of"),
        ({"splits": {"all": SplitPlan(theta=THETA, ic_seed=[0, 1])}}, r"splits: found \['all'\]"),
        (
            {"splits": {"train": SplitPlan(theta=THETA[:, :1], ic_seed=[0, 1])}},
            "split 'train': found 1 parameters, expected 2",
        ),
        (
            {
                "splits": {
                    "train": SplitPlan(theta=THETA, ic_seed=[0, 1]),
                    "test": SplitPlan(theta=THETA[:1], ic_seed=[2]),
                }
            },
            "found one parameter vector in both 'train' and 'test'",
        ),
        ({"shape": ()}, r"shape: found \(\), expected 1 to 3 axes"),
        ({"num_frames": 0}, "num_frames: found 0"),
        ({"shard_size": 0}, "shard_size: found 0"),
        ({"shard_size": 10_000}, "shard_size: found 10000, expected at most 8192"),
        ({"chunk_frames": 0}, "chunk_frames: found 0"),
        ({"channels": ()}, r"channels, lengths: found \(\)"),
        ({"lengths": (1.0,)}, r"found \('u', 'v'\) and \(1.0,\), expected .* 2 lengths"),
        ({"boundary": "sticky"}, "boundary: found"),
        ({"attributes": {"domain": "x"}}, r"attributes: found \['domain'\]"),
    ],
)
def test_plans_that_make_no_sense_are_refused(plan, change, message):
    with pytest.raises(ValueError, match=message):
        plan(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"theta": [0.5, 0.5]}, r"theta: found shape \(2,\)"),
        ({"theta": np.zeros((0, 2))}, r"theta: found shape \(0, 2\)"),
        ({"theta": [[0.5], [1.01]]}, "theta: found 1.01 for sample 1, parameter 0"),
        ({"theta": [[0.5], [np.nan]]}, "theta: found nan for sample 1"),
        ({"ic_seed": [1]}, "ic_seed: found 1 values, expected 2"),
        ({"ic_seed": [1, -1]}, r"ic_seed: found 2 values, expected 2 integers in \[0, 2\*\*64\)"),
        ({"noise_seed": 2**64}, "noise_seed: found 2 values"),
        ({"parameters": [[1.0, 2.0]]}, r"parameters: found shape \(1, 2\), expected \(2, 1\)"),
        ({"parameters": [[1.0], [np.inf]]}, "all finite"),
    ],
)
def test_split_plans_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SplitPlan(**{"theta": [[0.5], [0.25]], "ic_seed": [0, 1], **change})
