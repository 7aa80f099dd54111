"""Pytest plugin, loaded through its entry point wherever nops-testing is installed.

It checks the jaxtyping annotations of all packages while they are tested, loads one hypothesis
profile, keeps torch on one thread so that a run does not depend on the number of cores, and shares
the tests among workers so that dear fixtures are made once.
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch when it is first imported

import jaxtyping
from hypothesis import HealthCheck, settings

import nops_testing.typecheck  # noqa: F401 - jaxtyping finds it by name, importing only the top

CHECKED = (
    "nops_losses",
    "nops_models",
    "nops_physics",
    "nops_diagnostics",
    "nops_schedules.gradient",
)

settings.register_profile(
    "nops",
    deadline=None,  # the first call of torch alone breaks the 200 ms default
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("nops")


def pytest_configure(config: pytest.Config) -> None:
    """Install the import hook before any test module imports a package.

    The conftest of a folder that is itself named on the command line, such as `packages/nops-losses/tests`,
    is imported before: those tests run without the checks, as `nox -s isolated` does.
    """
    jaxtyping.install_import_hook(CHECKED, "nops_testing.typecheck.check")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under `--dist loadfile`, the setting of this workspace, also keep an app's tests together."""
    if config.getoption("dist") != "loadfile":
        return None
    from nops_testing.scheduling import Together

    return Together(config, log)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Switch shape annotations off, so that a function's own error is what is raised."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
