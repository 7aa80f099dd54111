"""Tensors of which each rank holds some rows (`DTensor`): the own rows, the whole, and the way back.

`train.shard` splits parameters along dimension 0: of n rows on r ranks each holds ceil(n / r), the last ones
fewer or none. Every function here leaves an ordinary tensor as it is.
"""

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nops_train._engine_batch import map_tensors
from nops_train._world import World


def is_sharded(module: Any) -> bool:
    """Whether `fully_shard` was applied to a module."""
    fsdp = sys.modules.get("torch.distributed.fsdp")  # nothing is sharded before it is imported
    return fsdp is not None and isinstance(module, fsdp.FSDPModule)


def is_shard(tensor: Any) -> bool:
    """Whether this rank holds only some rows of `tensor`."""
    distributed = sys.modules.get("torch.distributed.tensor")
    return distributed is not None and isinstance(tensor, distributed.DTensor)


def own_rows(tensor: Tensor) -> Tensor:
    """The rows that this rank holds, without a graph, in the memory of `tensor`."""
    return tensor.detach().to_local() if is_shard(tensor) else tensor  # pyright: ignore


@torch.no_grad()
def exchange(a: Tensor, b: Tensor) -> None:
    """Swap the values of two tensors of one shape; of each, this rank's rows."""
    first, second = own_rows(a), own_rows(b)
    kept = first.clone()
    first.copy_(second)
    second.copy_(kept)


def reshard(module: nn.Module) -> None:
    """Forget the whole parameters that a forward pass without a backward pass has left behind.

    They would go stale as soon as this rank's rows change.
    """
    if is_sharded(module):
        module.reshard()  # pyright: ignore[reportCallIssue]


def state_of(part: Any, world: World) -> dict[str, Any]:
    """`part.state_dict()` with whole tensors: on rank 0, on the host; the others hold None in their place.

    Collective where there is anything to join. A tied weight is joined once, and keeps its several names.
    """
    state = part.state_dict(keep_vars=True) if is_sharded(part) else part.state_dict()
    joined: dict[int, tuple[Tensor, Tensor | None]] = {}

    def join(tensor: Tensor) -> Tensor | None:
        if not is_shard(tensor):
            return tensor
        if id(tensor) not in joined:  # beside the key, the tensor itself: its id must stay taken
            whole = world.join_rows(own_rows(tensor), shape=tuple(tensor.shape))
            joined[id(tensor)] = (tensor, whole)
        return joined[id(tensor)][1]

    return map_tensors(state, join)


def rows_like(value: Tensor, like: Tensor) -> Tensor:
    """Of the whole `value`, the rows that this rank holds of `like`, as a tensor of its kind."""
    if not is_shard(like):
        return value
    from torch.distributed.tensor import DTensor

    assert isinstance(like, DTensor)
    mesh = like.device_mesh
    local = torch.empty_like(own_rows(like), dtype=value.dtype)
    if local.numel():
        first = mesh.get_local_rank() * -(-like.shape[0] // mesh.size())
        local.copy_(value[first : first + len(local)])
    place = {"shape": like.shape, "stride": like.stride()}
    return DTensor.from_local(local, mesh, like.placements, run_check=False, **place)


def module_rows(module: nn.Module, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors by name, each as `module` holds it."""
    if not is_sharded(module):
        return dict(saved)
    present = module.state_dict()
    return {name: rows_like(value, present[name]) for name, value in saved.items()}


def optimizer_rows(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> dict[str, Any]:
    """An optimizer's state of whole tensors, each as `optimizer` holds it.

    Raises:
        ValueError: If a state tensor of a sharded parameter has another shape than the parameter.
    """
    held = dict(enumerate(p for group in optimizer.param_groups for p in group["params"]))
    if not any(map(is_shard, held.values())):
        return dict(saved)
    state = {i: _state_rows(values, held.get(i)) for i, values in saved["state"].items()}
    return {**saved, "state": state}


def _state_rows(values: Mapping[str, Any], parameter: Tensor | None) -> dict[str, Any]:
    found = dict(values)
    for name, value in found.items() if parameter is not None else ():
        if isinstance(value, Tensor) and value.dim():
            assert parameter is not None
            if value.shape != parameter.shape:
                raise ValueError(
                    f"{name} has the shape {tuple(value.shape)} for a parameter of shape "
                    f"{tuple(parameter.shape)}, and train.shard knows no part of that; go on without it"
                )
            found[name] = rows_like(value, parameter)
    return found
