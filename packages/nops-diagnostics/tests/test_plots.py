"""Plots hold the data they are given, with labels and units, and touch nothing global."""

import math
import re
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import nops_diagnostics
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from nops_diagnostics import (
    correlation_time,
    flow_drift,
    lead_errors,
    lead_mean,
    plot_anisotropic_spectra,
    plot_correlation,
    plot_flow_drift,
    plot_lead_errors,
    plot_metric,
    plot_proper_modes,
    plot_rollout,
    plot_schedule,
    plot_skill,
    plot_spectra,
    plot_temporal_spectrum,
    plot_training,
    read_series,
    rollout_scores,
)
from nops_diagnostics._figure import PALETTE, png_bytes
from nops_losses import energy_spectrum


def lines(figure: Figure, axes: int = 0) -> dict[str, np.ndarray]:
    """Data `[point, 2]` of each labelled line of one panel."""
    panel = figure.axes[axes]
    return {str(line.get_label()): np.asarray(line.get_xydata()) for line in panel.lines}


@pytest.fixture(scope="module")
def scores(fields):
    path = fields(0, 5, 9, 2, 8, 8).cumsum(1)
    pred = path[:, 1:] + 0.3 * fields(1, 5, 8, 2, 8, 8)
    mean = lead_mean(path[:, 1:])
    return rollout_scores(pred, path[:, 1:], initial=path[:, 0], mean=mean, bootstrap=100)


def draw(figure: Figure) -> None:
    """Go through every artist, as writing a file does."""
    figure.canvas.draw()


def event(kind: str, step: int, **fields) -> dict:
    return {"event": kind, "epoch": 0, "step": step, "batch": step, **fields}


def training_log() -> list[dict]:
    log = []
    for step in range(5):
        raw = {"traj": 1.0 / (step + 1), "ic": 2.0 / (step + 1)}
        log.append(
            event(
                "train",
                step,
                raw=raw,
                weight={"traj": 1.0, "ic": 0.5},
                weighted={"traj": raw["traj"], "ic": 0.5 * raw["ic"]},
                learning_rate=1e-3 * (5 - step),
                gradient_norm=3.0 + step,
            )
        )
    log.append(event("skipped", 3, terms=["ic"], in_row=1))
    log.append(event("validation", 5, metrics={"nmse": 0.25}, best=True))
    log.append(event("validation", 9, metrics={"nmse": 0.5}, best=False))
    log.append(event("epoch", 5, raw={"traj": 0.5, "ic": 1.0}, gradient_norm=5.0))
    log.append(event("checkpoint", 5, path="step_5.pt"))
    return log


def test_skill_holds_every_baseline_with_its_band(scores):
    figure = plot_skill(scores)
    held = lines(figure)
    for name, estimate in scores.skill.items():
        np.testing.assert_array_equal(held[f"over {name}"][:, 0], scores.lead_times)
        np.testing.assert_array_equal(held[f"over {name}"][:, 1], estimate.value)
    bands = figure.axes[0].collections
    assert len(bands) == len(scores.skill) == 3
    corners = np.concatenate([path.vertices for path in bands[1].get_paths()])
    persistence = scores.skill["persistence"]
    assert corners[:, 1].min() == persistence.low.min()
    assert corners[:, 1].max() == persistence.high.max()
    assert figure.axes[0].get_xlabel() == "lead time (steps)"


def test_leads_in_physical_time(scores):
    figure = plot_skill(scores, frame_interval=0.25, time_unit="s")
    assert figure.axes[0].get_xlabel() == "lead time (s)"
    np.testing.assert_allclose(lines(figure)["over zero"][:, 0], np.arange(1, 9) * 0.25)


def test_a_skill_far_below_says_that_it_leaves_the_panel(scores, fields):
    path = fields(2, 4, 4, 1, 8, 8)
    bad = rollout_scores(9 * path[:, 1:], path[:, 1:], initial=path[:, 0], bootstrap=10)
    panel = plot_skill(bad).axes[0]
    assert panel.get_ylim()[0] > -1.2
    assert [text.get_text() for text in panel.texts] == ["part of a curve lies below −1"]
    assert list(plot_skill(scores).axes[0].texts) == []


