"""Our files in the hands of the_well's own package, and its files in ours.

Needs the-well 1.2 or newer; `nox -s peers` runs it.
"""

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from nops_data import WellReader, WellWriter, Windows, check_well, write_stats

pytestmark = pytest.mark.peer

pytest.importorskip("the_well")

from the_well.data import WellDataset  # noqa: E402  (after the skip)
from the_well.data.normalization import ZScoreNormalization  # noqa: E402

GRID = (5, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every kind of field and scalar that we write, in two files a split."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("all")
    writer = WellWriter(
        folder,
        dataset_name="all_kinds",
        boundary=("periodic", ("wall", "open")),
        lengths=(2.0, 3.0),
        chunk_frames=4,
    )
    for split in ("train", "valid", "test"):
        for _ in range(2):
            lead = (3, 9, *GRID)
            fields = {"p": lead, "v": (*lead, 2), "S": (*lead, 2, 2)}
            writer.write(
                split,
                {key: rng.normal(2, 3, size=n).astype(np.float32) for key, n in fields.items()},
                np.arange(9) * 0.5 + 10,
                parameters={"Re": rng.random(3) * 1000, "k": np.full(3, 0.5)},
                constants={"depth": rng.normal(size=(3, *GRID)).astype(np.float32)},
            )
    write_stats(folder)
    return folder


def peer(folder: Path, split: str = "train", **options):
    return WellDataset(
        path=str(folder / "data" / split), n_steps_input=2, n_steps_output=3, **options
    )


def test_the_peer_tells_the_same_of_our_files(folder):
    reader = WellReader(folder, split="train")
    metadata = peer(folder).metadata
    assert metadata.dataset_name == reader.dataset_name
    assert tuple(metadata.spatial_resolution) == reader.shape
    names = [name for order in range(3) for name in metadata.field_names[order]]
    still = [name for order in range(3) for name in metadata.constant_field_names[order]]
    assert (*names, *still) == reader.channels
    assert tuple(still) == reader.constant_channels
    assert tuple(metadata.constant_scalar_names) == reader.parameter_names
    assert metadata.n_trajectories_per_file == [3, 3]
    assert metadata.n_steps_per_trajectory == [9, 9]


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_the_peer_reads_the_same_values(folder, split):
    reader = WellReader(folder, split=split, parameters="physical")
    windows = Windows(reader, length=5, start="all")
    items = peer(folder, split)
    assert len(items) == len(windows) == 6 * 5
    boundary = {"wall": 0.0, "open": 1.0, "periodic": 2.0}
    expected = [[boundary[kind] for kind in sides] for sides in reader.boundary]
    grid = torch.stack(torch.meshgrid(*reader.coordinates, indexing="ij"), -1)
    for index in range(0, len(items), 7):
        theirs, ours = items[index], windows[index]
        frames = ours["frames"].movedim(1, -1)  # channels last
        moving = len(reader.channels) - len(reader.constant_channels)
        assert torch.equal(theirs["input_fields"], frames[:2, ..., :moving])
        assert torch.equal(theirs["output_fields"], frames[2:, ..., :moving])
        assert torch.equal(theirs["constant_fields"], frames[0, ..., moving:])
        assert torch.equal(theirs["constant_scalars"], ours["parameters"])
        assert theirs["boundary_conditions"].tolist() == expected
        assert torch.equal(theirs["space_grid"], grid)
        assert torch.equal(theirs["input_time_grid"], torch.tensor([0.0, 0.5]))


def test_the_peer_reads_generated_files(toy):
    reader = WellReader(toy, split="train", parameters="physical")
    windows = Windows(reader, length=5, start="all")
    items = peer(toy)
    assert len(items) == len(windows)
    for index in range(len(items)):
        theirs, ours = items[index], windows[index]
        frames = torch.cat([theirs["input_fields"], theirs["output_fields"]]).movedim(-1, 1)
        assert torch.equal(frames, ours["frames"])
        assert torch.equal(theirs["constant_scalars"], ours["parameters"])


def test_the_peer_normalises_with_our_statistics(folder):
    path = str(folder / "stats.yaml")
    items = peer(
        folder,
        use_normalization=True,
        normalization_type=ZScoreNormalization,
        normalization_path=path,
    )
    plain = peer(folder)
    stats = yaml.safe_load(Path(path).read_text())
    theirs, raw = items[4]["input_fields"], plain[4]["input_fields"]
    expected = (raw[..., 0] - stats["mean"]["p"]) / stats["std"]["p"]
    assert torch.allclose(theirs[..., 0], expected, atol=1e-6)
    expected = (raw[..., 2] - stats["mean"]["v"][1]) / stats["std"]["v"][1]
    assert torch.allclose(theirs[..., 2], expected, atol=1e-6)


def test_we_read_what_the_peer_writes(tmp_path):
    """Its dummy file leaves out flags that its own checker wants: readable, and reported."""
    dummy_data = importlib.import_module("the_well.utils.dummy_data")
    place = tmp_path / "data" / "train"
    place.mkdir(parents=True)
    dummy_data.write_dummy_data(str(place / "dummy.hdf5"))
    reader = WellReader(tmp_path, split="train", parameters="physical")
    assert reader.channels == ("field_x", "field_y", "constant_field")
    assert reader.constant_channels == ("constant_field",)
    item = reader[1]
    assert item["fields"].shape == (10, 3, 32, 32)
    assert item["parameters"].tolist() == [0.25, 0.75]
    theirs = WellDataset(path=str(place), n_steps_input=1, n_steps_output=9)[1]
    frames = torch.cat([theirs["input_fields"], theirs["output_fields"]]).movedim(-1, 1)
    assert torch.equal(item["fields"][:, :2], frames)
    assert torch.equal(item["fields"][3, 2], theirs["constant_fields"][..., 0])
    assert torch.equal(item["scalars"][1:, 0], theirs["output_scalars"][:, 0].float())
    problems = check_well(place / "dummy.hdf5")
    assert any("'time_varying' of '/dimensions/time': found nothing" in text for text in problems)


def test_its_checker_accepts_our_files(folder, toy, capsys):
    """The checker is a script beside the package; releases so far leave it out."""
    check = None
    for name in ("the_well.scripts.check_thewell_formatting", "check_thewell_formatting"):
        if importlib.util.find_spec(name.split(".")[0]) is not None:
            try:
                check = importlib.import_module(name).check_hdf5_format
            except ImportError:
                continue
    if check is None:
        pytest.skip("this release of the-well ships no format checker")
    for path in [*folder.rglob("*.hdf5"), *toy.rglob("*.hdf5")]:
        check(str(path))
    assert "passed!" in capsys.readouterr().out
