"""What is watched: by name, dotted key, expression, callable; and what is said when it is not there."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nops_schedules import FlexibleLossScheduler, SchedulerParams
from nops_schedules._monitor import read_monitor

METRICS = {
    "field_error": 0.5,
    "val_loss": 2.0,
    "valid": {"loss": 3.0, "deep": {"er": 4.0}},
    "a.b": 5.0,
    "x/y": 6.0,
    "x": 8.0,
    "y": 2.0,
}


def read(monitor, metrics=METRICS):
    return read_monitor(
        monitor, metrics, field="monitor_metric", aliases={"source_loss": "field_error"}
    )


@pytest.mark.parametrize(
    ("monitor", "value"),
    [
        ("field_error", 0.5),
        ("source_loss", 0.5),
        ("valid.loss", 3.0),
        ("valid.deep.er", 4.0),
        ("a.b", 5.0),
        ("x/y", 6.0),  # an exact key, and no quotient
        ("x / y", 4.0),
        ("2*x - y", 14.0),
        ("-(x + 1.5) * 2", -19.0),
        ("0.25*source_loss + valid.deep.er/a.b", 0.925),
        (lambda metrics: metrics["x"] ** 2, 64.0),
    ],
)
def test_reads(monitor, value):
    assert read(monitor) == value


@pytest.mark.parametrize("monitor", ["x/0", "1/(y - 2)", "x/(y-y)"])
def test_division_by_zero_is_nan(monitor):
    assert math.isnan(read(monitor))


def test_whole_numbers_without_end_are_infinite():
    assert read("x", {"x": 10**400}) == math.inf


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ("val_los", "'val_los' is not among the metrics .* Did you mean 'val_loss'?"),
        ("valid.lost", "'valid.lost' is not among the metrics .* Did you mean 'valid.loss'?"),
        ("x + vall", r"'vall' is not among the metrics \['a.b', 'field_error', 'val_loss', "),
        ("valid", "'valid' must be a number, got {'loss'"),
        ("no python", "'no python' is not among"),
        ("x ** y", r"found 'x \*\* y'"),
        ("__import__('os').system('true')", "an expression holds names"),
        ("abs(x)", r"found 'abs\(x\)'"),
        ("x if y else 1", "an expression holds names"),
        ("x + True", "found 'True'"),
        ("x + 'y'", "an expression holds names"),
        ("x[0]", "an expression holds names"),
        ("+".join(["x"] * 400), "is not among"),
        ("(" * 200 + "x" + ")" * 200, "is not among|an expression"),
    ],
)
def test_refuses(monitor, message):
    with pytest.raises(ValueError, match=f"(?s)monitor_metric.*({message})"):
        read(monitor)


def test_a_callable_must_give_a_number():
    def nothing(metrics):
        return None

    with pytest.raises(ValueError, match=r"nothing' must be a number, got None of type NoneType"):
        read(nothing)


@given(a=st.floats(-9, 9), b=st.floats(1, 9), c=st.floats(-9, 9))
def test_an_expression_is_arithmetic(a, b, c):
    found = read("a - b*(c + 2)/b + -c", {"a": a, "b": b, "c": c})
    assert found == a - b * (c + 2) / b + -c


def test_the_guard_is_named_where_it_is_missing():
    settings = SchedulerParams(enabled=True, guard_metric="field_eror")
    with pytest.raises(
        ValueError, match=r"guard_metric 'field_eror' .* Did you mean 'field_error'"
    ):
        FlexibleLossScheduler(settings).step(0, {"spectrum_error": 1.0, "field_error": 1.0})


def test_a_missing_metric_is_told_at_the_first_validation_warm_up_or_not():
    scheduler = FlexibleLossScheduler(SchedulerParams(enabled=True, monitor_metric="val_los"))
    with pytest.raises(ValueError, match="Did you mean 'val_loss'"):
        scheduler.step(0, {"val_loss": 1.0})
    assert scheduler.get_scheduler_state()["epoch"] is None  # nothing was noted


@pytest.mark.parametrize("word", ["target_loss", "source_loss"])
def test_the_words_for_the_two_losses(word):
    settings = SchedulerParams(
        enabled=True, monitor_metric=word, source_loss="mine", target_loss="yours", warmup_epochs=0
    )
    scheduler = FlexibleLossScheduler(settings)
    scheduler.step(10, {"mine": 0.25, "yours": 0.75})
    assert scheduler.smoothed == {"source_loss": 0.25, "target_loss": 0.75}[word]