@pytest.mark.parametrize("metric", ["nmse", "mse", "vrmse", "relative_l2", "spectrum_error"])
def test_metric_holds_model_and_baselines(scores, metric):
    figure = plot_metric(scores, metric=metric)
    held = lines(figure)
    np.testing.assert_array_equal(held["model"][:, 1], scores.metrics[metric].value)
    rivals = {name for name, rival in scores.baselines.items() if metric in rival}
    assert held.keys() == rivals | {"model"}
    for name in rivals:
        np.testing.assert_array_equal(held[name][:, 1], scores.baselines[name][metric].value)


def test_metric_axis_names_metric_and_unit(scores):
    assert plot_metric(scores, metric="mse", unit="K²").axes[0].get_ylabel() == "MSE (K²)"
    assert plot_metric(scores).axes[0].get_ylabel() == "NMSE"
    with pytest.raises(ValueError, match=r"metric='rmse'.*'nmse'"):
        plot_metric(scores, metric="rmse")


def test_correlation_holds_curve_crossing_and_interval(waves):
    phase = 0.25 * torch.arange(1, 9)[None] * torch.tensor([0.8, 1.0, 1.3])[:, None]
    result = correlation_time(waves(phase), waves(0 * phase), frame_interval=0.5)
    figure = plot_correlation({"model": result}, frame_interval=0.5, time_unit="s")
    held = lines(figure)["model"]
    np.testing.assert_allclose(held[:, 0], np.arange(9) * 0.5)
    np.testing.assert_allclose(held[:, 1], [1.0, *result.curve])
    container = figure.axes[0].containers[0]
    assert container[0].get_xydata().tolist() == [[result.time, 0.8]]
    segment = container[2][0].get_segments()[0]
    np.testing.assert_allclose(segment[:, 0], [result.low, result.high])


def test_training_holds_raw_weight_and_weighted():
    figure = plot_training(training_log())
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [
        "Raw terms",
        "Weights",
        "Weighted terms",
        "Validation",
        "Learning rate",
        "Gradient norm",
    ]
    drawn = [[np.asarray(line.get_xydata()) for line in axes.lines] for axes in figure.axes]
    steps = np.arange(5.0)
    np.testing.assert_allclose(drawn[0][0], np.stack([steps, 1 / (steps + 1)], 1))
    np.testing.assert_allclose(drawn[0][1], np.stack([steps, 2 / (steps + 1)], 1))
    assert drawn[0][2].tolist() == [[5.0, 0.5]]  # the epoch's mean
    np.testing.assert_allclose(drawn[1][1][:, 1], 0.5)
    total = next(d for d in drawn[2] if len(d) and d[0, 1] == 2.0)
    np.testing.assert_allclose(total[:, 1], 2 / (steps + 1))
    assert drawn[3][0].tolist() == [[5.0, 0.25], [9.0, 0.5]]
    best = next(line for line in figure.axes[3].lines if line.get_label() == "best")
    assert list(best.get_xdata()) == [5, 5]
    np.testing.assert_allclose(drawn[4][0][:, 1], 1e-3 * (5 - steps))
    np.testing.assert_allclose(drawn[5][0][:, 1], 3.0 + steps)
    skipped = next(line for line in figure.axes[5].lines if line.get_label() == "1 skipped")
    assert list(skipped.get_xdata()) == [3]
    assert {text.get_text() for text in figure.axes[0].get_legend().texts} == {"traj", "ic"}
    assert all(axes.get_xlabel() == "optimizer step" for axes in figure.axes)


@pytest.mark.parametrize(("terms", "below"), [(4, False), (7, True)])
def test_many_names_stand_below_their_panel(terms, below):
    log = [
        event("train", step, raw={f"term_{i}": 1.0 + i + step for i in range(terms)})
        for step in range(5)
    ]
    figure = plot_training(log)
    figure.draw_without_rendering()
    panel = figure.axes[0]
    legend = panel.get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == terms
    assert (legend.get_window_extent().y1 < panel.get_window_extent().y0) == below
    assert (
        panel.get_window_extent().height > 1.4 * figure.dpi
    )  # the figure grows, not the panel shrinks
    assert legend.get_window_extent().y0 >= 0


def test_panels_without_events_are_left_out():
    only = [e for e in training_log() if e["event"] == "validation"]
    figure = plot_training(only)
    assert [a.get_title(loc="left") for a in figure.axes if a.get_visible()] == ["Validation"]
    empty = plot_training([{"event": "checkpoint"}, {"event": "train", "step": 1}])
    assert empty.axes[0].texts[0].get_text() == "no training events recorded"


