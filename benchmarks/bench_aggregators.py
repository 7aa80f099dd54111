"""A full training step with joined gradients, against torchjd's and conflictfree's, and a plain sum.

The step is that of `bench_loss_weights`: Burgers' equation, three terms. What is measured against the others
needs them: `uv run --with 'torchjd[quadprog-projector]>=0.18,<0.19' --with conflictfree python
benchmarks/bench_aggregators.py`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from _harness import Claim, compare, paired_ratio, record
from bench_loss_weights import TERMS, problem, training_step
from nops_schedules import gradient
from torch import Tensor, nn

RULES = ("AlignedMTL", "ConFIG", "IMTLG", "MGDA", "PCGrad", "UPGrad")  # their CAGrad needs cvxpy
BAR, PLAIN_BAR = 1.05, 1.25
Backward = Callable[[Mapping[str, Tensor], nn.Module], None]


def step_with(backward: Backward) -> Callable[[], None]:
    """Forward, two derivatives, a joint gradient, optimiser."""
    model, losses = problem()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        backward(losses(), model)
        optimizer.step()

    return step


def ours(rule: str) -> Callable[[], None]:
    weighting = getattr(gradient, rule)(TERMS)
    return step_with(lambda losses, model: weighting.backward(losses, list(model.parameters())))


def torchjds(rule: str) -> Callable[[], None]:
    import torchjd.aggregation  # pyright: ignore[reportMissingImports]
    from torchjd import autojac  # pyright: ignore[reportMissingImports]

    aggregator = getattr(torchjd.aggregation, rule)()

    def backward(losses: Mapping[str, Tensor], model: nn.Module) -> None:
        params = list(model.parameters())
        autojac.backward(list(losses.values()), inputs=params)
        autojac.jac_to_grad(params, aggregator)

    return step_with(backward)


def conflictfrees(rule: str) -> Callable[[], None]:
    from conflictfree import grad_operator, utils  # pyright: ignore[reportMissingImports]

    operator: Any = (
        grad_operator.ConFIGOperator() if rule == "ConFIG" else grad_operator.PCGradOperator()
    )

    def backward(losses: Mapping[str, Tensor], model: nn.Module) -> None:
        rows = []
        for loss in losses.values():
            model.zero_grad()
            loss.backward(retain_graph=True)
            rows.append(utils.get_gradient_vector(model, none_grad_mode="zero"))
        utils.apply_gradient_vector(model, operator.calculate_gradient(rows))

    return step_with(backward)


def candidates() -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """What is measured, by claim: our step and the other."""
    made = {"ConFIG / plain sum": (ours("ConFIG"), training_step())}
    for rule in RULES:
        made[f"{rule} / torchjd"] = (ours(rule), torchjds(rule))
        if rule in ("ConFIG", "PCGrad"):
            made[f"{rule} / conflictfree"] = (ours(rule), conflictfrees(rule))
    return made


def main() -> None:
    """Measure and record."""
    torch.set_num_threads(1)
    made = candidates()
    claims: list[Claim] = [
        {
            "claim": name,
            "value": paired_ratio(*pair, repeat=9),
            "bar": PLAIN_BAR if name.endswith("plain sum") else BAR,
            "kind": "at_most",
        }
        for name, pair in made.items()
    ]
    seconds = compare({"plain sum": training_step(), "ConFIG": ours("ConFIG")}, repeat=5)
    record("aggregators", claims, {"points": 2000, "terms": TERMS, "seconds": seconds})


if __name__ == "__main__":
    main()
