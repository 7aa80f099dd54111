import logging

import h5py
import numpy as np
import pytest
import torch
from nops_data import (
    LayoutError,
    PDEBench,
    Trajectories,
    Windows,
)

TASKS = {  # task: channels, spatial axes, parameters by the file's name, boundary
    "advection": ("u", "x", {"beta": 0.4}, "periodic"),
    "burgers": ("u", "x", {"nu": 0.001}, "periodic"),
    "diffusion_reaction_1d": ("u", "x", {"nu": 0.5, "rho": 10.0}, "periodic"),
    "diffusion_sorption": ("u", "x", {}, None),
    "darcy": ("u nu", "xy", {"beta": 1.0}, "wall"),
    "diffusion_reaction": ("u v", "yx", {}, "wall"),
    "shallow_water": ("h", "xy", {}, "open"),
    "compressible_1d": ("density pressure Vx", "x", {"eta": 1e-8, "zeta": 1e-8}, "open"),
    "compressible_2d": (
        "density pressure Vx Vy",
        "xy",
        {"M": 0.1, "eta": 1e-8, "zeta": 0.01},
        "periodic",
    ),
    "compressible_3d": (
        "density pressure Vx Vy Vz",
        "xyz",
        {"M": 1.0, "eta": 1e-8, "zeta": 1e-8},
        "periodic",
    ),
}


def expected(contents, task, sample):
    """The fields of one sample of the file [T, C, *grid], from what was written."""
    if f"{sample:04d}/data" in contents:
        return np.moveaxis(contents[f"{sample:04d}/data"], -1, 1)
    if task == "darcy":
        return np.stack([contents["tensor"][sample], contents["nu"][sample][None]], axis=1)
    names = [name for name in contents if not name.endswith("coordinate")]
    return np.stack([contents[name][sample] for name in names], axis=1)


@pytest.mark.parametrize("task", TASKS)
def test_each_layout_comes_back_as_it_was_written(
    tmp_path, write_pdebench, pdebench_contents, task
):
    channels, dims, parameters, boundary = TASKS[task]
    path = write_pdebench(tmp_path, task)
    contents = pdebench_contents(task)
    reader = PDEBench(path, task=task, split="train")
    assert reader.channels == tuple(channels.split())
    assert reader.spatial_dims == tuple(dims)
    assert reader.parameter_names == tuple(parameters)
    assert len(reader) == 16  # of 20, a tenth each for test and valid
    first = 0 if "0000/data" in contents else 4
    for index in (0, 7, 15):
        item = reader[index]
        assert torch.equal(
            item["fields"], torch.from_numpy(expected(contents, task, first + index))
        )
        assert item["parameters"].tolist() == pytest.approx(list(parameters.values()), rel=1e-6)
        assert item["index"] == index
        ends = reader.boundary
        assert ends == ((boundary,) * 2,) * len(dims) or (boundary, ends) == (
            None,
            (("wall", "open"),),
        )
        assert item["boundary"] == ends
    frames = 1 if task == "darcy" else 7
    assert item["times"].tolist() == pytest.approx([2 / 7 * t for t in range(frames)])
    # The step of the times as written, 2 / 7, for all layouts but the steady one.
    assert reader.frame_interval == (None if task == "darcy" else pytest.approx(2 / 7))
    assert isinstance(reader, Trajectories)


@pytest.mark.parametrize("task", TASKS)
def test_positions_follow_the_axes_of_the_fields(tmp_path, write_pdebench, task):
    sizes = {"x": 6, "y": 5, "z": 4}
    reader = PDEBench(write_pdebench(tmp_path, task), task=task, split="test")
    item = reader[0]
    assert item["positions"].shape == (*item["fields"].shape[2:], len(reader.spatial_dims))
    for column, dim in enumerate(reader.spatial_dims):
        along = item["positions"][..., column].movedim(column, -1).reshape(-1, sizes[dim])
        assert torch.allclose(along, (torch.arange(sizes[dim]) + 0.5) / sizes[dim])


def test_darcy_is_not_swapped(tmp_path, write_pdebench):
    # The input has values around 100, the answer around 0: nothing but their names tells them apart.
    nu = np.full((10, 6, 5), 100.0, dtype=np.float32)
    u = np.zeros((10, 1, 6, 5), dtype=np.float32)
    path = write_pdebench(tmp_path, "darcy", tensor=u, nu=nu)
    reader = PDEBench(path, task="darcy", split="train")
    item = reader[0]["fields"]
    assert reader.channels == ("u", "nu")
    assert reader.constant_channels == ("nu",)
    assert reader.steady
    assert item[0, 0].eq(0).all()
    assert item[0, 1].eq(100).all()
    swapped = write_pdebench(tmp_path / "swapped", "darcy", tensor=u[:, 0], nu=nu[:, None])
    with pytest.raises(LayoutError, match=r"dataset '/tensor': found shape \(10, 6, 5\)"):
        PDEBench(swapped, task="darcy", split="train")


