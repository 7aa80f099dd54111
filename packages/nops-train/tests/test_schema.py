"""Layouts of checkpoints: migrated in order, refused by name where nothing leads on."""

import pytest
from nops_train import CheckpointError, initialise_from, load_weights, save_checkpoint
from nops_train import _checkpoint_schema as schema
from nops_train._checkpoint_schema import migrate


def to_one(state):
    """Version 0 kept the position flat and called the average by another name."""
    state = dict(state)
    epoch, batch, step, seed = state.pop("where")
    position = {"epoch": epoch, "batch": batch, "step": step, "seed": seed}
    return {**state, "ema": state.pop("mean_weights"), "position": position}


def as_version_zero(state):
    position = state["position"]
    old = {key: value for key, value in state.items() if key not in ("position", "ema")}
    where = [position[key] for key in ("epoch", "batch", "step", "seed")]
    return {**old, "schema": 0, "where": where, "mean_weights": state["ema"]}


def test_migrations_are_applied_in_order_and_leave_their_input_alone():
    steps = {
        2: lambda state: {**state, "path": [*state["path"], 2]},
        1: lambda state: {**state, "path": [*state["path"], 1]},
        0: lambda state: {**state, "path": [*state["path"], 0]},
    }
    old = {"schema": 0, "path": []}
    new = migrate(old, where="a.pt", migrations=steps, schema=3)
    assert new == {"schema": 3, "path": [0, 1, 2]}
    assert old == {"schema": 0, "path": []}
    later = migrate({"schema": 2, "path": []}, where="a.pt", migrations=steps, schema=3)
    assert later["path"] == [2]


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (4, r"a\.pt: schema version is 4, this version reads up to 3.*newer nops-train"),
        (0, r"a\.pt: schema version is 0, and nothing leads from 0 to 1; .* reads 1 to 3"),
        (None, r"a\.pt: schema version is None, expected an integer"),
        (True, r"a\.pt: schema version is True, expected an integer"),
    ],
)
def test_what_cannot_be_migrated_is_refused_by_name(version, message):
    steps = {1: dict, 2: dict}
    with pytest.raises(CheckpointError, match=message):
        migrate({"schema": version}, where="a.pt", migrations=steps, schema=3)


def test_a_run_of_an_older_layout_goes_on(toy, tmp_path, monkeypatch):
    settings = toy.config(epochs=3, ema_decay=0.9)
    whole = toy.engine_run(tmp_path / "whole", settings)
    toy.engine_run(tmp_path, toy.config(epochs=2, ema_decay=0.9))
    made = toy.engine(tmp_path, settings=settings, resume="force")
    folder = made.run.checkpoints
    old = as_version_zero(folder.load("epoch_2.pt"))
    folder.save("epoch_2.pt", old)
    with pytest.raises(CheckpointError, match="nothing leads from 0 to 1"):
        made.fit(toy.train, toy.valid)
    monkeypatch.setitem(schema.MIGRATIONS, 0, to_one)
    made = toy.engine(tmp_path, settings=settings, resume="force")
    made.fit(toy.train, toy.valid)
    assert made.state.step == 15
    assert toy.same(dict(whole.net.state_dict()), dict(made.net.state_dict()))
    assert folder.load("epoch_2.pt")["schema"] == 0  # the file itself is left alone


def test_weights_of_an_older_layout_are_read(toy, tmp_path, monkeypatch):
    made = toy.engine_run(tmp_path, toy.config(ema_decay=0.9))
    new = made.run.checkpoints.load("epoch_2.pt")
    save_checkpoint(tmp_path / "old.pt", as_version_zero(new))
    monkeypatch.setitem(schema.MIGRATIONS, 0, to_one)
    a, b, c = toy.Model(), toy.Model(), toy.Model()
    load_weights(a, made.run.path / "checkpoints/epoch_2.pt")
    assert load_weights(b, tmp_path / "old.pt") == new["position"]
    initialise_from(c, tmp_path / "old.pt", strict=True)
    assert toy.same(dict(a.state_dict()), dict(b.state_dict()))
    assert toy.same(dict(a.state_dict()), dict(c.state_dict()))
