"""The package's front: lazy, sorted, complete."""

import subprocess
import sys

import nops_train
import pytest


def test_names_are_sorted_and_load():
    assert nops_train.__all__ == sorted(nops_train.__all__)
    for name in nops_train.__all__:
        found = getattr(nops_train, name)
        assert getattr(found, "__name__", name) == name  # a union of types has none
    assert set(nops_train.__all__) <= set(dir(nops_train))
    with pytest.raises(AttributeError, match="has no attribute 'Engin'"):
        nops_train.Engin  # noqa: B018


def test_importing_it_does_not_import_torch():
    code = (
        "import sys, nops_train; from nops_train import TrainConfig, App, run_cli, InputError; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
