"""The file that an evaluation leaves for reports."""

import pytest
import torch
from nops_train import InputError, RunFolder, keep_evaluation, kept_evaluation

AGAIN = "toy evaluate runs/toy/a"


@pytest.fixture
def run(tmp_path):
    return RunFolder.open(tmp_path, app="toy", name="a", config={})


def test_what_is_kept_is_read(run):
    keep_evaluation(run, {"error": torch.tensor([1.0, 2.0]), "levels": {0.8: 3}})
    total = kept_evaluation(
        run, lambda held: held["error"].sum() + held["levels"][0.8], again=AGAIN
    )
    assert total == 6.0
    keep_evaluation(run, {"error": 4}, name="other.pt")
    assert kept_evaluation(run, dict, again=AGAIN, name="other.pt") == {"error": 4}
    assert sorted(path.name for path in run.path.glob("*.pt")) == ["evaluation.pt", "other.pt"]


def test_what_is_missing_damaged_or_of_another_layout_names_the_command(run):
    with pytest.raises(InputError, match=r"a: not evaluated yet; `toy evaluate runs/toy/a` does"):
        kept_evaluation(run, dict, again=AGAIN)
    keep_evaluation(run, {"error": 1})
    anew = r"evaluation\.pt: .*`toy evaluate runs/toy/a` writes it anew"
    with pytest.raises(InputError, match=rf"{anew}") as caught:
        kept_evaluation(run, lambda held: held["errors"], again=AGAIN)
    assert "cannot be read (KeyError: 'errors')" in str(caught.value)
    with pytest.raises(ZeroDivisionError):  # a fault of ours is no fault of the file
        kept_evaluation(run, lambda held: held["error"] / 0, again=AGAIN)
    path = run.path / "evaluation.pt"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=anew):
        kept_evaluation(run, dict, again=AGAIN)
