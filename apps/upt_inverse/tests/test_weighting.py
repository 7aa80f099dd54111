"""Any rule of the weights over time: chosen by name, refused with the nearest, trained with."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from nops_schedules import weighting_class, weighting_kinds
from nops_train import (
    Engine,
    MomentumConFIGConfig,
    NtkConfig,
    RunFolder,
    WeightingConfig,
    read_events,
)
from upt_inverse.cli import main

SECTIONS = (*get_args(WeightingConfig), NtkConfig, MomentumConFIGConfig)
SECTION_OF = {
    kind: section
    for section in SECTIONS
    for kind in get_args(section.model_fields["kind"].annotation)
}
APART = {"ntk", "momentum_config"}
NEEDED = {"learning_rate_annealing": {"reference": "L_forward"}}
OBJECTS = {"initial_weights", "base", "shared", "candidates"}  # no values of a configuration
OLDER = {"update_frequency"}
OTHERS = {"curriculum": {"delay": 15, "ramp": 15, "cap": 0.05}}  # defaults as published


def test_there_is_a_section_for_every_kind() -> None:
    assert {*SECTION_OF} == {*weighting_kinds()}


@pytest.mark.parametrize("kind", weighting_kinds())
def test_keys_and_defaults_of_a_section_are_those_of_its_rule(kind: str) -> None:
    _, *parameters = inspect.signature(weighting_class(kind)).parameters.values()
    expected = {one.name: one.default for one in parameters if one.name not in {*OBJECTS, *OLDER}}
    section = SECTION_OF[kind](**NEEDED.get(kind, {}), kind=kind)
    found = section.options()
    assert found.keys() == expected.keys()
    unequal = {
        name: found[name]
        for name, default in expected.items()
        if default is not inspect.Parameter.empty
        and found[name] != (1 if default is None and name == "update_every" else default)
    }
    assert unequal == OTHERS.get(kind, {})


@pytest.mark.parametrize("kind", [kind for kind in weighting_kinds() if kind not in APART])
def test_every_rule_trains(build: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    options = NEEDED.get(kind, {}) | (
        {"every": 1} if "every" in SECTION_OF[kind].model_fields else {}
    )
    if kind == "curriculum":
        options |= {"delay": 0, "ramp": 1}
    train = {"epochs": 1, "batch_size": 4, "log_every": 1, "warmup_steps": 0}
    weighting = {"kind": kind, **options}
    loss = {"rollout_horizon": 1, "L_inv_dec": 0.0, "L_inv_enc": 0.5}
    built = build(loss=loss, weighting=weighting, train=train)
    run = RunFolder.open(tmp_path, app="upt", name=kind, config=built.config)
    before = {name: value.clone() for name, value in built.model.state_dict().items()}
    engine = Engine(
        task=built.task,
        weighting=built.config.rule(),
        model=built.model,
        config=built.config.train,
        run=run,
        learning_rate=lambda epoch, step: 1e-3,
        progress="none",
    )
    engine.fit(built.bundle.train, built.bundle.valid)
    steps = [event for event in read_events(run.path) if event["event"] == "train"]
    assert len(steps) == built.bundle.train.num_batches
    assert any((before[name] != value).any() for name, value in built.model.state_dict().items())
    weights = [event["weight"] for event in steps]
    moved = weights[0] != weights[-1]
    constant = {"constant", "auto", "dynamic_average", "adaptive", "config", "pcgrad", "mgda"}
    constant |= {
        "cagrad",
        "imtl_g",
        "aligned_mtl",
        "upgrad",
        "curriculum",
    }  # by epoch, or not at all
    assert moved == (kind not in constant)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--weighting.kind=relobrallo"], ("relobralo",)),
        (["--weighting.kind=relobralo", "--weighting.tua=2"], ("weighting.tau",)),
        (["--weighting.kind=relobralo", "--weighting.temperature=2"], ("temperature",)),
        (["--weighting.kind=softadapt", "--weighting.min_weight=5"], ("min_weight",)),
        (["--weighting.kind=learning_rate_annealing"], ("reference",)),
        (
            ["--weighting.kind=learning_rate_annealing", "--weighting.reference=L_foward"],
            ("L_foward", "L_forward"),
        ),
        (["--weighting.kind=curriculum", "--weighting.ramped=L_inv_end"], ("L_inv_enc",)),
    ],
)
def test_what_no_rule_has_ends_with_2(
    words: list[str],
    parts: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert all(part in told for part in parts), told
    assert not list(tmp_path.iterdir())