def test_the_splits_of_a_file_share_no_trajectory(tmp_path, write_pdebench):
    for task in ("advection", "shallow_water"):
        path = write_pdebench(tmp_path, task)
        seen = {}
        for split in ("train", "valid", "test", "pdebench", "pdebench_train"):
            reader = PDEBench(path, task=task, split=split)
            seen[split] = {reader.read(i).numpy().tobytes() for i in range(len(reader))}
            assert len(seen[split]) == len(reader)
        assert [len(seen[split]) for split in ("train", "valid", "test")] == [16, 2, 2]
        assert not seen["train"] & seen["valid"]
        assert not (seen["train"] | seen["valid"]) & seen["test"]
        assert seen["pdebench"] == seen["test"]
        assert seen["pdebench_train"] == seen["train"] | seen["valid"]


def test_the_benchmark_holds_out_the_first_arrays_and_the_last_groups(
    tmp_path, write_pdebench, pdebench_contents
):
    for task, samples in (("burgers", (0, 1)), ("diffusion_reaction", (18, 19))):
        reader = PDEBench(write_pdebench(tmp_path, task), task=task, split="pdebench")
        assert reader.split == "test"
        for index, sample in enumerate(samples):
            found = torch.from_numpy(expected(pdebench_contents(task), task, sample))
            assert torch.equal(reader.read(index), found)


def test_strides_keep_every_nth_frame_and_point(tmp_path, write_pdebench, pdebench_contents):
    for task in ("compressible_2d", "diffusion_reaction"):
        path = write_pdebench(tmp_path, task)
        whole = PDEBench(path, task=task, split="test")
        reader = PDEBench(path, task=task, split="test", time_stride=3, space_stride=2)
        assert (reader.num_frames, reader.frames_of(0)) == (3, 3)
        assert torch.equal(reader[1]["fields"], whole[1]["fields"][::3, :, ::2, ::2])
        assert torch.equal(reader.read(1, start=1), whole.read(1)[3::3, :, ::2, ::2])
        assert torch.equal(reader.times, whole.times[::3])
        assert torch.equal(reader.positions, whole.positions[::2, ::2])
        assert reader.frame_interval == pytest.approx(6 / 7)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_promised_frame_interval_is_checked_against_file_and_stride(
    tmp_path, write_pdebench, split
):
    path = write_pdebench(tmp_path, "advection")
    options = {"task": "advection", "split": split, "time_stride": 2}
    assert PDEBench(path, **options, frame_interval=4 / 7).frame_interval == pytest.approx(4 / 7)
    with pytest.raises(
        LayoutError, match=r"found 0\.285714 x time_stride 2 = 0\.571.*expected 0\.3"
    ):
        PDEBench(path, **options, frame_interval=0.3)


def test_parameters_come_from_attributes_then_the_name_then_the_argument(
    tmp_path, write_pdebench, caplog
):
    def found(name, attrs, given=None):
        path = write_pdebench(tmp_path, "burgers", name=name, attrs=attrs)
        reader = PDEBench(path, task="burgers", split="test", parameters=given)
        return reader.parameters.tolist()

    with caplog.at_level(logging.INFO, logger="nops_data"):
        assert found("a.hdf5", {"Nu": 0.25}) == [[0.25], [0.25]]
        assert not caplog.records
        assert found("1D_Burgers_Sols_Nu4.0.hdf5", {}) == [[4.0], [4.0]]
        assert "nu = 4 from the file's name" in caplog.text
    assert found("b.hdf5", {}, {"nu": 2.0}) == [[2.0], [2.0]]
    assert found("1D_Burgers_Sols_Nu0.25.hdf5", {"nu": 0.25}, {"nu": 0.25}) == [[0.25], [0.25]]


