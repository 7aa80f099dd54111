"""Any edit of a valid config validates, or is refused by the name of the key."""

import runpy
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from nops_train._command_line import resolve_call
from nops_train._command_line_layers import parse_config
from nops_train._command_line_yaml import dump_yaml, parse_yaml
from nops_train._errors import InputError

TOY = runpy.run_path(str(Path(__file__).with_name("toy_app.py")))
APP, ToyConfig = TOY["APP"], TOY["ToyConfig"]
VALID = ToyConfig().model_dump(mode="json")
KEPT = ("epochs", "learning_rate", "grad_clip", "freeze", "device", "path", "shape", "num_steps")
VALID |= {
    s: {k: VALID[s][k] for k in KEPT if k in VALID[s]} for s in ("train", "data")
}  # for speed


def paths(mapping, prefix=()):
    for name, value in mapping.items():
        yield (*prefix, name)
        if isinstance(value, dict):
            yield from paths(value, (*prefix, name))


words = st.text(st.characters(codec="utf-8"), max_size=8)
names = words | st.sampled_from(["epochs", "windw", "kind", "lr", "a.b", ".", "", "train", "--x"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | words
    | st.sampled_from(["auto", "ramp", "null", "1e-3", 10**400, 0, -1, 1.5])
)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(names, v, max_size=2), max_leaves=6
)
edits = st.tuples(
    st.sampled_from(["set", "add", "rename", "delete"]),
    st.sampled_from(sorted(paths(VALID))),
    names,
    values,
)


def edited(mapping, edit):
    """A deep copy with one edit, and the name that a refusal must hold."""
    kind, (*section, name), new_name, value = edit
    copy = {k: edited_copy(v) for k, v in mapping.items()}
    level = copy
    for part in section:
        level = level[part]
    if kind == "set":
        level[name] = value
    elif kind == "add":
        level[new_name] = value
    elif kind == "rename":
        level[new_name] = level.pop(name)
    else:
        del level[name]
    return copy, (name if kind in ("set", "delete") else new_name), section


def refusal(resolve):
    """The message with which a config is refused; None where it is accepted, as a config."""
    try:
        config = resolve()
    except InputError as error:
        return str(error)
    assert isinstance(config, ToyConfig)
    return None


def edited_copy(value):
    return {k: edited_copy(v) for k, v in value.items()} if isinstance(value, dict) else value


@settings(max_examples=200)
@given(edit=edits)
def test_an_edited_config_validates_or_is_refused_by_name(edit):
    mapping, name, section = edited(VALID, edit)
    text = dump_yaml(mapping)
    message = refusal(
        lambda: parse_config(ToyConfig, parse_yaml(text, source="f.yaml"), source="f.yaml")
    )
    if message is not None:
        assert any(part in message for part in (name, *section, "line", "expected a name") if part)
        assert len(message) < 1500


@settings(max_examples=100)
@given(edit=edits, equals=st.booleans())
def test_an_edited_flag_validates_or_is_refused_by_name(edit, equals):
    _, path, name, value = edit
    flag = "--" + ".".join((*path[:-1], name) if edit[0] in ("add", "rename") else path)
    text = str(value) if isinstance(value, int | float | str) else dump_yaml(value).strip()
    line = [f"{flag}={text}"] if equals else [flag, text]
    message = refusal(lambda: resolve_call(APP, APP.command("train"), line)[0])
    if message is not None:
        assert any(part in message for part in (*path, name, text, "unknown option") if part)
        assert len(message) < 1500


@settings(max_examples=100)
@given(text=st.text(max_size=40))
def test_any_text_is_a_config_file_or_refused_with_its_name(text):
    def read():
        value = parse_yaml(text, source="f.yaml")
        return parse_config(ToyConfig, value if isinstance(value, dict) else {}, source="f.yaml")

    message = refusal(read)
    assert message is None or message.startswith("f.yaml: ")
