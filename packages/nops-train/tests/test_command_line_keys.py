import runpy
from pathlib import Path
from typing import Annotated, Literal

import pytest
from nops_train._command_line_keys import Keys, describe, value_at
from pydantic import BaseModel, Field

TOY = runpy.run_path(str(Path(__file__).with_name("toy_app.py")))
KEYS = Keys(TOY["ToyConfig"])


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "an integer"),
        (bool, "true or false"),
        (Annotated[int, Field(ge=1, le=8)], "an integer, at least 1, at most 8"),
        (Annotated[float | None, Field(gt=0, lt=1)], "a number or null, above 0, below 1"),
        (Literal["a", "b"], "one of a, b"),
        (Literal["a"], "a"),
        (Literal["auto"] | int, "auto or an integer"),
        (tuple[int, ...], "a list (each an integer)"),
        (tuple[float, float], "a list of 2 (each a number)"),
        (list, "list"),
        (dict[str, int], "a section with keys of its own"),
        (Annotated[str, Field(min_length=1)], "text, at least 1 characters long"),
        (Annotated[list[str], Field(max_length=3)], "a list (each text), at most 3 long"),
        (Annotated[int, Field(multiple_of=8)], "an integer, a multiple of 8"),
        (Path, "Path"),
    ],
)
def test_types_are_told_in_words(annotation, words):
    assert describe(annotation) == words


def test_keys_and_sections_are_found_by_path():
    assert KEYS.find("train.epochs").default == 25
    assert KEYS.find("train.epochs").section == "train"
    assert KEYS.find("loss.latent.weight").name == "weight"
    assert KEYS.find("extra.anything").annotation is float
    assert KEYS.find("train.gone") is None
    assert KEYS.find("train") is None
    assert KEYS.sections["alignment"].optional
    assert KEYS.sections["weighting"].tag == "kind"
    assert KEYS.sections["weighting"].names_of("ramp") == ["kind", "start", "stop"]
    assert KEYS.sections["rollout"].description == "Windows of back-propagation."  # of the class
    assert KEYS.sections["train"].description == "Optimisation."  # of the field


def test_a_key_of_two_kinds_takes_the_values_of_both():
    assert describe(KEYS.find("weighting.kind").annotation) == "constant or ramp"


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("train.window", "did you mean rollout.window?"),  # the same name elsewhere comes first
        ("weight", "did you mean loss.latent.weight?"),
        ("seed", "did you mean data.seed or train.seed?"),
        ("train.epoch", "did you mean loss.traj?"),  # then another spelling
        ("train.learning_rat", "did you mean train.learning_rate?"),  # then one beside it
        ("tran.lerning_rate", "did you mean train.learning_rate?"),  # then one of like path
        ("loss.warmup_step", "did you mean train.warmup_steps?"),  # then any of like name
        ("rollout.zzz", "keys of rollout: mode, window, num_pushforward"),
    ],
)
def test_the_nearest_key_is_named(path, advice):
    assert KEYS.advice(path, words={"epoch": "loss.traj"}) == advice


def test_a_kind_may_be_told_by_a_union_within_a_union():
    class A(BaseModel):
        """A."""

        kind: Literal["a"] = "a"

    class B(BaseModel):
        """B."""

        kind: Literal["b"] = "b"

    class Whole(BaseModel):
        """Whole."""

        part: Annotated[A | B, Field(discriminator="kind")] | None = None

    keys = Keys(Whole)
    assert (keys.sections["part"].tag, keys.sections["part"].optional) == ("kind", True)
    assert value_at(Whole(), "part.kind") is None
    assert value_at(Whole(part=B()), "part.kind") == "b"
    assert value_at({"part": {"kind": "a"}}, "part.kind") == "a"
