"""The contract of every object with a state: cut anywhere, restore, equal to never having stopped.

A package's tests describe each of its stateful objects as a `Case` and run the suite over all of them:

    CASES = [OfMeans, OfAverage]

    @pytest.mark.parametrize("cut", CUTS)
    @pytest.mark.parametrize("make", CASES)
    def test_round_trip(make, cut):
        check_round_trip(make, cut=cut)

    def test_every_stateful_class_is_covered():
        assert stateful_classes(my_package) == {case.covers for case in CASES}
"""

import importlib
import io
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import Tensor

STEPS = 6
CUTS = tuple(range(STEPS + 1))

__all__ = ["CUTS", "STEPS", "Case", "check_round_trip", "same", "stateful_classes", "through_file"]


class Case(Protocol):
    """One object with a state, and something that moves it."""

    @property
    def state(self) -> Any:
        """The object: it has `state_dict` and `load_state_dict`."""
        ...

    def advance(self, step: int) -> None:
        """Do step number `step`, 0-based; it depends on the object's state and on `step` alone."""
        ...

    def observe(self) -> Any:
        """Everything that shows whether the object is where it should be, in plain values."""
        ...


def through_file(state: Any) -> Any:
    """What is read back of a saved state; only plain values survive, and no code is run."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def check_round_trip(
    make: Callable[[], Case],
    *,
    cut: int,
    steps: int = STEPS,
    through: Callable[[Any], Any] = through_file,
) -> None:
    """Stop after `cut` of `steps` steps, restore, go on, and compare with never having stopped.

    The state is restored into a fresh object, and into one that has already moved: nothing of what that
    one knew may be left. Asking for the state twice gives it twice, and disturbs nothing.

    Args:
        make: Makes the case, equal each time.
        cut: Steps before the stop.
        steps: Steps in all.
        through: Saves and loads a state.

    Raises:
        AssertionError: If something is lost, left over or disturbed.
    """
    expected = _whole(make, steps)
    first = make()
    _advance(first, 0, cut)
    saved = through(first.state.state_dict())
    assert same(saved, through(first.state.state_dict())), "the state differs when asked for twice"
    _advance(first, cut, steps)
    assert same(expected, first.observe()), "asking for the state changed what came after"
    for moved in (0, 1, steps):
        second = make()
        _advance(second, 0, moved)
        second.state.load_state_dict(through(saved))
        _advance(second, cut, steps)
        found = second.observe()
        assert same(expected, found), f"restored after {moved} other steps: {found} != {expected}"


def _whole(make: Callable[[], Case], steps: int) -> Any:
    case = make()
    start = through_file(case.observe())
    _advance(case, 0, steps)
    expected = through_file(case.observe())
    assert steps == 0 or not same(start, expected), "nothing moved: the case tests nothing"
    return expected


def _advance(case: Case, start: int, stop: int) -> None:
    for step in range(start, stop):
        case.advance(step)


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit, containers and tensors alike; NaN equals itself."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | (a != a)).all())
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return False
    return a == b or (a != a and b != b)


def stateful_classes(package: ModuleType) -> set[str]:
    """Names of the classes of a package with a `state_dict` and `load_state_dict` of their own."""
    names = [m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    modules = [importlib.import_module(name) for name in names if not name.endswith("__main__")]
    return {
        name
        for module in (package, *modules)
        for name, found in vars(module).items()
        if isinstance(found, type)
        and found.__module__ == module.__name__
        and {"state_dict", "load_state_dict"} <= vars(found).keys()
        and not getattr(found, "_is_protocol", False)
    }
