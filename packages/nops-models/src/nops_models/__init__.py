"""Neural operators and their building blocks: U-AFNO, U-net, FNO, UPT, AFNO mixer, FiLM."""

from nops_models._afno import AFNOMixer
from nops_models._config import FNOConfig, UAFNOConfig, UNetConfig
from nops_models._film import FiLM
from nops_models._fno import FNO
from nops_models._spectral import SpectralConv
from nops_models._step import StepModel
from nops_models._uafno import UAFNO
from nops_models._unet import UNet
from nops_models._upt import UPT, UPTOutput
from nops_models._upt_approximator import Approximator
from nops_models._upt_config import UPTConfig
from nops_models._upt_decoder import AnyPointDecoder
from nops_models._upt_encoder_grid import GridEncoder
from nops_models._upt_encoder_supernodes import SupernodeEncoder

__all__ = [
    "FNO",
    "UAFNO",
    "UPT",
    "AFNOMixer",
    "AnyPointDecoder",
    "Approximator",
    "FNOConfig",
    "FiLM",
    "GridEncoder",
    "SpectralConv",
    "StepModel",
    "SupernodeEncoder",
    "UAFNOConfig",
    "UNet",
    "UNetConfig",
    "UPTConfig",
    "UPTOutput",
]
