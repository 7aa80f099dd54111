"""Tables, ranges, stations, vectors and arrays: what is read, and every refusal by name."""

import json
import re

import numpy as np
import pytest
import torch
from nops_data import (
    Draw,
    LayoutError,
    Rows,
    digests,
    has_arrays,
    read_arrays,
    read_days,
    read_facts,
    read_ranges,
    read_stations,
    read_table,
    read_vector,
    unbroken,
    write_arrays,
)


def write(path, text):
    path.write_text(text)
    return path


def test_columns_come_as_numbers_and_texts(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "a,b,date\n1,2.5,2009.07.30\n-3,4,2009-08-02\n\n"))
    assert len(table) == 2
    np.testing.assert_array_equal(table.numbers(["b", "a"]), [[2.5, 1], [4, -3]])
    assert table.texts("date")[0] == "2009.07.30"
    assert np.diff(read_days(table)).tolist() == [3]


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("a,b\n1,x\n2,nan\n3,inf\n4,1\n", ["b"], r"column 'b', 3 of 4 rows, first row 2"),
        ("a,b\n1,2\n", ["c"], r"columns \['c'\]"),
        ("a,a\n1,2\n", ["a"], "each once"),
        ("a,b\n1\n", ["a"], "row 2: found 1 values, expected 2"),
        ("a,b\n", ["a"], "expected at least one"),
    ],
)
def test_a_bad_table_is_told_by_column_and_row(tmp_path, text, names, expected):
    path = write(tmp_path / "bad.csv", text)
    with pytest.raises(LayoutError, match=f"{re.escape(str(path))}.*{expected}"):
        read_table(path).numbers(names)
    with pytest.raises(LayoutError, match=r"row 2, column 'date': found 'July'"):
        read_days(read_table(write(path, "date\nJuly\n")))


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ({"d": {"min": 2, "max": 2}}, "d: .*expected min < max"),
        ({"d": {"min": 2}}, "expected min < max"),
        ({"d": {"min": 2, "max": True}}, "expected min < max"),
        ({"e": {"min": 2, "max": 3}}, r"missing \['d'\], unknown \['e'\]"),
        ([], "expected a JSON object"),
    ],
)
def test_ranges_are_checked_by_name(tmp_path, held, expected):
    path = write(tmp_path / "r.json", json.dumps(held))
    with pytest.raises(LayoutError, match=expected):
        read_ranges(path, names=["d"])


def test_ranges_stations_and_vectors(tmp_path):
    ranges = write(tmp_path / "r.json", '{"b": {"min": 0, "max": 1}, "a": {"min": -1, "max": 0.5}}')
    assert list(read_ranges(ranges, names=["a", "b"]).items()) == [("a", (-1, 0.5)), ("b", (0, 1))]
    stations = write(tmp_path / "s.json", '{"X": {"xE": 1, "yN": -2, "zV": 3}}')
    assert read_stations(stations) == {"X": (1.0, -2.0)}
    with pytest.raises(LayoutError, match=r"X: .*expected numbers xE and yN"):
        read_stations(write(tmp_path / "s.json", '{"X": {"xE": 1}}'))
    np.save(tmp_path / "v.npy", np.array([1.0, 0.0, -1.0]))
    assert read_vector(tmp_path / "v.npy", width=3).tolist() == [1, 0, -1]
    with pytest.raises(
        LayoutError, match=r"2 of 3 values, first at 1: found 0\.0, expected positive"
    ):
        read_vector(tmp_path / "v.npy", width=3, positive=True)
    with pytest.raises(LayoutError, match=r"found \(3,\), expected \(4,\)"):
        read_vector(tmp_path / "v.npy", width=4)


def test_a_stretch_ends_at_a_gap_and_where_time_repeats():
    # steps 1, 1, 2 (above 1.5 times the median 1), 1, 0 (repeated), 1, -3 (backwards)
    days = [0, 1, 2, 4, 5, 5, 6, 3]
    found = [(r.start, r.stop) for r in unbroken(days)]
    assert found == [(0, 3), (3, 5), (5, 7), (7, 8)]
    assert unbroken([7]) == [range(1)]


def test_arrays_come_back_and_a_finished_folder_says_so(tmp_path):
    splits = {name: {"x": np.eye(2) * k} for k, name in enumerate(("train", "valid", "test"), 1)}
    assert not has_arrays(tmp_path)
    write_arrays(tmp_path, splits, facts={"problem": "toy"})
    assert has_arrays(tmp_path)
    assert read_facts(tmp_path) == {"problem": "toy"}
    np.testing.assert_array_equal(read_arrays(tmp_path, "test")["x"], np.eye(2) * 3)
    first = digests([tmp_path / "train.npz"])
    write_arrays(tmp_path, splits, facts={"problem": "toy"})
    assert digests([tmp_path / "train.npz"]) == first  # the same bytes for the same values
    splits["train"] = {"x": np.array([[1.0, 2.0], [3.0, np.nan]])}
    write_arrays(tmp_path, splits, facts={})
    with pytest.raises(LayoutError, match=r"train\.npz: array 'x', 1 of 2 samples"):
        read_arrays(tmp_path, "train")
    (tmp_path / "valid.npz").write_bytes(b"none")
    with pytest.raises(LayoutError, match=r"valid\.npz: cannot be read"):
        read_arrays(tmp_path, "valid")


def test_rows_and_stretches_of_rows():
    values = {"x": torch.arange(10.0).reshape(5, 2), "t": torch.arange(5)}
    rows = Rows(values)
    assert len(rows) == 5
    assert rows.batch([Draw(0, 3), Draw(0, 1)])["t"].tolist() == [3, 1]
    stretches = Rows(values, index=torch.tensor([[0, 1], [3, 4]]))
    assert stretches.batch([Draw(0, 1)])["x"].shape == (1, 2, 2)
    assert stretches.batch([Draw(0, 1)])["t"].tolist() == [[3, 4]]
    with pytest.raises(ValueError, match="unlike numbers of rows"):
        Rows({"x": torch.zeros(2), "y": torch.zeros(3)})
