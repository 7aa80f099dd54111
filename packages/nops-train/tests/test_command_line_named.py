"""Sections whose names the user chooses: a dict of configs."""

import json

import pytest
from nops_train._command_line import resolve_call
from nops_train._command_line_help import key_groups
from nops_train._command_line_keys import Keys
from nops_train._command_line_layers import parse_config, resumed_config
from nops_train._command_line_spec import App, Command
from nops_train._config import Config
from nops_train._errors import InputError
from pydantic import Field


class Grid(Config):
    """Where it lives."""

    side: int = Field(default=8, ge=2, description="Points.")


class Part(Config):
    """One of several."""

    grid: Grid = Grid()
    weight: float = Field(default=1.0, ge=0, description="Its weight.")


class Whole(Config):
    """All of it."""

    parts: dict[str, Part] = Field(default={}, description="Parts by name.")
    side: int = Field(default=3, description="Of the whole.")


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """Config and invocation of a command line."""
    presets = tmp_path_factory.mktemp("presets")
    (presets / "default.yaml").write_text("side: 3")
    train = Command(name="train", help="Train.", run=lambda config, call: None)
    about = {"name": "whole", "version": "1", "help": "A whole."}
    app = App(**about, config=Whole, presets=presets, commands=(train,))
    return lambda *words: resolve_call(app, train, words)


def test_flags_and_files_lay_single_keys_over_each_other(call, tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("parts: {left: {grid: {side: 4}, weight: 2}, right: {weight: 0.5}}")
    config, invocation = call("--config", str(file), "--parts.left.weight=3")
    assert (config.parts["left"].grid.side, config.parts["left"].weight) == (4, 3.0)
    assert (config.parts["right"].grid.side, config.parts["right"].weight) == (8, 0.5)
    assert list(config.parts) == ["left", "right"]
    assert {"parts.left.weight", "parts.right.weight"} <= set(invocation.explicit)


def test_without_any_there_is_none(call):
    assert call()[0].parts == {}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--parts.left.grid.side=1"],
            "parts.left.grid.side: expected an integer, at least 2; found 1",
        ),
        (["--parts.left.grid.sides=4"], "--parts.left.grid.sides: unknown key; did you mean"),
        (
            ["--parts.left=4"],
            "--parts.left: expected a section, with keys such as --parts.left.weight",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_key(call, words, told):
    with pytest.raises(InputError) as caught:
        call(*words)
    assert told in str(caught.value)


@pytest.mark.parametrize("empty", [{}, None])
def test_a_name_without_keys_is_refused(empty):
    with pytest.raises(InputError, match=r"parts\.left: expected a section, with keys such as"):
        parse_config(Whole, {"parts": {"left": empty}}, source="my.yaml")


def test_a_stored_config_comes_back_and_takes_single_keys(call):
    config = parse_config(Whole, {"parts": {"left": {"weight": 2}}}, source="my.yaml")
    stored = json.loads(config.model_dump_json())
    assert parse_config(Whole, stored, source="run") == config
    given, _ = call("--parts.left.grid.side=5")
    resumed = resumed_config(given, stored, explicit=["parts.left.grid.side"], source="run")
    assert (resumed.parts["left"].grid.side, resumed.parts["left"].weight) == (5, 2.0)


def test_help_lists_the_keys_that_a_named_section_has():
    rows = {section.path: rows for section, rows in key_groups(Keys(Whole), Whole())}
    assert [row[0] for row in rows["parts"]] == ["--parts.NAME.grid.side", "--parts.NAME.weight"]
    assert rows["parts"][0][2] == "Points. [default: 8]"
