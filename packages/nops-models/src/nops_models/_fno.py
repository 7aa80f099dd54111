"""A compact Fourier neural operator."""

from torch import Tensor, nn
from torch.nn import functional

from nops_models._config import FNOConfig
from nops_models._film import FiLM
from nops_models._spectral import SpectralConv
from nops_models._step import (
    StepModel,
    condition_width,
    embedding_layers,
    output_layer,
    residual_scale,
)

EXTENSION = 8  # "zeros" appends one cell for so many; Li et al. append 8 or 9 to grids of 64


class FNO(StepModel[FNOConfig]):
    """One step of a time-dependent operator on a 2-D grid by global convolutions.

    The control without a pyramid: a pointwise layer to `base_channels`, Fourier layers
    v ↦ FiLM(SpectralConv(v) + W·v + b) with GELU between them, two pointwise layers. The parameters
    act outside the spectral convolutions. `forward` and `rollout` are those of `UAFNO`; the
    bottleneck is what the last Fourier layer returns.

    One set of weights serves any grid, odd sizes included, and on a periodic domain means the same
    on each: fields that the grid resolves step alike, but for the aliasing of the GELUs. Other than in
    the publication the coordinates are no input, so that a step on a periodic domain commutes with
    every shift.

    Args:
        config: Sizes and choices.

    Source:
        Li et al., "Fourier neural operator for parametric PDEs", arXiv 2010.08895; FiLM of arXiv
        1709.07871.
    """

    def __init__(self, config: FNOConfig) -> None:
        super().__init__()
        self.config = config
        channels, hidden = config.base_channels, config.mlp_ratio * config.base_channels
        self.embed = embedding_layers(config)
        self.lift = nn.Conv2d(config.num_inputs, channels, 1)
        self.layers = nn.ModuleList(_FourierLayer(config) for _ in range(config.num_layers))
        self.project = nn.Conv2d(channels, hidden, 1)
        self.output = output_layer(hidden, config)
        self.register_buffer("scale", residual_scale(config), persistent=False)

    def _features(self, state: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        height, width = state.shape[-2:]
        features = self._extended(self.lift(state))
        for index, layer in enumerate(self.layers):
            if index:
                features = functional.gelu(features)
            features = layer(features, condition)
        bottleneck = features[..., :height, :width]
        return functional.gelu(self.project(bottleneck)), bottleneck

    def _extended(self, features: Tensor) -> Tensor:
        """The features on a longer domain, zero beyond the edges, unless they are periodic."""
        if self.config.padding == "circular":
            return features
        more_rows, more_columns = (-(-size // EXTENSION) for size in features.shape[-2:])
        return functional.pad(features, (0, more_columns, 0, more_rows))


class _FourierLayer(nn.Module):
    """FiLM(SpectralConv(v) + W·v + b)."""

    def __init__(self, config: FNOConfig) -> None:
        super().__init__()
        channels, embedding = config.base_channels, condition_width(config)
        self.spectral = SpectralConv(channels, channels, modes=config.modes)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.film = None if embedding is None else FiLM(embedding, channels)

    def forward(self, features: Tensor, condition: Tensor | None) -> Tensor:
        """Map `[B, C, H, W]` to the same shape."""
        features = self.spectral(features) + self.pointwise(features)
        return features if self.film is None else self.film(features, condition)
