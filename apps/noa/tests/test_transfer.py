"""Start weights of a run on other dynamics."""

import json
from pathlib import Path

from noa.cli import main
from nops_models import UAFNO, UAFNOConfig
from nops_train import initialise_from

SIZES = {"base_channels": 4, "blocks_per_level": 1, "encoder_levels": 2, "afno_blocks": 2}
SIZES |= {"afno_groups": 2, "embedding": 4}  # of the tiny run


def model_of(*, channels: int, parameters: int) -> UAFNO:
    return UAFNO(UAFNOConfig(in_channels=channels, num_parameters=parameters, **SIZES))


def test_between_domains_of_equal_channels_and_parameters_all_fits(whole):
    """Gray-Scott and waves: two channels, two parameters."""
    report = initialise_from(model_of(channels=2, parameters=2), whole)
    assert report.is_complete


def test_from_two_channels_to_one_the_table_says_what_does_not_fit(
    whole, run_noa, tmp_path, capsys
):
    data = tmp_path / "flow"
    words = ["--data.num_train=2", "--data.num_valid=1", "--data.num_test=1"]
    words += ["--data.num_steps=4", "--data.shape=8,8"]
    assert main(["generate", "--preset=navier_stokes", f"--data={data}", *words]) == 0
    assert run_noa("train", f"--init-from={whole}", data=data) == 0
    out = capsys.readouterr().out
    events = Path("runs/noa/default/events.jsonl").read_text().splitlines()
    event = next(e for line in events if (e := json.loads(line))["event"] == "initialised")
    other = {name: (tuple(a), tuple(b)) for name, (a, b) in event["mismatched"].items()}
    # the layers that know the number of channels or of parameters, and no other
    fresh = dict(model_of(channels=1, parameters=1).state_dict())
    twice = dict(model_of(channels=2, parameters=2).state_dict())
    assert other == {
        name: (tuple(twice[name].shape), tuple(value.shape))
        for name, value in fresh.items()
        if twice[name].shape != value.shape
    }
    assert len(other) >= 4
    assert event["missing"] == event["unexpected"] == []
    for name, (found, expected) in other.items():
        line = next(line for line in out.splitlines() if f" {name} " in line)
        assert f"found {found}, expected {expected}" in line
