"""Commands that an app names are there."""

import importlib
import pkgutil
from typing import Any

import pytest

APPS = ("noa", "turbulence", "upt_inverse", "phys_smpl", "pinn_weighting")


@pytest.mark.parametrize("name", APPS)
def test_what_a_command_names_is_a_function(name: str) -> None:
    app: Any = importlib.import_module(f"{name}.cli").app()
    named = [command.run for command in app.commands if isinstance(command.run, str)]
    assert named
    assert all(callable(pkgutil.resolve_name(run)) for run in named)