def test_values_that_are_no_numbers_leave_a_gap():
    log = [
        event("train", 0, raw={"traj": 1.0}),
        event("train", 1, raw={"traj": "NaN"}),
        event("train", 2, raw={"traj": None}),
        event("train", 3, raw={"traj": "Infinity", "new": 2.0}),
    ]
    series = read_series(log, kind="train", key="raw")
    assert series["traj"].step == (0, 1, 2, 3)
    assert series["traj"].value[0] == 1.0
    assert all(math.isnan(v) for v in series["traj"].value[1:3])
    assert series["traj"].value[3] == math.inf
    assert series["new"].step == (3,)
    draw(plot_training(log))


def test_rollout_shows_truth_rollout_and_error(fields):
    target, pred = fields(3, 6, 8, 8), fields(4, 6, 8, 8)
    figure = plot_rollout(pred, target, lead_times=(1, 4, 6), field_name="u", unit="m/s")
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == 9
    for column, lead in enumerate((1, 4, 6)):
        truth, rollout, error = (images[3 * row + column] for row in range(3))
        np.testing.assert_array_equal(truth.get_array(), target[lead - 1])
        np.testing.assert_array_equal(rollout.get_array(), pred[lead - 1])
        np.testing.assert_array_equal(error.get_array(), pred[lead - 1] - target[lead - 1])
        relative = float((pred - target)[lead - 1].norm() / target[lead - 1].norm())
        assert figure.axes[6 + column].get_xlabel() == f"rel. L2 {relative:.2f}"
    assert len({image.get_clim() for image in images[:6]}) == 1
    shown = target[[0, 3, 5]]
    assert images[0].get_clim() == (float(shown.min()), float(shown.max()))
    low, high = images[6].get_clim()
    assert low == -high
    assert {axes.get_ylabel() for axes in figure.axes} >= {"u (m/s)", "rollout − truth (m/s)"}
    assert [a.get_title() for a in figure.axes[:3]] == ["lead 1", "lead 4", "lead 6"]


def test_columns_of_a_rollout_have_the_titles_given(fields):
    target = fields(3, 2, 8, 8)
    figure = plot_rollout(target, target, lead_times=(1, 2), titles=("u", "p"))
    assert [a.get_title() for a in figure.axes[:2]] == ["u", "p"]
    with pytest.raises(ValueError, match="titles must be 2"):
        plot_rollout(target, target, lead_times=(1, 2), titles=("u",))


def test_a_diverged_rollout_keeps_the_scale_of_the_truth(fields):
    target = fields(5, 2, 8, 8)
    pred = target.clone()
    pred[1] = 1e6
    pred[1, 0, 0] = math.nan
    pred[1, 0, 1] = -math.inf
    figure = plot_rollout(pred, target, lead_times=(1, 2))
    images = [axes.images[0] for axes in figure.axes if axes.images]
    span = float(target.max() - target.min())
    assert images[2].get_clim() == (float(target.min()), float(target.max()))
    assert images[4].get_clim() == (-span, span)
    assert images[0].colorbar.extend == "both"
    draw(figure)


def test_a_perfect_or_constant_rollout_can_be_drawn():
    target = torch.zeros(2, 8, 8)
    figure = plot_rollout(target, target, lead_times=(1,))
    assert figure.axes[2].get_xlabel() == "rel. L2 –"
    draw(figure)


@pytest.mark.parametrize("grid", [(12, 30), (16, 16), (30, 12)])
@pytest.mark.parametrize("leads", [(1,), (1, 2, 3, 4)])
def test_fields_fill_the_figure_and_no_page(grid, leads):
    target = torch.zeros(4, *grid)
    figure = plot_rollout(target, target, lead_times=leads)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    fields = figure.axes[: 3 * len(leads)]
    boxes = [axes.get_tightbbox() for axes in fields]
    assert min(box.x0 for box in boxes) / figure.dpi < 0.5  # inches left blank
    assert width <= 7.21
    assert height <= 6.51


