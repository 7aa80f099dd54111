import warnings

import pytest
from nops_schedules import FlexibleLossScheduler, SchedulerParams, rename_legacy_losses

OLD = {
    "recMSE": "recFieldError",
    "reconstruction_mse": "recFieldError",
    "lossRecMSE": "recFieldError",
    "predMSE": "predFieldError",
    "prediction_mse": "predFieldError",
    "lossPredMSE": "predFieldError",
    "reconstruction_lsim": "recLSIM",
    "prediction_lsim": "predLSIM",
}


@pytest.mark.parametrize("name", OLD)
def test_each_old_name_is_told_once(name):
    with pytest.warns(DeprecationWarning, match=f"'{name}' is called '{OLD[name]}' now") as told:
        assert rename_legacy_losses({name: 0.3, "regDiv": 1.0}) == {OLD[name]: 0.3, "regDiv": 1.0}
    assert len(told) == 1
    assert told[0].filename == __file__
    assert ("became the field error" in str(told[0].message)) == ("mse" in name.lower())


def test_names_of_today_are_kept_in_silence():
    given = {"predFieldError": 1.0, "spectrumError": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rename_legacy_losses(given) == given
    assert rename_legacy_losses(given) is not given


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("first", "second"),
    [("predMSE", "predFieldError"), ("predFieldError", "predMSE"), ("recMSE", "lossRecMSE")],
)
def test_two_names_of_one_component(first, second):
    with pytest.raises(ValueError, match=f"'{first}' and '{second}' are the same"):
        rename_legacy_losses({first: 1.0, second: 0.5})


def test_a_schedule_takes_old_names():
    with pytest.warns(DeprecationWarning, match="MSE' is called") as told:
        params = SchedulerParams(enabled=True, source_components={"recMSE": True, "predMSE": True})
    assert len(told) == 2
    assert told[0].filename == __file__
    assert params == SchedulerParams(enabled=True)
    weights = FlexibleLossScheduler(params).get_loss_weights()
    assert [*weights] == ["recFieldError", "predFieldError", "spectrumError"]


def test_roles_take_old_names():
    with pytest.warns(DeprecationWarning, match="'predMSE' is called") as told:
        params = SchedulerParams(
            roles={"a": ["predMSE"], "b": ["s"]}, waypoints=[{"a": 1, "b": 0}, {"a": 0, "b": 1}]
        )
    assert params.roles == {"a": ("predFieldError",), "b": ("s",)}
    assert told[0].filename == __file__


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_role_may_not_name_one_component_twice():
    ends = [{"a": 1, "b": 0}, {"a": 0, "b": 1}]
    with pytest.raises(ValueError, match="'predMSE' and 'predFieldError' are the same"):
        SchedulerParams(roles={"a": ["predMSE", "predFieldError"], "b": ["s"]}, waypoints=ends)
