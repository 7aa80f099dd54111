"""U-AFNO: a U-shaped convolutional operator with Fourier mixing in the bottleneck."""

from torch import Tensor, nn

from nops_models._afno import AFNOMixer
from nops_models._blocks import AFNOBlock
from nops_models._config import UAFNOConfig
from nops_models._pyramid import Decoder, Encoder, PyramidModel
from nops_models._step import embedding_layers, output_layer, residual_scale


class UAFNO(PyramidModel[UAFNOConfig]):
    """One step of a time-dependent operator on a 2-D grid, conditioned on its parameters.

    next frame = last frame + residual_scale·F(state, parameters), where F is a U-net whose levels are
    residual blocks and whose bottleneck mixes in Fourier space (`AFNOMixer`). F starts at zero, so
    that an untrained model predicts persistence and the first loss is that of the trivial baseline.
    The parameters act through FiLM in encoder and decoder, never in the Fourier path.

    One set of weights serves any grid of at least 2^encoder_levels cells in each direction, odd
    sizes included. Circular padding makes the convolutions commute with shifts of
    2^encoder_levels cells on even grids; the mixers do not.

    Args:
        config: Sizes and choices.

    Source:
        The design of U-AFNO, arXiv 2406.17119; mixers of arXiv 2111.13587; FiLM of arXiv
        1709.07871.
    """

    def __init__(self, config: UAFNOConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = embedding_layers(config)
        self.encoder = Encoder(config)
        self.bottleneck = nn.Sequential(*(_afno_block(config) for _ in range(config.afno_blocks)))
        self.decoder = Decoder(config)
        self.output = output_layer(config.level_channels[0], config)
        self.register_buffer("scale", residual_scale(config), persistent=False)

    def _coarsest(self, features: Tensor, condition: Tensor | None) -> Tensor:
        del condition  # the Fourier path sees no parameters
        return self.bottleneck(features)


def _afno_block(config: UAFNOConfig) -> AFNOBlock:
    channels = config.level_channels[-1]
    mixer = AFNOMixer(
        channels, groups=config.afno_groups, sparsity=config.sparsity, modes=config.modes
    )
    return AFNOBlock(channels, mixer=mixer, mlp_ratio=config.mlp_ratio, dropout=config.dropout)
