"""Training in parts: `fully_shard` for the model, and what its ranks have to do in step.

A forward pass gathers the parameters of one unit after the other from all ranks, and a backward pass gives
each rank its rows of the summed gradient. So all ranks make the same passes, in the same order.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from nops_train._engine_batch import num_samples
from nops_train._errors import InertTermError, InputError
from nops_train._inert import not_computed, unreached
from nops_train._shards import is_shard, own_rows, reshard
from nops_train._world import World

if TYPE_CHECKING:
    from nops_train._engine_step import Stepper

OLDEST_ON_CPU = "2.7"  # torch's stand-in for streams on a CPU has no `record_event` before
FORWARD_METHODS = ("rollout",)
OUTSIDE = (
    "train.shard: a parameter was used outside of a forward pass, where each rank has a part of it; name the "
    "method of the model that uses it in the model's forward_methods"
)


_END = object()


def shard_model(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    *,
    device: torch.device,
    world: World,
) -> None:
    """Split the model's parameters over the ranks, and give the optimizer the parts.

    A unit is gathered as a whole and freed after use: each member of a `ModuleList` or `Sequential`, the
    outermost counting; what is left is one unit more, that of the model itself. The methods that the model
    lists in `forward_methods` (by default `rollout`) may use its parameters as `forward` does.

    Args:
        model: On any device; no more than one unit at a time is whole on `device`.
        optimizer: Of the app, without state yet; or None.
        device: Where the model computes.
        world: The ranks.

    Raises:
        InputError: If a parameter cannot be split, or the optimizer holds what is not the model's.
    """
    _check_device(device)
    _check_parameters(model)
    names = {id(p): name for name, p in model.named_parameters()}
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device.type, (world.size,))
    for unit in _units(model):
        fully_shard(unit, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for method in getattr(model, "forward_methods", FORWARD_METHODS):
        if hasattr(model, method):
            register_fsdp_forward_method(model, method)
    if optimizer is not None:
        _hand_over(optimizer, names, dict(model.named_parameters()))


def _check_device(device: torch.device) -> None:
    if device.type == "cpu" and not hasattr(torch.cpu.Stream, "record_event"):
        raise InputError(
            f"train.shard on a CPU needs torch {OLDEST_ON_CPU} or newer, found {torch.__version__}"
        )


def _check_parameters(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter.dim() == 0:
            raise InputError(f"train.shard: {name} is a scalar; give it the shape (1,)")
        if parameter.is_complex():
            raise InputError(f"train.shard: {name} is complex; hold it as pairs of real numbers")
    kinds: dict[torch.dtype, str] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kinds.setdefault(parameter.dtype, name)
    if len(kinds) > 1:
        found = ", ".join(f"{name} is {str(kind)[6:]}" for kind, name in kinds.items())
        raise InputError(f"train.shard needs trained parameters of one type; {found}")


def _units(model: nn.Module) -> list[nn.Module]:
    """What is gathered apart; a member that shares a parameter with the rest stays with the model."""
    owners: dict[int, set[nn.Module]] = defaultdict(set)
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)].add(module)

    def alone(unit: nn.Module) -> bool:
        inside = set(unit.modules())
        held = [owners[id(p)] for p in unit.parameters()]
        return bool(held) and all(owner <= inside for owner in held)

    return [unit for unit in dict.fromkeys(_members(model)) if alone(unit)]


def _members(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        is_called = type(child).forward is not nn.Module.forward
        if is_called and isinstance(module, (nn.ModuleList, nn.Sequential)):
            yield child
        else:
            yield from _members(child)


def _hand_over(
    optimizer: torch.optim.Optimizer, names: dict[int, str], parts: dict[str, nn.Parameter]
) -> None:
    if optimizer.state:
        raise InputError(
            "train.shard: the optimizer has a state already; give one that made no step"
        )
    for group in optimizer.param_groups:
        if any(id(p) not in names for p in group["params"]):
            raise InputError("train.shard: the optimizer holds parameters that are not the model's")
        group["params"] = [parts[names[id(p)]] for p in group["params"]]


def in_step(batches: Iterable[Any], world: World) -> Iterator[tuple[Any, bool]]:
    """As many batches on every rank, each with whether it counts: who has fewer repeats its last.

    Raises:
        InputError: On every rank, if one of them has no batch.
    """
    iterator, last = iter(batches), _END
    while True:
        batch = next(iterator, _END)
        last = last if batch is _END else batch
        state = world.gather((batch is not _END, last is not _END))
        if not any(has_next for has_next, _ in state):
            return
        if idle := [rank for rank, (_, had_one) in enumerate(state) if not had_one]:
            raise InputError(
                f"train.shard: the source gives rank {idle[0]} no batch, others some; it needs a batch for "
                f"each of the {world.size} ranks"
            )
        yield last, batch is not _END


def judge_in_parts(stepper: "Stepper", chunk: Any) -> bool:
    """Whether each enabled term reaches a trained parameter, by a backward pass of its own.

    Args:
        stepper: Its model is sharded.
        chunk: This rank's micro-batch.

    Returns:
        Whether all terms were finite on all ranks, so that something could be told.

    Raises:
        InertTermError: If an enabled term is missing or reaches no trained parameter.
    """
    for term, weight in stepper.weighting.terms.items():
        if weight != 0:
            stepper.optimizer.zero_grad(set_to_none=True)
            with explained():
                is_finite = _reaches(stepper, chunk, term)
            reshard(stepper.model)
            if not is_finite:
                return False
    return True


def _reaches(stepper: "Stepper", chunk: Any, term: str) -> bool:
    """Whether the terms are finite; a term that reaches nothing raises."""
    returned: set[str] = set()
    has_graph, present, bad = False, 0, 0
    active = frozenset(stepper.weighting.terms)
    for losses in stepper.windows(chunk, epoch=0, step=0, active=active):
        infinite = sum(not bool(value.isfinite()) for value in losses.values())
        if int(stepper.world.sum(torch.tensor(infinite))):
            return False
        returned |= losses.keys()
        if term in losses and losses[term].requires_grad:
            has_graph = True
            losses[term].backward()
        present, bad, good = _gradients(stepper)
        if good:
            return True
    if term not in returned:
        raise InertTermError(not_computed(term, returned))
    raise InertTermError(unreached(term, _cause(has_graph, present, bad)))


def _gradients(stepper: "Stepper") -> tuple[int, int, int]:
    """Of the trained parameters: how many have a gradient, a bad one, a finite one that is not zero."""
    held = [own_rows(p.grad) for p in stepper.parameters.values() if p.grad is not None]
    if not held:
        return 0, 0, 0
    flags = [torch.stack([~g.isfinite().all(), g.any()]) for g in held]
    bad, moved = stepper.world.sum(torch.stack(flags).int()).bool().unbind(1)
    return len(held), int(bad.sum()), int((moved & ~bad).sum())


def _cause(has_graph: bool, present: int, bad: int) -> str:
    if not has_graph:
        return (
            "it has no graph (its inputs are detached, its modules frozen, or gradients were off)"
        )
    if not present:
        return "its graph holds only modules that are not in the optimizer, or inputs"
    if bad:
        return "its gradient is not finite"
    return f"its gradient is zero for all {present} parameters in its graph"


@contextmanager
def explained() -> Iterator[None]:
    """What torch says of an operation with a part of a parameter, in words that help.

    Raises:
        InputError: In place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if "DTensor" not in str(error):
            raise
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{OUTSIDE}. torch says: {first}") from error


