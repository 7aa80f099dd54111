"""Random operators as data: stacks, noise, and what the files and the report say of them."""

from pathlib import Path

import h5py
import pytest
import torch
from noa.build import open_bundle
from noa.cli import main
from noa.config import NoaConfig
from noa.evaluation import collect
from noa.generation import data_folder, domain_of, replayed_test, settle_data
from noa.noise import noise_floor, pairs_of
from noa.report import load_evaluation
from nops_data import WellReader
from nops_physics import RandomConvOperator, StackSpec, derive_seed
from nops_train import RunFolder, parse_config

WORDS = [
    *("--preset=random_conv", "--data.operator=stack", "--data.noise_scale=0.5"),
    *("--data.num_train=2", "--data.num_valid=1", "--data.num_test=2"),
    *("--data.num_steps=4", "--data.shape=17,17"),
]


def config_of(**data: object) -> NoaConfig:
    return parse_config(NoaConfig, {"data": data}, source="test")


@pytest.fixture(scope="module")
def stack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stack")
    assert main(["generate", f"--data={folder}", *WORDS]) == 0
    return folder


def test_stored_seeds_make_the_trajectories_again(stack_folder):
    assert main(["generate", "--verify", f"--data={stack_folder}"]) == 0
    with h5py.File(next((stack_folder / "data/test").glob("*.hdf5"))) as file:
        seeds = {name: file[f"nops/{name}_seed"][:].tolist() for name in ("ic", "weight", "noise")}
        theta = torch.from_numpy(file["nops/theta_unit"][:])
    # the third split holds the places 3 and 4
    assert seeds["weight"] == [derive_seed("weights", 0, place) for place in (3, 4)]
    assert seeds["noise"] == [derive_seed("noise", 0, place) for place in (3, 4)]
    operator = RandomConvOperator(shape=(17, 17), spec=StackSpec(), noise_scale=0.5)
    frames = operator.trajectory(
        operator.initial(2, seed=seeds["ic"]),
        theta,
        num_steps=4,
        noise_seeds=seeds["noise"],
        weight_seeds=seeds["weight"],
    )
    stored = torch.stack([item["fields"] for item in WellReader(stack_folder, split="test")])
    assert torch.equal(stored, frames)


@pytest.mark.parametrize("operator", ["stack", "smooth"])
def test_the_noise_floor_is_that_of_the_same_trajectories_with_other_noise(
    operator, stack_folder, tmp_path
):
    folder = stack_folder
    if operator == "smooth":
        folder = tmp_path / "smooth"
        words = [word for word in WORDS if "operator" not in word]
        assert main(["generate", f"--data={folder}", *words]) == 0
    config = settle_data(
        config_of(path=str(folder), num_train=1), explicit=("data.path", "data.num_train")
    )
    bundle = open_bundle(config)
    frames, theta = collect(bundle.test.batches(epoch=0, skip=0))
    stored = bundle.normaliser.denormalise(frames)
    again = replayed_test(config, stored[:, 0], theta)
    torch.testing.assert_close(again, stored, rtol=1e-3, atol=1e-3)
    other = replayed_test(config, stored[:, 0], theta, stream="other noise")
    apart = (bundle.normaliser.normalise(other) - frames).square().mean((0, -2, -1)) / 2
    found = noise_floor(config, bundle, frames, theta)
    torch.testing.assert_close(found.float(), apart[1:], rtol=1e-4, atol=0)
    assert bool((found > 0).all())


def test_what_has_no_noise_has_no_floor(whole):
    evaluation, _ = load_evaluation(RunFolder.at(whole))
    assert set(evaluation.scores.baselines) == {"zero", "persistence", "mean"}


def test_pairs_are_neighbours_of_one_parameter_and_one_start():
    theta = torch.tensor([[0.0], [0.0], [1.0], [0.0], [0.0]])
    initial = torch.tensor([1.0, 2.0, 1.0, 1.0, 1.0]).view(5, 1, 1, 1)
    assert pairs_of(initial, theta) == [(0, 3), (3, 4)]
    assert pairs_of(initial[:3], theta[:3]) == []


def test_the_folder_decides_the_operator(stack_folder):
    settled = settle_data(config_of(path=str(stack_folder), domain="random_conv"))
    assert (settled.data.operator, settled.data.noise_scale) == ("stack", 0.5)
    operator = domain_of(settled)
    assert isinstance(operator, RandomConvOperator)
    assert isinstance(operator.spec, StackSpec)


def test_the_report_says_that_nothing_generalises(stack_folder, run_noa):
    assert run_noa("train", data=stack_folder) == 0
    _, facts = load_evaluation(RunFolder.at("runs/noa/default"))
    assert "nothing that is learned generalises to an unseen θ" in facts["caution"]


def test_settings_of_the_operator_name_another_folder_and_the_defaults_do_not():
    names = [
        data_folder(config_of(domain="random_conv", **options)).name
        for options in ({}, {"operator": "smooth"}, {"operator": "stack"}, {"noise_scale": 0.1})
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_they_are_refused_for_another_domain(capsys, tmp_path):
    words = ["generate", f"--data={tmp_path}", "--preset=wave"]
    for key, value in (("data.operator", "stack"), ("data.noise_scale", "0.1")):
        assert main([*words, f"--{key}={value}"]) == 2
        message = capsys.readouterr().err
        assert key in message
        assert "data.domain" in message
