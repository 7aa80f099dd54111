"""Sections of published configuration files, whose keys depend on each other, as keys of this app.

`dataset`, `data_filters`, `test_sets` and `variants` say together which simulations and frames are read;
`model.architecture` says the network; `scheduler.roles` and the like have free names. All else is a
matter of aliases, one key each.
"""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Mapped = dict[str, Any]
HELD_OUT = (
    10  # every tenth simulation to train on validates: the published files have no third split
)
METHODS = ("diffusion", "dcar", "gan", "tno")
MODELS = ("uafno", "unet", "fno")
PREVIOUS = {"": 1, "Prev": 2, "2Prev": 3, "3Prev": 4}  # frames that `unet+Prev` and the like see
SECTIONS = {
    "dataset": ("name", "type", "description"),
    "data_filters": ("filter_top", "filter_sim", "exclude_filter_sim", "filter_frame"),
    "model": ("name", "architecture", "pretrained", "training_noise"),
}
TEST_SET = ("name", "filter_top", "filter_sim", "filter_frame", "sequence_length")
VARIANT = ("description", "sequence_length", "batch_size", "training_noise", "model_suffix")
LENGTH_KEYS = ("sequence_length", "sequenceLength")
BATCH_KEYS = ("batch_size", "batch")
NAMED = ("roles", "caps")  # of the schedule


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published data set: its number of simulations, and the extent of its domain along each axis."""

    simulations: int
    lengths: tuple[float, float]


DATASETS = {
    "inc": Published(simulations=91, lengths=(4.0, 2.0)),
    "tra": Published(simulations=41, lengths=(12.0, 6.0)),
    "iso": Published(simulations=1000, lengths=(1.5707963, 0.7853982)),
}


def rewritten(values: Mapped) -> Mapped:
    """The mapping of a configuration file with published sections as keys of this app.

    Args:
        values: As read; one that has none of them is returned as it is.

    Raises:
        ValueError: Naming the section and the key that cannot be, with what was expected.
    """
    left = dict(values)
    for name in METHODS:
        if isinstance(left.get(name), Mapping):
            raise ValueError(f"{name}: a method that this app does not ship")
    sections = {name: _section(left, name) for name in ("dataset", "data_filters")}
    tests, variants = _named(left, "test_sets"), _named(left, "variants")
    found = _scheduler(left) | _model(left)
    _apply_variant(left, found, variants)
    if sections["dataset"] or sections["data_filters"] or tests:
        found |= _data(left, sections["dataset"], sections["data_filters"], tests)
    return {**left, **found}


def _section(left: Mapped, name: str) -> Mapped:
    """A section taken out of the mapping, its keys checked; empty without one."""
    section = left.pop(name, None) or {}
    _check_keys(section, SECTIONS[name], where=name)
    return section


def _named(left: Mapped, name: str) -> dict[str, Mapped]:
    """A section of sections with names of their own, taken out and checked."""
    whole = left.pop(name, None) or {}
    _check_keys(whole, whole, where=name)
    for one, section in whole.items():
        _check_keys(section, TEST_SET if name == "test_sets" else VARIANT, where=f"{name}.{one}")
    return whole


def _check_keys(section: Any, known: Collection[str], *, where: str) -> None:
    if not isinstance(section, Mapping):
        raise ValueError(f"{where}: expected a section with keys of its own, found {section!r}")
    for name in section:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {where}.{near[0]}?" if near else f"keys: {', '.join(known)}"
            raise ValueError(f"{where}.{name}: unknown key; {hint}")


def _scheduler(left: Mapped) -> Mapped:
    """Parts of the schedule whose keys are names of the user's, beneath `weighting`."""
    section = left.get("scheduler")
    if not isinstance(section, Mapping):
        return {}
    free = [name for name in NAMED if name in section]
    left["scheduler"] = {name: value for name, value in section.items() if name not in free}
    found: Mapped = {}
    for name in free:
        if not isinstance(section[name], Mapping):
            raise ValueError(
                f"scheduler.{name}: expected names with values, found {section[name]!r}"
            )
        if name in (left.get("weighting") or {}):
            raise ValueError(f"scheduler.{name} contradicts weighting.{name}; give one of them")
        found |= {f"weighting.{name}.{key}": value for key, value in section[name].items()}
    return found


def _model(left: Mapped) -> Mapped:
    """The network by its architecture; the name beside it is a label, and no network."""
    section = left.get("model")
    if not isinstance(section, Mapping) or "architecture" not in section:
        return {}
    _check_keys(section, SECTIONS["model"], where="model")
    del left["model"]
    if section.get("pretrained", False) is not False:
        raise ValueError("model.pretrained: no weights come with this app; expected false")
    base, _, more = str(section["architecture"]).partition("+")
    if base not in MODELS or more not in PREVIOUS:
        raise ValueError(
            f"model.architecture: {section['architecture']} is not shipped; expected one of "
            f"{', '.join(MODELS)}, with +Prev, +2Prev or +3Prev behind it for frames before the last"
        )
    noise = section.get("training_noise", 0.0)
    return {"model.name": base, "model.previous_frames": PREVIOUS[more], "train.noise": noise}


def _apply_variant(left: Mapped, found: Mapped, variants: dict[str, Mapped]) -> None:
    """Lay the variant that the key `variant` names over `data_params` and the noise."""
    chosen = left.pop("variant", None)
    if chosen is None:
        return
    if chosen not in variants:
        names = ", ".join(variants) or "there are none"
        raise ValueError(f"variant: {chosen!r} is none of variants: {names}")
    variant, data = variants[chosen], dict(left.get("data_params") or {})
    for keys in (LENGTH_KEYS, BATCH_KEYS):
        if keys[0] in variant:
            data = {name: value for name, value in data.items() if name not in keys}
            data[keys[0]] = variant[keys[0]]
    left["data_params"] = data
    if "training_noise" in variant:
        found["train.noise"] = variant["training_noise"]


