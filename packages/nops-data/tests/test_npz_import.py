"""Trees of one npz file per frame: what is read, and what is refused before anything is written."""

import json
import re

import numpy as np
import pytest
import torch
from nops_data import LayoutError, NpzSplit, WellReader, check_well, import_npz

GRID = (6, 4)
SPLITS = {
    "train": NpzSplit(simulations=[3, 1], frames=range(4, 10, 2)),
    "test": NpzSplit(simulations=[0], frames=range(2, 5)),
}


def frame(field, simulation, number):
    """Any value tells field, simulation, frame, component and cell apart."""
    components = 2 if field == "velocity" else 1
    cells = np.arange(components * 24).reshape(components, *GRID)
    offset = {"velocity": 0.0, "pressure": 0.25, "density": 0.5}[field]
    return (1000 * simulation + 100 * number + cells + offset).astype(np.float32)


def write_frame(folder, field, simulation, number, values=None):
    values = frame(field, simulation, number) if values is None else values
    path = folder / f"sim_{simulation:06d}" / f"{field}_{number:06d}.npz"
    np.savez_compressed(path, values)
    return path


@pytest.fixture
def tree(tmp_path):
    """Four simulations of ten frames of two fields, with parameters and no obstacle."""
    folder = tmp_path / "tree"
    for simulation in range(4):
        place = folder / f"sim_{simulation:06d}"
        (place / "src").mkdir(parents=True)
        known = {
            "Reynolds Number": 100.0 + simulation,
            "Mach Number": [0.5] * 8 + [0.6, 0.7],
            "Timestamp": "any",
        }
        (place / "src" / "description.json").write_text(json.dumps(known))
        for field in ("velocity", "pressure"):
            for number in range(10):
                write_frame(folder, field, simulation, number)
    return folder


def convert(tree, **options):
    settings = {"dataset_name": "karman", "splits": SPLITS}
    return import_npz(tree, tree.parent / "well", **{**settings, **options})


def test_a_tree_becomes_trajectories(tree):
    paths = convert(
        tree,
        parameters=["Reynolds Number"],
        frame_interval=0.05,
        lengths=(4.0, 2.0),
        boundary=("open", "wall"),
    )
    assert [path.name for path in paths] == [
        "karman_train_00000.hdf5",
        "karman_train_00001.hdf5",
        "karman_test_00000.hdf5",
    ]
    assert all(check_well(path) == [] for path in paths)
    reader = WellReader(tree.parent / "well", split="train", parameters="physical")
    assert reader.channels == ("pressure", "velocity_x", "velocity_y", "reynolds_number")
    assert reader.constant_channels == ("reynolds_number",)
    assert reader.boundary == (("open", "open"), ("wall", "wall"))
    assert reader.parameter_names == ("reynolds_number",)
    assert reader.parameters.tolist() == [[103.0], [101.0]]
    assert reader.coordinates[0][-1].item() == 4.0
    for index, simulation in enumerate((3, 1)):
        item = reader[index]
        assert item["times"].tolist() == pytest.approx([0.2, 0.3, 0.4])
        for step, number in enumerate((4, 6, 8)):
            expected = np.concatenate(
                [
                    frame("pressure", simulation, number),
                    frame("velocity", simulation, number),
                    np.full((1, *GRID), 100.0 + simulation),
                ]
            )
            assert np.array_equal(item["fields"][step].numpy(), expected)
    test = WellReader(tree.parent / "well", split="test")
    assert len(test) == 1
    assert test[0]["fields"][2, 0, 0, 0].item() == 400.25


def test_fields_are_chosen_and_doubles_are_rounded(tree):
    for simulation in (0, 1, 3):
        for number in range(10):
            values = frame("density", simulation, number).astype(np.float64) + 1e-12
            write_frame(tree, "density", simulation, number, values)
    convert(tree, fields=["density"])
    reader = WellReader(tree.parent / "well", split="train")
    assert reader.channels == ("density",)
    assert reader[0]["fields"].dtype == torch.float32
    assert reader[0]["fields"][0, 0, 0, 0].item() == 3400.5


