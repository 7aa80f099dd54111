"""A plain U-net: the U-AFNO with residual blocks in place of its Fourier blocks."""

from torch import Tensor

from nops_models._config import UNetConfig
from nops_models._pyramid import Decoder, Encoder, PyramidModel, apply_blocks, residual_blocks
from nops_models._step import embedding_layers, output_layer, residual_scale


class UNet(PyramidModel[UNetConfig]):
    """One step of a time-dependent operator on a 2-D grid by convolutions alone.

    The control that shows what a U-AFNO's Fourier blocks are worth: stem, levels, skips, residual
    and conditioning are the same, and residual blocks stand where the Fourier blocks do, with the
    parameters acting there too. `forward`, `rollout` and `get_intermediate_features` are those of
    `UAFNO`.

    One set of weights serves any grid of at least 2^encoder_levels cells in each direction, odd
    sizes included. With circular padding a step commutes with shifts of 2^encoder_levels cells on
    grids that are multiples of it. What a cell becomes depends on its neighbourhood alone, whose
    width doubles with each level.

    Args:
        config: Sizes and choices.

    Source:
        U-nets, Ronneberger et al., arXiv 1505.04597; FiLM of arXiv 1709.07871.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = embedding_layers(config)
        self.encoder = Encoder(config)
        widths = [config.level_channels[-1]] * (config.bottleneck_blocks + 1)
        self.bottleneck = residual_blocks(config, widths)
        self.decoder = Decoder(config)
        self.output = output_layer(config.level_channels[0], config)
        self.register_buffer("scale", residual_scale(config), persistent=False)

    def _coarsest(self, features: Tensor, condition: Tensor | None) -> Tensor:
        return apply_blocks(self.bottleneck, features, condition)