def test_spectra_hold_the_sample_mean_per_lead(fields):
    target, pred = fields(6, 4, 5, 2, 16, 16), 0.5 * fields(7, 4, 5, 2, 16, 16)
    figure = plot_spectra({"truth": target, "rollout": pred}, lead_times=(1, 5), compensate=5 / 3)
    for panel, lead in enumerate((1, 5)):
        for name, field in (("truth", target), ("rollout", pred)):
            k, energy = energy_spectrum(field[:, lead - 1])
            expected = (energy.mean(0) * k ** (5 / 3))[1:9]
            got = lines(figure, panel)[name]
            np.testing.assert_allclose(got[:, 0], np.arange(1, 9))
            np.testing.assert_allclose(got[:, 1], expected)
        assert len(figure.axes[panel].collections) == 2
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"


def test_spectra_state_their_units(fields):
    field = fields(8, 2, 1, 1, 8, 8)
    named = plot_spectra(
        {"truth": field}, lead_times=(1,), lengths=(2.0, 2.0), unit="m/s", length_unit="m"
    )
    assert named.get_supxlabel() == "wave number (rad / m)"
    assert named.get_supylabel() == "$E(k)$ in (m/s)²"
    simple = plot_spectra({"truth": field}, lead_times=(1,), unit="K", compensate=2)
    assert simple.get_supylabel() == "$k^{2}\\,E(k)$ in K²"
    plain = plot_spectra({"truth": field}, lead_times=(1,))
    assert plain.get_supylabel() == "$E(k)$"
    assert plain.get_supxlabel() == "wave number (cycles per domain)"
    np.testing.assert_allclose(lines(named)["truth"][:, 0], math.pi * np.arange(1, 5))


def test_spectra_of_a_broken_rollout_keep_the_range_of_the_truth(fields):
    target = fields(9, 3, 2, 1, 8, 8)
    for pred in (target * 1e30, target * math.nan, target * 0):
        figure = plot_spectra({"truth": target, "rollout": pred}, lead_times=(1, 2))
        low, high = figure.axes[0].get_ylim()
        assert 1e-6 < low < high < 1e6
        draw(figure)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_names_what_was_found(fields):
    field = fields(10, 3, 2, 1, 8, 8)
    with pytest.raises(ValueError, match="one shape"):
        plot_rollout(field[0, :, 0], field[0, :1, 0], lead_times=(1,))
    with pytest.raises(ValueError, match=r"lead_times=\(3,\).*2 "):
        plot_rollout(field[0, :, 0], field[0, :, 0], lead_times=(3,))
    with pytest.raises(ValueError, match="'rollout': "):
        plot_spectra({"truth": field, "rollout": field[:1]}, lead_times=(1,))
    with pytest.raises(ValueError, match="one or more fields"):
        plot_spectra({}, lead_times=(1,))


def test_nothing_global_is_touched(scores):
    before = dict(matplotlib.rcParams)
    png_bytes(plot_skill(scores))
    draw(plot_training(training_log()))
    assert dict(matplotlib.rcParams) == before


def test_the_same_picture_is_the_same_bytes(scores):
    assert png_bytes(plot_skill(scores)) == png_bytes(plot_skill(scores))


def test_no_module_uses_pyplot():
    sources = list(Path(nops_diagnostics.__file__).parent.glob("*.py"))
    assert len(sources) > 10
    for source in sources:
        assert not re.search(r"import.*pyplot", source.read_text(encoding="utf-8")), source


def test_spectra_of_fields_without_energy_stay_linear():
    zero = torch.zeros(2, 3, 1, 8, 8)
    figure = plot_spectra({"truth": zero, "rollout": zero + 1}, lead_times=(1, 3))
    assert figure.axes[0].get_yscale() == "linear"


def schedule(**changes) -> SimpleNamespace:
    """Seven epochs: warm-up, a move, a pause, a value that was not finite, a move back, held."""
    states = ["WARMUP", "MONITORING", "MONITORING", "PAUSED", "PAUSED", "HELD", "HELD"]
    moved = [0.0, 0.0, 0.1, 0.1, 0.1, 0.0, 0.0]
    kinds = {2: "adaptation", 3: "skipped_nonfinite", 5: "rollback"}
    fields = {
        "epochs": tuple(range(7)),
        "weights": [{"rec": 1 - w, "pred": 1 - w, "spectrum": w} for w in moved],
        "monitored": [0.5, 0.4, 0.4, None, 0.4, 0.4, 0.4],
        "smoothed": [None, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4],
        "thresholds": [None, None, 0.39, None, 0.39, 0.39, 0.39],
        "states": states,
        "events": [SimpleNamespace(kind=kind, epoch=epoch) for epoch, kind in kinds.items()],
    }
    return SimpleNamespace(**{**fields, **changes})