@pytest.mark.parametrize("shape", [GRID, (1, *GRID)])
def test_a_mask_is_a_constant_channel(tree, shape):
    masks = np.random.default_rng(0).integers(0, 2, size=(4, *GRID))
    for simulation, mask in enumerate(masks):
        np.savez(tree / f"sim_{simulation:06d}" / "obstacle_mask.npz", mask.reshape(shape))
    convert(tree)
    reader = WellReader(tree.parent / "well", split="train")
    assert reader.channels[-1] == "obstacle_mask"
    assert np.array_equal(reader[0]["fields"][1, -1].numpy(), masks[3])
    assert np.array_equal(reader[1]["fields"][0, -1].numpy(), masks[1])


def test_three_axes(tmp_path):
    """[3, 2, 3, 4]: a vector of three components; a stride of one frame."""
    place = tmp_path / "tree" / "sim_000000"
    place.mkdir(parents=True)
    values = np.arange(72, dtype=np.float32).reshape(3, 2, 3, 4)
    np.savez(place / "velocity_000005.npz", values)
    import_npz(
        tmp_path / "tree",
        tmp_path / "well",
        dataset_name="box",
        splits={"test": NpzSplit(simulations=[0], frames=range(5, 6))},
        fields=["velocity"],
        spatial_dims=("x", "y", "z"),
    )
    found = WellReader(tmp_path / "well", split="test")[0]["fields"]
    assert np.array_equal(found[0].numpy(), values)


def test_a_list_that_does_not_change_over_the_frames_is_one_value(tree):
    """Mach 0.5 for frames 0 to 7, then 0.6 and 0.7: train takes 4, 6, 8."""
    splits = {"test": NpzSplit(simulations=[0], frames=range(2, 8))}
    convert(tree, parameters=["Mach Number"], splits=splits)
    reader = WellReader(tree.parent / "well", split="test", parameters="physical")
    assert reader.parameters.tolist() == [[0.5]]
    with pytest.raises(LayoutError, match=r"sim_000003/src/description.json: .*'Mach Number'.*ch"):
        convert(tree, parameters=["Mach Number"], dataset_name="other")


# ---- interrupted, and called again ----


def test_it_goes_on_where_it_was_stopped(tree):
    options = {"parameters": ["Reynolds Number"]}
    paths = convert(tree, **options)
    contents = [path.read_bytes() for path in paths]
    paths[1].unlink()
    paths[2].rename(paths[2].with_name(paths[2].name + ".partial"))  # it was not complete
    times = paths[0].stat().st_mtime_ns
    assert convert(tree, **options) == paths
    assert paths[0].stat().st_mtime_ns == times
    assert [path.stat().st_size for path in paths] == [len(content) for content in contents]
    assert WellReader(tree.parent / "well", split="test")[0]["fields"].sum().isfinite()


@pytest.mark.parametrize(
    "change",
    [
        {"frame_interval": 2.0},
        {"fields": ["velocity"]},
        {"lengths": (2.0, 1.0)},
        {"boundary": "wall"},
        {"spatial_dims": ("y", "x")},
        {"parameters": ["Reynolds Number"]},
        {"splits": {"train": NpzSplit(simulations=[1, 3], frames=range(4, 10, 2))}},
    ],
)
def test_a_folder_of_another_import_is_refused(tree, change):
    convert(tree)
    with pytest.raises(LayoutError, match=r"karman_train_00000.hdf5: content: .*another data set"):
        convert(tree, **change)


def test_a_folder_with_more_files_is_refused(tree):
    convert(tree)
    fewer = {"train": NpzSplit(simulations=[3], frames=range(4, 10, 2))}
    with pytest.raises(LayoutError, match=r"karman_train_00001.hdf5: file: .*none of the 1"):
        convert(tree, splits=fewer)


# ---- refused before anything is written ----


def lose(tree):
    (tree / "sim_000001" / "pressure_000006.npz").unlink()
    return "sim_000001/pressure_000006.npz: file: found nothing"


def reshape(tree):
    write_frame(tree, "velocity", 0, 3, np.zeros((2, 4, 6), dtype=np.float32))
    return r"sim_000000/velocity_000003.npz: array 'arr_0': found shape \(2, 4, 6\), .*\(2, 6, 4\)"


