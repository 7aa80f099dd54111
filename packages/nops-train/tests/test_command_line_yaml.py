import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from nops_train._command_line_yaml import dump_yaml, parse_yaml, read_yaml
from nops_train._errors import InputError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),  # text in YAML 1.1
        ("1E3", 1000.0),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("010", 10),  # eight in YAML 1.1
        ("0o17", 15),
        ("0x1f", 31),
        ("+3", 3),
        ("1:30", "1:30"),  # ninety in YAML 1.1
        ("1_000", "1_000"),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        (".inf", float("inf")),
        ("-.INF", -float("inf")),
        ("2024-01-01", "2024-01-01"),
        ("'3'", "3"),
        ("[1, a]", [1, "a"]),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    parsed = parse_yaml(text, source="f")
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2", "line 2, column 1: the key 'a' stands there twice"),
        ("s: {b: 1, b: 1}", "the key 'b' stands there twice"),
        ("[1,", "not valid YAML at line 1"),
        ("a: b: c", "not valid YAML at line 1"),
        ("x: !!python/object:os.system {}", "python/object"),
        ("x: !!bool maybe", "not valid YAML"),
        ("x: !!timestamp soon", "not valid YAML"),
        ("x: !!int 3.5", "not valid YAML"),
        ("s: {a: !!binary aGk=}", "s: a: expected a plain value, found bytes"),
        ("a: !!set {x}", "found set"),
        ("a: &x [*x]", "nested too deeply"),
        ("[" * 500, "nested too deeply"),
        ("? [1]\n: 2", "expected text as a key"),
        ("1: 2", "key 1: expected text as a key"),
        ("a: 0x" + "f" * 30, "a: expected an integer of 64 bits"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ('a: "\\ud800"', "a: expected Unicode text"),
        ("a: \x00", "not valid YAML"),
    ],
)
def test_what_a_config_cannot_hold_is_refused_with_its_place(text, words):
    with pytest.raises(InputError, match=r"my\.yaml") as caught:
        parse_yaml(text, source="my.yaml")
    assert words in str(caught.value)


def test_merge_keys_are_read():
    text = "a: &a {x: 1, y: 1}\nb: {<<: *a, y: 2}"
    assert parse_yaml(text, source="f")["b"] == {"x": 1, "y": 2}


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"))
    | st.sampled_from(["1e-3", "yes", "0o17", "010", "1:30", "~", "<<", "2024-01-01", ".inf", "="]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(value=plain)
def test_what_is_written_is_read_back_by_us(value):
    assert parse_yaml(dump_yaml(value), source="f") == value


@given(value=st.sampled_from(["1e-3", "yes", "0o17", "1:30", "~", ""]) | st.floats(1e-12, 1e12))
def test_what_is_written_is_read_back_by_any_yaml(value):
    assert yaml.safe_load(dump_yaml({"key": value})) == {"key": value}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"- 1\n- 2\n", "expected a mapping of keys to values, found [1, 2]"),
        (b"3", "found 3"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content, words):
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"my\.yaml") as caught:
        read_yaml(path)
    assert words in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.yaml: cannot be read: No such file"):
        read_yaml(tmp_path / "gone.yaml")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)


def test_an_empty_file_says_nothing(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    assert read_yaml(path) == {}