def test_a_schedule_holds_its_weights_and_what_decided():
    figure = plot_schedule(schedule(), metric="spectrum error")
    above, below = lines(figure, 0), lines(figure, 1)
    np.testing.assert_array_equal(above["rec\npred"][:, 1], [1, 1, 0.9, 0.9, 0.9, 1, 1])
    np.testing.assert_array_equal(above["spectrum"][:, 1], [0, 0, 0.1, 0.1, 0.1, 0, 0])
    np.testing.assert_array_equal(below["as measured"][:, 1], [0.5, 0.4, 0.4, math.nan, *[0.4] * 3])
    np.testing.assert_array_equal(below["smoothed"][:, 1], [math.nan, *[0.4] * 6])
    np.testing.assert_array_equal(below["threshold"], [[e, 0.39] for e in (2, 4, 5, 6)])
    assert above["adapted (1)"][:, 0] == [2]
    assert above["not finite (1)"][:, 0] == [3]
    assert above["rolled back (1)"][:, 0] == [5]
    assert "complete" not in above
    assert figure.axes[1].get_ylabel() == "spectrum error"
    assert figure.axes[1].get_xlabel() == "epoch"
    draw(figure)


def test_a_schedule_shades_the_states_in_which_nothing_moves():
    figure = plot_schedule(schedule())
    bands = [(p.get_x(), p.get_x() + p.get_width()) for p in figure.axes[0].patches]
    assert bands == [(-0.5, 0.5), (2.5, 4.5), (4.5, 6.5)]
    named = figure.axes[0].get_legend_handles_labels()[1]
    assert {"warm-up", "paused", "held"} <= set(named)


def test_the_end_of_a_schedule_is_a_line_through_both_panels():
    ended = schedule(events=[SimpleNamespace(kind="complete", epoch=4)])
    figure = plot_schedule(ended)
    for axes in figure.axes:
        assert [4, 4] in [list(np.asarray(line.get_xdata())) for line in axes.lines]
    assert "complete" in lines(figure, 0)


def test_a_schedule_without_epochs_or_components():
    nothing = schedule(**dict.fromkeys(vars(schedule()), ()))
    assert plot_schedule(nothing).axes[0].texts[0].get_text() == "no epoch recorded"
    draw(plot_schedule(schedule(weights=[{}] * 7)))
    draw(plot_schedule(schedule(thresholds=[None] * 7, monitored=[None] * 7)))


def test_a_name_looks_alike_wherever_it_is_drawn(fields):
    order = ("truth", "persistence", "field", "schedule")
    target = fields(0, 3, 4, 2, 16, 16)
    pred = target + 0.1 * fields(1, 3, 4, 2, 16, 16)
    models = {"schedule": pred, "other": pred, "field": pred}
    spectra = {"truth": target, **models}
    errors = {name: lead_errors(held, target, bootstrap=5) for name, held in models.items()}
    options = {"frame_interval": 1.0, "bootstrap": 5}
    curves = {name: correlation_time(held, target, **options) for name, held in models.items()}
    drifts = {name: flow_drift(held, target) for name, held in models.items()}
    figures = [
        plot_spectra(spectra, lead_times=(1, 4), order=order),
        plot_anisotropic_spectra(spectra, order=order),
        plot_temporal_spectrum(spectra, frame_interval=1.0, order=order),
        plot_proper_modes(spectra, order=order),
        plot_lead_errors(errors, order=order),
        plot_correlation(curves, frame_interval=1.0, order=order),
        plot_flow_drift(drifts, order=order),
    ]
    looks: dict[str, set] = {}
    for figure in figures:
        drawn = [line for axes in figure.axes for line in axes.lines]
        found = [line for line in drawn if line.get_label() in spectra]
        assert {line.get_label() for line in found} >= models.keys()
        for line in found:
            look = (line.get_color(), line.get_linestyle())
            looks.setdefault(str(line.get_label()), set()).add(look)
    assert {name: len(found) for name, found in looks.items()} == dict.fromkeys(spectra, 1)
    assert looks["truth"] == {(PALETTE[0], "-")}
    assert [next(iter(looks[name]))[0] for name in ("field", "schedule", "other")] == [
        *PALETTE[2:5]
    ]