def _data(left: Mapped, dataset: Mapped, filters: Mapped, tests: dict[str, Mapped]) -> Mapped:
    """The tree, its splits, and the length of rollouts."""
    known = DATASETS.get(str(dataset.get("name")))
    if dataset and known is None:
        raise ValueError(
            f"dataset.name: expected one of {', '.join(DATASETS)}; found {dataset.get('name')!r}"
        )
    found: Mapped = {"data.source": "file"}
    if known is not None:
        found |= {"data.lengths": list(known.lengths), "data.boundary": ["open", "open"]}
    tree = _tree(filters, tests)
    if tree is not None:
        found["data.npz"] = tree
    stride = _take_stride(left)
    used = _training_simulations(filters, known)
    if used:
        frames = _frames(filters, stride, where="data_filters")
        held = used[HELD_OUT - 1 :: HELD_OUT] or used[-1:]
        train = [number for number in used if number not in held]
        for name, numbers in (("train", train), ("valid", held)):
            found[f"data.splits.{name}.simulations"] = numbers
            found[f"data.splits.{name}.frames"] = frames
    return found | _test_split(tests, used, stride)


def _tree(filters: Mapped, tests: dict[str, Mapped]) -> str | None:
    tops = [
        section["filter_top"] for section in (filters, *tests.values()) if "filter_top" in section
    ]
    names = list(dict.fromkeys(name for top in tops for name in top))
    if len(names) > 1:
        raise ValueError(
            f"filter_top: {', '.join(names)} are several trees, and a run reads one: leave out the test "
            "sets of another"
        )
    return f"data/{names[0]}" if names else None


def _take_stride(left: Mapped) -> int:
    """The stride of `data_params.sequence_length`, which goes into the frames of the splits."""
    data = dict(left.get("data_params") or {})
    for key in LENGTH_KEYS:
        if key in data:
            length, stride = _pair(data[key], where=f"data_params.{key}")
            left["data_params"] = data | {key: [length, 1]}
            return stride
    return 1


def _training_simulations(filters: Mapped, known: Published | None) -> list[int]:
    if "filter_sim" not in filters:
        return []
    listed = _simulations(filters["filter_sim"], where="data_filters.filter_sim")
    if not filters.get("exclude_filter_sim", False):
        return listed
    if known is None:
        raise ValueError(
            "data_filters.exclude_filter_sim: leaves out of how many? dataset.name is missing"
        )
    return [number for number in range(known.simulations) if number not in set(listed)]


def _test_split(tests: dict[str, Mapped], used: Sequence[int], stride: int) -> Mapped:
    """All test sets as one: they need the same frames and lengths, and no simulation to train on."""
    if not tests:
        return {}
    numbers: list[int] = []
    shared: dict[str, Any] = {}
    for name, section in tests.items():
        where = f"test_sets.{name}"
        own = _simulations(section.get("filter_sim", []), where=f"{where}.filter_sim")
        if leaked := [number for number in own if number in set(used)]:
            raise ValueError(f"{where}: simulations {leaked} are also trained on, by data_filters")
        numbers += [number for number in own if number not in numbers]
        shared[name] = (_frames(section, stride, where=where), _rollout(section, stride, where))
    if len(set(map(str, shared.values()))) > 1:
        raise ValueError(
            f"test_sets: {', '.join(tests)} have other frames or lengths than each other; keep those "
            "that agree"
        )
    frames, length = next(iter(shared.values()))
    return {
        "data.splits.test.simulations": numbers,
        "data.splits.test.frames": frames,
        **({} if length is None else {"evaluate.rollout": length - 1}),
        **({} if length is None else {"evaluate.lead_window": [1, length - 1]}),
    }


def _rollout(section: Mapped, stride: int, where: str) -> int | None:
    """Frames of a test sequence, the first given; None where it does not say."""
    if "sequence_length" not in section:
        return None
    length, own = _pair(_only(section["sequence_length"], where=where), where=where)
    if own != stride:
        raise ValueError(
            f"{where}.sequence_length: stride {own}, and data_params has {stride}; a run has one"
        )
    return length


def _frames(section: Mapped, stride: int, *, where: str) -> list[int]:
    """`[[first, end]]` as first, last and stride."""
    if "filter_frame" not in section:
        raise ValueError(f"{where}.filter_frame is missing: [[first, end]], the end left out")
    first, end = _pair(_only(section["filter_frame"], where=where), where=f"{where}.filter_frame")
    return [first, end - 1, stride]


def _simulations(lists: Any, *, where: str) -> list[int]:
    """One list: of two rising numbers `[first, end]` a range without its end, else the numbers."""
    listed = _only(lists, where=where)
    if not isinstance(listed, list) or not all(isinstance(n, int) for n in listed):
        raise ValueError(f"{where}: expected one list of numbers in a list, found {lists!r}")
    is_range = len(listed) == 2 and listed[0] < listed[1]
    return list(range(*listed)) if is_range else listed


def _only(lists: Any, *, where: str) -> Any:
    if not isinstance(lists, list) or len(lists) != 1:
        raise ValueError(f"{where}: expected one list in a list, as for one tree; found {lists!r}")
    return lists[0]


def _pair(value: Any, *, where: str) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(n, int) for n in value):
        raise ValueError(f"{where}: expected two whole numbers, found {value!r}")
    return value[0], value[1]
