"""Trajectories in the_well's HDF5 layout: write, read, check, normalise, sample, generate.

`WellWriter` writes arrays as files, `WellReader` reads those and any other file of that layout,
`check_well` says what is wrong with one. `PDEBench` reads that benchmark's files as they are,
`SpinlockReader` the one that spinlock's generator writes.
`Windows`, `ResumableSampler` and `Batches` turn trajectories into batches whose content depends on
(seed, epoch, batch) alone; `TaskMixture` and `BalancedSampler` do so for several data sets at once.
`generate` fills a folder from a solver, restartable at any moment; `verify` recomputes its sums.
Small problems are arrays (`read_arrays`) or tables (`read_table`), served row by row by `Rows`.
"""

from nops_data._arrays import (
    Rows,
    digests,
    has_arrays,
    read_arrays,
    read_facts,
    write_arrays,
)
from nops_data._attributes import stored_attributes
from nops_data._balanced import BalancedSampler
from nops_data._check import check_well
from nops_data._errors import LayoutError
from nops_data._fingerprint import data_fingerprint, file_fingerprints
from nops_data._generate import Generated, Progress, generate, pending
from nops_data._loader import Batches, loader
from nops_data._mixture import TaskMixture
from nops_data._normaliser import Normaliser
from nops_data._npz_import import import_npz
from nops_data._npz_tree import NpzSplit
from nops_data._pdebench import PDEBench
from nops_data._plan import Plan, Request, SplitPlan
from nops_data._reader import WellReader
from nops_data._recipe import consecutive_splits, named_folder
from nops_data._rounds import Rounds
from nops_data._sampler import Draw, ResumableSampler
from nops_data._sources import (
    NormalisedBatches,
    Picked,
    balanced_rounds,
    ordered_batches,
    share_of,
    training_batches,
)
from nops_data._spinlock import SpinlockReader, open_spinlock, spinlock_facts
from nops_data._splits import Splits, frame_interval, open_splits, stored_facts
from nops_data._stats import write_stats
from nops_data._tables import (
    Table,
    read_days,
    read_json,
    read_ranges,
    read_stations,
    read_table,
    read_vector,
    unbroken,
)
from nops_data._trajectories import Trajectories
from nops_data._verify import Verification, verify
from nops_data._windows import Windows, window_items
from nops_data._writer import WellWriter

__all__ = [
    "BalancedSampler",
    "Batches",
    "Draw",
    "Generated",
    "LayoutError",
    "NormalisedBatches",
    "Normaliser",
    "NpzSplit",
    "PDEBench",
    "Picked",
    "Plan",
    "Progress",
    "Request",
    "ResumableSampler",
    "Rounds",
    "Rows",
    "SpinlockReader",
    "SplitPlan",
    "Splits",
    "Table",
    "TaskMixture",
    "Trajectories",
    "Verification",
    "WellReader",
    "WellWriter",
    "Windows",
    "balanced_rounds",
    "check_well",
    "consecutive_splits",
    "data_fingerprint",
    "digests",
    "file_fingerprints",
    "frame_interval",
    "generate",
    "has_arrays",
    "import_npz",
    "loader",
    "named_folder",
    "open_spinlock",
    "open_splits",
    "ordered_batches",
    "pending",
    "read_arrays",
    "read_days",
    "read_facts",
    "read_json",
    "read_ranges",
    "read_stations",
    "read_table",
    "read_vector",
    "share_of",
    "spinlock_facts",
    "stored_attributes",
    "stored_facts",
    "training_batches",
    "unbroken",
    "verify",
    "window_items",
    "write_arrays",
    "write_stats",
]
