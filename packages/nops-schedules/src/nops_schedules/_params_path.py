"""From the parameters of a scheduler to its path."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nops_schedules._legacy import rename_legacy_losses
from nops_schedules._monitor import Monitor
from nops_schedules._names import did_you_mean
from nops_schedules._path import Path, make_path

if TYPE_CHECKING:
    from nops_schedules._params import SchedulerParams

_TWO_ROLES = (
    *("initial_weight_source", "initial_weight_target", "final_weight_source"),
    *("final_weight_target", "max_weight_target", "source_components", "target_components"),
)
_STACK = 5  # from `warnings.warn` to whoever made the parameters


def renamed_components(params: "SchedulerParams") -> dict[str, Any]:
    """The fields that name loss components, by today's names."""
    found: dict[str, Any] = {}  # loops, since a comprehension is a frame of its own in Python 3.11
    for name in ("source_components", "target_components", "static_components"):
        found[name] = rename_legacy_losses(getattr(params, name), stacklevel=_STACK)
    if params.roles is not None:
        found["roles"] = {}
        for role, terms in params.roles.items():
            renamed = rename_legacy_losses(dict.fromkeys(terms), stacklevel=_STACK)
            found["roles"][role] = tuple(renamed)
    return found


def monitor_of(params: "SchedulerParams", segment: int) -> Monitor:
    """What is watched on a segment of the path; beyond its end, what was watched last."""
    if params.monitors is None:
        return params.monitor_metric
    return params.monitors[min(segment, len(params.monitors) - 1)]


def path_of(params: "SchedulerParams") -> Path:
    """The path of two roles, or of those given.

    Raises:
        ValueError: If roles, waypoints, monitors and caps do not fit each other.
    """
    path = _of_two(params) if params.roles is None else _of_roles(params, params.roles)
    static = params.static_components
    for number, point in enumerate(path.waypoints):
        moving = [point[role] for role, names in path.roles.items() if {*names} - {*static}]
        if not any((*moving, *static.values())):
            raise ValueError(
                f"all weights are 0 at waypoint {number}: there would be nothing to train."
            )
    return path


def _of_two(params: "SchedulerParams") -> Path:
    alone = [n for n in ("waypoints", "caps", "monitors") if getattr(params, n) is not None]
    if alone:
        raise ValueError(f"{', '.join(alone)}: they belong to roles, which is not given.")
    initial = {"source": params.initial_weight_source, "target": params.initial_weight_target}
    final = {"source": params.final_weight_source, "target": params.final_weight_target}
    _check_cap(params)
    roles = {
        "source": tuple(n for n, used in params.source_components.items() if used),
        "target": tuple(n for n, used in params.target_components.items() if used),
    }
    if not any(roles.values()):
        raise ValueError("source_components and target_components name no component to move.")
    return make_path(
        roles=roles,
        waypoints=(initial,) if initial == final else (initial, final),
        caps={"target": params.max_weight_target},
        curve=params.transition_schedule,
        clip=params.cap_policy == "clip",
    )


def _check_cap(params: "SchedulerParams") -> None:
    cap = params.max_weight_target
    if params.initial_weight_target > cap:
        raise ValueError(
            f"initial_weight_target={params.initial_weight_target:g} is above max_weight_target={cap:g}."
        )
    if params.final_weight_target > cap and params.cap_policy == "error":
        raise ValueError(
            f"final_weight_target={params.final_weight_target:g} is above max_weight_target={cap:g}: "
            'raise the cap, or give cap_policy="clip" to stop there.'
        )


def _of_roles(params: "SchedulerParams", roles: Mapping[str, Any]) -> Path:
    changed = [n for n in _TWO_ROLES if getattr(params, n) != _default(params, n)]
    if changed:
        raise ValueError(
            f"{', '.join(changed)}: with roles, weights are given by waypoints, caps and roles alone."
        )
    names = [name for terms in roles.values() for name in terms]
    if len(names) != len(set(names)) or not all(roles.values()):
        raise ValueError(
            f"roles: each needs a component, and none may have two roles, got {dict(roles)}."
        )
    waypoints = tuple(params.waypoints or ())
    _check_waypoints(roles, waypoints, params.caps or {})
    if params.monitors is not None and len(params.monitors) != len(waypoints) - 1:
        raise ValueError(
            f"monitors needs one per segment, {len(waypoints) - 1}, got {len(params.monitors)}."
        )
    return make_path(
        roles={role: tuple(terms) for role, terms in roles.items()},
        waypoints=waypoints,
        caps=params.caps or {},
        curve=params.transition_schedule,
        clip=params.cap_policy == "clip",
    )


def _check_waypoints(
    roles: Mapping[str, Any], waypoints: tuple[Mapping[str, float], ...], caps: Mapping[str, float]
) -> None:
    if len(waypoints) < 2:
        raise ValueError(f"waypoints: two at least with roles, got {len(waypoints)}.")
    for where, point in (
        *((f"waypoints[{i}]", p) for i, p in enumerate(waypoints)),
        ("caps", caps),
    ):
        for role in point:
            if role not in roles:
                hint = did_you_mean(role, roles)
                raise ValueError(f"{where}: '{role}' is no role, they are {list(roles)}.{hint}")
    for index, point in enumerate(waypoints):
        if missing := [role for role in roles if role not in point]:
            raise ValueError(f"waypoints[{index}] needs a weight for {missing}.")


def _default(params: "SchedulerParams", name: str) -> Any:
    one = type(params).__dataclass_fields__[name]
    return one.default_factory() if callable(one.default_factory) else one.default
