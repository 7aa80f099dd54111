"""What a loss scheduler goes on from: a saved state, checked against its parameters."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nops_schedules._check import choice
from nops_schedules._events import LossSchedulerEvent
from nops_schedules._memory import Memory
from nops_schedules._path import Path

if TYPE_CHECKING:
    from nops_schedules._params import SchedulerParams

_KEYS = {"version", "params", "progress", "memory", "events"}


def restored(
    state: Mapping[str, Any], *, params: "SchedulerParams", path: Path, version: int, policy: str
) -> tuple[Memory, list[LossSchedulerEvent]]:
    """The memory and the events of a saved state.

    Args:
        state: What `state_dict` gave.
        params: The parameters of now.
        path: Their path.
        version: The layout that is understood.
        policy: "error", "warn" or "override", where the saved parameters are others.

    Raises:
        ValueError: If it is no such state, or of other parameters under "error".
    """
    choice("error", "warn", "override")("on_mismatch", policy)
    if set(state) - {"scale"} != _KEYS or state["version"] != version:
        raise ValueError(
            f"no state of a loss scheduler of version {version}: it holds {sorted(state)}, "
            f"version {state.get('version')}, expected {sorted(_KEYS)}."
        )
    _judge(differences(state["params"], params.asDict()), policy)
    memory = Memory.of(state["memory"])
    if len(_waypoints(state["params"])) != len(path.waypoints):
        memory.position, memory.undo = path.at(state["progress"]), []
    memory.position = min(memory.position, path.end)
    return memory, [LossSchedulerEvent(**event) for event in state["events"]]


def _waypoints(saved: Mapping[str, Any]) -> list[Any]:
    """The waypoints of saved parameters, two where they had two roles."""
    if saved["waypoints"] is not None:
        return saved["waypoints"]
    ends = [
        [saved[f"{when}_weight_{role}"] for role in ("source", "target")]
        for when in ("initial", "final")
    ]
    return ends[:1] if ends[0] == ends[1] else ends


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for each name whose value is another now, or is there only once."""
    absent = "nothing"
    return [
        f"{name}: saved {saved.get(name, absent)!r}, now {now.get(name, absent)!r}"
        for name in [*now, *(name for name in saved if name not in now)]
        if saved.get(name, absent) != now.get(name, absent)
    ]


def check_same(state: Mapping[str, Any], expected: Mapping[str, Any], *, kind: str) -> None:
    """Refuse a state that was saved by something else than what goes on from it.

    Args:
        state: A saved state.
        expected: What the state of now holds under "version", "scheme", "settings", and its other keys.
        kind: What was saved, for the message.

    Raises:
        ValueError: With one line for each difference.
    """
    heads = [{key: of.get(key) for key in ("version", "scheme")} for of in (state, expected)]
    found = differences(*heads)
    if not found and state.keys() != expected.keys():
        found = [f"keys: saved {sorted(state)}, now {sorted(expected)}"]
    if found := found or differences(state["settings"], expected["settings"]):
        text = "\n  ".join(found)
        raise ValueError(f"the state was saved with another {kind}:\n  {text}")


def _judge(differences: list[str], policy: str) -> None:
    if not differences or policy == "override":
        return
    text = "the state was saved with other parameters of the loss scheduler:\n  " + "\n  ".join(
        differences
    )
    if policy == "error":
        raise ValueError(f'{text}\nGive on_mismatch="override" to go on with those of now.')
    warnings.warn(text, UserWarning, stacklevel=4)
