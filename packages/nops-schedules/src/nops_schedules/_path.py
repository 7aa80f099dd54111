"""The path that weights take: waypoints, segments, a position, and caps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from nops_schedules._curves import CURVES, Curve, between

SNAP = 0.01  # weight units; what is left of a segment below that is done at once


class Position(NamedTuple):
    """A place on the path: the segment, and how far along it, in [0, 1)."""

    segment: int = 0
    q: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Path:
    """Weights of roles along straight lines between waypoints.

    Attributes:
        roles: Names of the loss components of each role.
        waypoints: Weight of each role at each waypoint, one at least; segments lie between them.
        caps: Highest weight of a role, where it has one.
        curve: How far a segment's weights have moved at its position q.
        end: Where it ends: the last waypoint, or before it where a cap is clipped.
    """

    roles: Mapping[str, tuple[str, ...]]
    waypoints: tuple[Mapping[str, float], ...]
    caps: Mapping[str, float]
    curve: Curve
    end: Position

    @property
    def segments(self) -> int:
        """Number of segments."""
        return len(self.waypoints) - 1

    def length(self, segment: int) -> float:
        """The largest change of any role's weight in a segment."""
        before, after = self.waypoints[segment : segment + 2]
        return max(abs(after[role] - before[role]) for role in self.roles)

    def role_weights(self, position: Position) -> dict[str, float]:
        """Weight of each role at a position."""
        if position.q == 0:
            return dict(self.waypoints[position.segment])
        before, after = self.waypoints[position.segment : position.segment + 2]
        fraction = self.curve.value(position.q)
        found = {role: between(before[role], after[role], fraction) for role in self.roles}
        return {role: min(weight, self.caps.get(role, weight)) for role, weight in found.items()}

    def weights(self, position: Position) -> dict[str, float]:
        """Weight of each component at a position."""
        by_role = self.role_weights(position)
        return {name: by_role[role] for role, names in self.roles.items() for name in names}

    def largest(self) -> dict[str, float]:
        """The largest weight of each component at any waypoint."""
        return {
            name: max(point[role] for point in self.waypoints)
            for role, names in self.roles.items()
            for name in names
        }

    def advance(self, position: Position, step: float) -> Position:
        """Move by `step` weight units; what is then left below `SNAP` is done as well."""
        length = self.length(position.segment)
        limit = self.end.q if position.segment == self.end.segment else 1.0
        q = position.q + step / length
        if (limit - q) * length < SNAP * (1 - 1e-9):  # rounding must not decide at 0.01 itself
            q = limit
        return Position(position.segment, q) if q < 1 else Position(position.segment + 1, 0.0)

    def progress(self, position: Position) -> float:
        """Fraction of the path, each segment counted alike; 1 where there is none."""
        return 1.0 if self.segments == 0 else (position.segment + position.q) / self.segments

    def at(self, progress: float) -> Position:
        """The position of a `progress`, not beyond the end."""
        segment = min(int(progress * self.segments), self.segments)
        return min(Position(segment, progress * self.segments - segment), self.end)


def make_path(
    *,
    roles: Mapping[str, tuple[str, ...]],
    waypoints: tuple[Mapping[str, float], ...],
    caps: Mapping[str, float],
    curve: str,
    clip: bool,
) -> Path:
    """The path, checked against its caps.

    Args:
        roles: Names of the loss components of each role.
        waypoints: Weight of each role at each waypoint.
        caps: Highest weight of a role.
        curve: A key of `CURVES`.
        clip: Whether to stop at the last position within the caps, rather than to refuse.

    Raises:
        ValueError: If a segment changes nothing, or a waypoint is above a cap and is not clipped.
    """
    whole = Path(
        roles=roles,
        waypoints=waypoints,
        caps=caps,
        curve=CURVES[curve],
        end=Position(len(waypoints) - 1),
    )
    for segment in range(whole.segments):
        if whole.length(segment) == 0:
            raise ValueError(
                f"waypoints {segment} and {segment + 1} are equal: nothing would change."
            )
    end = _first_cap(whole)
    if end == whole.end:
        return whole
    if not clip or end == Position():
        raise _above_cap(whole, clip=clip)
    return Path(roles=roles, waypoints=waypoints, caps=caps, curve=whole.curve, end=end)


def _first_cap(path: Path) -> Position:
    """The last position up to which every role is within its cap."""
    if any(path.waypoints[0][role] > cap for role, cap in path.caps.items()):
        return Position()
    for segment in range(path.segments):
        before, after = path.waypoints[segment : segment + 2]
        allowed = [
            path.curve.inverse((cap - before[role]) / (after[role] - before[role]))
            for role, cap in path.caps.items()
            if after[role] > cap
        ]
        if allowed:
            return Position(segment, min(allowed))
    return path.end


def _above_cap(path: Path, *, clip: bool) -> ValueError:
    found = [
        f"{role} {point[role]:g} at waypoint {number} is above its cap {cap:g}"
        for number, point in enumerate(path.waypoints)
        for role, cap in path.caps.items()
        if point[role] > cap
    ]
    hint = (
        "the weights could not move at all"
        if clip
        else 'raise the cap, or give cap_policy="clip" to stop there'
    )
    return ValueError(f"{'; '.join(found)}: {hint}.")