def check_loss(name: str, value: Tensor) -> None:
    """Refuse a term of which each rank has a part.

    Raises:
        InputError: With the name of the term.
    """
    if is_shard(value):
        raise InputError(f"{OUTSIDE}; that is how the term {name} is made")


def check_owner(owner: Any) -> None:
    """Refuse a weighting that asks for gradients of single terms.

    Raises:
        InputError: With its class.
    """
    if hasattr(owner, "balance") or hasattr(owner, "accumulate"):
        raise InputError(
            f"train.shard: {type(owner).__name__} balances gradients, of which no rank has the whole; choose "
            "a weighting by values, or leave train.shard out"
        )


def common_parts(parts: int, batch: Any, world: World) -> int:
    """Micro-batches that every rank can make of its share: at most `parts`."""
    return parts if parts == 1 else min(parts, *world.gather(num_samples(batch)))


def total_norm(parameters: Sequence[Tensor], world: World, *, sharded: bool) -> Tensor:
    """2-norm of the gradient over all parameters, and over all rows of those that are sharded."""
    held = [p.grad for p in parameters if p.grad is not None]
    norm = get_total_norm([own_rows(gradient) for gradient in held] if sharded else held)
    if not any(map(is_shard, held if sharded else ())):
        return norm
    return world.sum(norm.double().square()).sqrt().to(norm.dtype)


def first_bad(parameters: Mapping[str, Tensor], world: World) -> str | None:
    """The first parameter with a gradient that is not finite; of a sharded one, on any rank."""
    held = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    bad = (not bool(own_rows(gradient).isfinite().all()) for gradient in held.values())
    if any(map(is_shard, held.values())):
        bad = world.sum(torch.tensor(list(bad), dtype=torch.int32)).tolist()
    return next((name for name, is_bad in zip(held, bad, strict=True) if is_bad), None)
