"""Which tests stay together."""

import pytest
from nops_testing.plugin import pytest_xdist_make_scheduler
from nops_testing.scheduling import Together


@pytest.fixture
def config(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> pytest.Config:
    """That of two workers."""
    monkeypatch.setattr(pytestconfig.option, "tx", ["2*popen"])
    monkeypatch.setattr(pytestconfig.option, "dist", "loadfile")
    return pytestconfig


@pytest.mark.parametrize(
    ("test", "together"),
    [
        ("packages/a/tests/test_b.py::TestC::test_d[x::y]", "packages/a/tests/test_b.py"),
        ("apps/noa/tests/test_b.py::test_d", "apps/noa"),
        ("apps/noa/tests/faults/test_b.py::test_d", "apps/noa"),
        ("tests/test_b.py::test_d", "tests/test_b.py"),
    ],
)
def test_a_file_or_an_app(config: pytest.Config, test: str, together: str) -> None:
    assert Together(config)._split_scope(test) == together


def test_another_distribution_is_left_alone(
    config: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(pytest_xdist_make_scheduler(config, None), Together)
    monkeypatch.setattr(config.option, "dist", "worksteal")
    assert pytest_xdist_make_scheduler(config, None) is None