def test_parameters_that_are_missing_or_disagree_are_refused(tmp_path, write_pdebench):
    def read(name, attrs, given=None, task="burgers"):
        path = write_pdebench(tmp_path, task, name=name, attrs=attrs)
        sides = None if task == "burgers" else "open"
        PDEBench(path, task=task, split="test", parameters=given, boundary=sides)

    with pytest.raises(LayoutError, match=r"a\.hdf5: parameter 'nu': found neither an attribute"):
        read("a.hdf5", {})
    with pytest.raises(LayoutError, match=r"0\.25 in attribute 'Nu', 0\.5 in the file's name"):
        read("1D_Burgers_Sols_Nu0.5.hdf5", {"Nu": 0.25})
    with pytest.raises(LayoutError, match=r"0\.25 in attribute 'Nu', 1 in the argument parameters"):
        read("a.hdf5", {"Nu": 0.25}, {"nu": 1.0})
    with pytest.raises(LayoutError, match="root attribute 'Nu': found nan"):
        read("a.hdf5", {"Nu": np.nan})
    with pytest.raises(ValueError, match=r"parameters: found \['Nu'\], expected some of \['nu'\]"):
        read("a.hdf5", {}, {"Nu": 1.0})
    with pytest.raises(LayoutError, match="parameter 'M'"):  # M01 means 0.1 there
        read("KH_M01_dk1_Re1e3.hdf5", {"eta": 1.0, "zeta": 1.0}, task="compressible_2d")


def test_a_boundary_that_nothing_tells_is_asked_for(tmp_path, write_pdebench):
    attrs = {"eta": 0.0, "zeta": 0.0}
    path = write_pdebench(tmp_path, "compressible_1d", name="Sod1.hdf5", attrs=attrs)
    options = {"task": "compressible_1d", "split": "test"}
    with pytest.raises(LayoutError, match=r"Sod1\.hdf5: boundary: found neither '_periodic_'"):
        PDEBench(path, **options)
    assert PDEBench(path, **options, boundary="open").boundary == (("open", "open"),)
    named = write_pdebench(tmp_path, "compressible_1d")
    with pytest.raises(LayoutError, match="as the file has it"):
        PDEBench(named, **options, boundary="periodic")


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("advection", {"tensor": None}, r"'/tensor': found nothing, expected a dataset"),
        ("advection", {"t-coordinate": np.linspace(0, 1, 9)}, r"\(9,\), expected \(7,\) or \(8,\)"),
        ("advection", {"t-coordinate": np.linspace(0, 1, 6)}, r"\(6,\), expected \(7,\) or \(8,\)"),
        (
            "advection",
            {"x-coordinate": np.linspace(0, 1, 7)},
            r"'/x-coordinate': found shape \(7,\)",
        ),
        ("advection", {"t-coordinate": np.arange(8.0) ** 2}, "times: found steps from 1 to 11"),
        ("advection", {"t-coordinate": np.full(8, np.nan)}, "found nan at 0, expected finite"),
        ("advection", {"tensor": np.zeros((20, 7, 6), int)}, "found int64, expected real numbers"),
        (
            "advection",
            {"tensor": np.zeros((9, 7, 6))},
            "found 9 trajectories, expected at least 10",
        ),
        ("advection", {"nu": np.zeros((20, 6, 5))}, r"found also \['nu'\]"),
        ("advection", {"0000/data": np.zeros((7, 6, 1))}, r"found also \['0000'\]"),
        ("darcy", {"nu": np.zeros((20, 5, 6))}, r"'/nu': found shape \(20, 5, 6\)"),
        ("darcy", {"tensor": np.zeros((20, 2, 6, 5))}, "expected one frame"),
        ("compressible_2d", {"Vy": None}, r"'/Vy': found nothing"),
        ("compressible_2d", {"Vz": np.zeros(3)}, r"found also \['Vz'\]"),
        ("shallow_water", {"0003/data": None}, r"'/0003/data': found nothing"),
        ("shallow_water", {"0003/data": np.zeros((7, 6, 5, 2))}, r"'/0003/data': found shape"),
        ("shallow_water", {"0003/data": np.zeros((7, 5, 6, 1))}, r"'/0003/grid/x'.*\(6,\)"),
        ("shallow_water", {"0003/data": np.zeros((6, 6, 5, 1))}, r"'/0003/data'.*found 6 frames"),
        ("shallow_water", {"0003/grid/x": np.arange(6.0)}, "'/0003/grid': found other coordinates"),
        ("shallow_water", {"extra": np.zeros(3)}, r"found also \['extra'\]"),
    ],
)
def test_a_file_that_is_no_such_layout_is_refused(tmp_path, write_pdebench, task, changes, message):
    path = write_pdebench(tmp_path, task, **changes)
    with pytest.raises(LayoutError, match=message) as caught:
        PDEBench(path, task=task, split="train")
    assert str(caught.value).startswith(str(path))


def test_a_file_read_as_another_task_is_refused(tmp_path, write_pdebench):
    for task in TASKS:
        path = write_pdebench(tmp_path, task)
        for other in TASKS:
            alike = {"advection", "burgers", "diffusion_reaction_1d"}  # told apart by parameters
            if other != task:
                with pytest.raises(LayoutError) as caught:
                    PDEBench(path, task=other, split="train")
                if {task, other} <= alike:
                    assert "parameter" in str(caught.value)
    with pytest.raises(ValueError, match="task: found 'heat', expected one of"):
        PDEBench(path, task="heat", split="train")
    with pytest.raises(ValueError, match="split: found 'validation'"):
        PDEBench(path, task="burgers", split="validation")


