"""A graph network that steps a field on the nodes of a chain, in plain tensors."""

import itertools
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from nops_models._checks import check_choice
from nops_models._vae_config import ACTIVATIONS

CONVOLUTIONS = ("difference", "mean", "gcn")


class WaveGraphNet(nn.Module):
    """One step in time of displacement u and velocity v on a graph: state (u, v, force) to next (u, v).

    The first `out_features` features of the state are stepped, the others are given. Inside, features
    are divided by `scales`, so that losses outside stay in physical units. Nodes with one neighbour or
    none are ends, and held at zero.

    | `conv` | what a layer sees beside the node itself |
    |---|---|
    | "difference" | first layer: (mean of the neighbours − self)·gain, a curvature; then means |
    | "mean" | the mean of the neighbours |
    | "gcn" | nothing: D^−½(A + I)D^−½ mixes the node into its neighbours |

    Args:
        in_features: Features of a node's state.
        out_features: Those that are stepped.
        hidden: Width.
        layers: Graph layers, a linear readout after them not counted.
        conv: One of the three.
        activation: "silu", "tanh", "gelu", "elu" or "relu".
        dropout: Share of hidden features dropped in training.
        skip: Add a layer's input to its output, from the second layer on.
        residual: Predict the increment in scaled space; else the next state itself.
        scales: Divisor of each feature, in its unit.
        gains: Of each feature's difference, dimensionless; "difference" alone uses them. An end has no
            difference: it is not stepped, and its one neighbour is no curvature.
        increments: What an output of 1 adds to each stepped feature, in its unit; None: its divisor. A
            time step times the size of its rate makes all outputs of one size. `residual` alone uses it.
        limit: Called with a state and the next one that the network made of it; gives the next one that
            counts. Not in training, where it would hide from the loss what it corrects. None: as the
            network made it.

    Raises:
        ValueError: If a size, choice or length makes no sense.

    Source:
        "gcn": Kipf and Welling, arXiv 1609.02907. A plain mean hardly shows curvature, which is what
        moves a wave: hence the difference.
    """

    scales: Tensor
    gains: Tensor
    increments: Tensor

    def __init__(
        self,
        *,
        in_features: int = 3,
        out_features: int = 2,
        hidden: int = 32,
        layers: int = 4,
        conv: str = "difference",
        activation: str = "silu",
        dropout: float = 0.0,
        skip: bool = True,
        residual: bool = True,
        scales: tuple[float, ...] = (0.08, 0.16, 6.0),
        gains: tuple[float, ...] = (100.0, 100.0, 1.0),
        increments: tuple[float, ...] | None = None,
        limit: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        check_choice("conv", conv, CONVOLUTIONS)
        check_choice("activation", activation, tuple(ACTIVATIONS))
        _check_numbers(in_features, out_features, hidden, layers, dropout)
        _check_lengths(in_features, scales=scales, gains=gains)
        increments = scales[:out_features] if increments is None else increments
        _check_lengths(out_features, increments=increments)
        self.conv, self.skip, self.residual, self.limit = conv, skip, residual, limit
        self.in_features, self.out_features = in_features, out_features
        seen = 1 if conv == "gcn" else 2
        widths = [in_features, *[hidden] * layers]
        self.layers = nn.ModuleList(
            nn.Linear(seen * before, after) for before, after in itertools.pairwise(widths)
        )
        self.readout = nn.Linear(hidden, out_features)
        self.activation, self.dropout = ACTIVATIONS[activation](), nn.Dropout(dropout)
        self.register_buffer("scales", torch.tensor(scales), persistent=False)
        self.register_buffer("gains", torch.tensor(gains), persistent=False)
        self.register_buffer("increments", torch.tensor(increments), persistent=False)

    def forward(
        self,
        state: Float[Tensor, "batch node features"],
        edge_index: Int[Tensor, "2 edge"] | None = None,
    ) -> Float[Tensor, "batch node stepped"]:
        """One step.

        Args:
            state: Of every node, physical units.
            edge_index: Sources and targets of directed edges, each pair given both ways; None for the
                chain 0 – 1 – … – N−1.

        Raises:
            ValueError: If the state has another number of features, or fewer than two nodes.
        """
        after = self.free_step(state, edge_index)
        return after if self.limit is None or self.training else self.limit(state, after)

    def free_step(
        self,
        state: Float[Tensor, "batch node features"],
        edge_index: Int[Tensor, "2 edge"] | None = None,
    ) -> Float[Tensor, "batch node stepped"]:
        """One step as the network makes it, without `limit`; else as `forward`."""
        if state.shape[-1] != self.in_features or state.shape[-2] < 2:
            raise ValueError(
                f"state must be [batch, 2 nodes or more, {self.in_features}], got {tuple(state.shape)}."
            )
        graph = _Graph(state, edge_index)
        made = self.readout(self._hidden(state / self.scales, graph))
        if self.residual:
            after = state[..., : self.out_features] + made * self.increments
        else:
            after = made * self.scales[: self.out_features]
        return after * graph.inner

    def rollout(
        self,
        start: Float[Tensor, "batch node stepped"],
        given: Float[Tensor, "batch time node given"],
        edge_index: Int[Tensor, "2 edge"] | None = None,
    ) -> Float[Tensor, "batch time node stepped"]:
        """The states after each step, the start not among them.

        Args:
            start: Features that are stepped.
            given: The other features at the beginning of each step, such as the force.
            edge_index: As of `forward`.
        """
        now, path = start, []
        for others in given.unbind(1):
            now = self(torch.cat([now, others], dim=-1), edge_index)
            path.append(now)
        return torch.stack(path, dim=1)

    def _hidden(self, scaled: Tensor, graph: "_Graph") -> Tensor:
        hidden = scaled
        for number, layer in enumerate(self.layers):
            after = self.dropout(self.activation(layer(self._seen(hidden, graph, number == 0))))
            hidden = hidden + after if self.skip and number else after
        return hidden

    def _seen(self, hidden: Tensor, graph: "_Graph", is_first: bool) -> Tensor:
        if self.conv == "gcn":
            return graph.smoothed(hidden)
        message = graph.mean(hidden)
        if self.conv == "difference" and is_first:
            message = (message - hidden) * self.gains * graph.inner
        return torch.cat([hidden, message], dim=-1)


class _Graph:
    """Sums over neighbours, by shifts on the chain and by index on any other graph."""

    def __init__(self, state: Tensor, edge_index: Tensor | None) -> None:
        self._edges = edge_index
        self._degree = self.total(torch.ones_like(state[:1, :, :1]))
        self.inner = (self._degree > 1).to(state)

    def total(self, hidden: Tensor) -> Tensor:
        if self._edges is None:
            before, after = hidden[:, :-1], hidden[:, 1:]
            return functional.pad(before, (0, 0, 1, 0)) + functional.pad(after, (0, 0, 0, 1))
        source, target = self._edges
        return torch.zeros_like(hidden).index_add(1, target, hidden[:, source])

    def mean(self, hidden: Tensor) -> Tensor:
        return self.total(hidden) / self._degree.clamp(min=1)

    def smoothed(self, hidden: Tensor) -> Tensor:
        root = (self._degree + 1).rsqrt()
        scaled = hidden * root
        return (scaled + self.total(scaled)) * root


def _check_numbers(
    in_features: int, out_features: int, hidden: int, layers: int, dropout: float
) -> None:
    if not 1 <= out_features <= in_features:
        raise ValueError(
            f"out_features must be within [1, in_features], got {out_features} of {in_features}."
        )
    if min(hidden, layers) < 1:
        raise ValueError(f"hidden and layers must be at least 1, got {hidden} and {layers}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be within [0, 1), got {dropout}.")


def _check_lengths(count: int, **values: tuple[float, ...]) -> None:
    for name, given in values.items():
        if len(given) != count or min(given) <= 0:
            raise ValueError(f"{name} must be {count} positive numbers, got {given}.")