def add_component(tree):
    write_frame(tree, "pressure", 0, 4, np.zeros((2, *GRID), dtype=np.float32))
    return r"sim_000000/pressure_000004.npz: .*\(2, 6, 4\), expected \(1, 6, 4\)"


def truncate(tree):
    path = tree / "sim_000003" / "velocity_000008.npz"
    path.write_bytes(path.read_bytes()[:60])
    return "sim_000003/velocity_000008.npz: file: found damage"


def rename_array(tree):
    np.savez(tree / "sim_000001" / "velocity_000004.npz", velocity=frame("velocity", 1, 4))
    return r"sim_000001/velocity_000004.npz: arrays: found \['velocity'\], expected 'arr_0'"


def make_complex(tree):
    write_frame(tree, "velocity", 0, 3, np.zeros((2, *GRID), dtype=np.complex64))
    return "sim_000000/velocity_000003.npz: array 'arr_0': found type complex64"


def mask_one(tree):
    np.savez(tree / "sim_000001" / "obstacle_mask.npz", np.ones(GRID))
    return "sim_000001/obstacle_mask.npz: file: found a mask"


def mask_of_another_shape(tree):
    for simulation in (0, 1, 3):
        np.savez(tree / f"sim_{simulation:06d}" / "obstacle_mask.npz", np.ones((4, 6)))
    return r"sim_000003/obstacle_mask.npz: .*found shape \(4, 6\), expected \(6, 4\) or \(1, 6, 4\)"


def lose_parameter(tree):
    (tree / "sim_000001" / "src" / "description.json").write_text('{"Mach Number": 1}')
    return r"sim_000001/src/description.json: parameter 'Reynolds Number': found only \['Mach"


def lose_description(tree):
    (tree / "sim_000000" / "src" / "description.json").unlink()
    return "sim_000000/src/description.json: file: found nothing"


def break_description(tree):
    (tree / "sim_000000" / "src" / "description.json").write_text("{")
    return "sim_000000/src/description.json: file: found .*expected JSON"


def name_a_text(tree):
    (tree / "sim_000000" / "src" / "description.json").write_text('{"Reynolds Number": "1e3"}')
    return "sim_000000/src/description.json: parameter 'Reynolds Number': found '1e3'"


@pytest.mark.parametrize(
    "damage",
    [
        lose,
        reshape,
        add_component,
        truncate,
        rename_array,
        make_complex,
        mask_one,
        mask_of_another_shape,
        lose_parameter,
        lose_description,
        break_description,
        name_a_text,
    ],
)
def test_what_does_not_fit_is_named_before_anything_is_written(tree, damage):
    message = damage(tree)
    with pytest.raises(LayoutError, match=message):
        convert(tree, parameters=["Reynolds Number"])
    assert not (tree.parent / "well").exists()


def test_a_value_that_is_not_finite_is_named(tree):
    values = frame("pressure", 1, 8)
    values[0, 2, 3] = np.nan
    write_frame(tree, "pressure", 1, 8, values)
    with pytest.raises(LayoutError, match=r"'pressure', sample 0, step 2, grid point \[2, 3\]"):
        convert(tree)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({}, "splits: found []"),
        ({"dev": SPLITS["train"]}, "splits: found ['dev']"),
        ({**SPLITS, "valid": SPLITS["train"]}, "simulations [3, 1] are also in ['train']"),
        (
            {"train": NpzSplit(simulations=[1, 1], frames=range(3))},
            "split 'train': simulations [1, 1] repeat",
        ),
    ],
)
def test_splits_that_leak_are_refused(tree, splits, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        convert(tree, splits=splits)


@pytest.mark.parametrize(
    ("simulations", "frames"),
    [
        ([], range(3)),
        ([1], range(0)),
        ([1], range(5, 2, -1)),
        ([-1], range(3)),
        ([1], range(-2, 3)),
    ],
)
def test_bad_splits_are_refused(simulations, frames):
    with pytest.raises(ValueError, match="need"):
        NpzSplit(simulations=simulations, frames=frames)