def test_a_truncated_file_is_refused(tmp_path, write_pdebench):
    path = write_pdebench(tmp_path, "burgers")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(LayoutError, match="truncated") as caught:
        PDEBench(path, task="burgers", split="train")
    assert str(path) in str(caught.value)
    with pytest.raises(LayoutError, match="found nothing, expected an HDF5 file"):
        PDEBench(tmp_path / "none.hdf5", task="burgers", split="train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LayoutError, match="found no HDF5 file"):
        PDEBench(tmp_path / "empty", task="burgers", split="train")


def test_a_value_that_is_not_finite_is_named_with_its_place(tmp_path, write_pdebench):
    for task, dataset in (("burgers", "tensor"), ("diffusion_reaction", "0005/data")):
        path = write_pdebench(tmp_path, task)
        with h5py.File(path, "r+") as file:
            place = (5, 4, 2) if task == "burgers" else (4, 3, 2, 1)
            file[dataset][place] = np.inf
        reader = PDEBench(path, task=task, split="train", time_stride=2)
        bad = 1 if task == "burgers" else 5
        message = rf"dataset '{dataset}', sample 5, step 4, .*found inf, expected a finite value"
        with pytest.raises(LayoutError, match=message):
            reader.read(bad)
        assert reader.read(bad, start=0, stop=2).isfinite().all()


def test_arguments_out_of_range_are_refused(tmp_path, write_pdebench):
    path = write_pdebench(tmp_path, "burgers")
    darcy = write_pdebench(tmp_path, "darcy")
    for options, message in (
        ({"time_stride": 0}, "time_stride: found 0, expected 1 to 6"),
        ({"time_stride": 7}, "time_stride: found 7, expected 1 to 6"),
        ({"space_stride": 7}, "space_stride: found 7, expected 1 to 6"),
    ):
        with pytest.raises(ValueError, match=message):
            PDEBench(path, task="burgers", split="train", **options)
    with pytest.raises(ValueError, match="time_stride: found 2, expected 1 to 1"):
        PDEBench(darcy, task="darcy", split="train", time_stride=2)
    reader = PDEBench(path, task="burgers", split="train")
    with pytest.raises(IndexError, match="no trajectory 16"):
        reader.frames_of(16)
    with pytest.raises(ValueError, match="frames 3:9 of trajectory 0, which has 7"):
        reader.read(0, start=3, stop=9)
    with pytest.raises(ValueError, match="length: found 8, expected 1 to 7"):
        Windows(reader, length=8)


def test_files_of_different_parameters_are_mixed_only_if_the_model_is_told(
    tmp_path, write_pdebench
):
    for nu in ("0.001", "0.1"):
        write_pdebench(tmp_path, "burgers", name=f"1D_Burgers_Sols_Nu{nu}.hdf5")
    reader = PDEBench(tmp_path, task="burgers", split="train")
    assert len(reader) == 32
    assert reader.parameters[:, 0].tolist() == pytest.approx([0.001] * 16 + [0.1] * 16)
    assert reader.varying_parameters == ("nu",)
    reader.check_condition(["nu", "time"])
    with pytest.raises(
        LayoutError, match=r"Nu0\.1\.hdf5: parameter 'nu': found 0\.1, expected 0\.001"
    ):
        reader.check_condition(["time"])
    alone = PDEBench([tmp_path / "1D_Burgers_Sols_Nu0.1.hdf5"], task="burgers", split="train")
    assert alone.varying_parameters == ()
    alone.check_condition([])


def test_files_on_different_grids_are_refused(tmp_path, write_pdebench):
    first = write_pdebench(tmp_path, "burgers")
    finer = write_pdebench(
        tmp_path,
        "burgers",
        name="1D_Burgers_Sols_Nu2.0.hdf5",
        **{"tensor": np.zeros((20, 7, 12)), "x-coordinate": np.linspace(0, 1, 12)},
    )
    with pytest.raises(
        LayoutError, match=r"shape: found \(12,\), expected \(6,\).*mix them by task"
    ):
        PDEBench([first, finer], task="burgers", split="train")
    moved = write_pdebench(
        tmp_path, "burgers", name="1D_Burgers_Sols_Nu4.0.hdf5", **{"x-coordinate": np.arange(6.0)}
    )
    with pytest.raises(LayoutError, match="times or coordinates: found others"):
        PDEBench([first, moved], task="burgers", split="train")
