"""What the default preset shows, trained in full: some minutes, so `nox -s nightly` alone runs it."""

import pytest
from turbulence.cli import main
from turbulence.comparison import Scored, firsts, scored_runs
from turbulence.replay import replayed_schedule

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scored]:
    """The default's runs by arm, with data made for them."""
    folder = tmp_path_factory.mktemp("default")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "--train.device=cpu"]) == 0
    return firsts(scored_runs([folder / "runs" / "turbulence" / "default"]))


def test_the_schedule_halves_the_spectral_error_at_little_cost(arms: dict[str, Scored]) -> None:
    ours, base = (arms[name].evaluation.figures() for name in ("schedule", "field"))
    assert ours["log_spectrum_error"] <= 0.5 * base["log_spectrum_error"]
    assert ours["field_error"] <= 1.2 * base["field_error"]
    persistence = arms["field"].evaluation.figures("persistence")["one_step_field_error"]
    for arm in (ours, base):
        assert arm["one_step_field_error"] <= 0.5 * persistence
    replay = replayed_schedule(arms["schedule"].run, arms["schedule"].config)
    assert replay is not None
    assert any(event.kind == "adaptation" for event in replay.events)


def test_the_report_is_there_with_the_static_mix_in_it(arms: dict[str, Scored]) -> None:
    assert list(arms) == ["field", "static", "schedule"]
    page = (arms["schedule"].run.path.parent / "report.html").read_text()
    assert "Against static" in page
