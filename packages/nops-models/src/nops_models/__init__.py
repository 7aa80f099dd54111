"""Neural operators and their building blocks: U-AFNO, U-net, FNO, AFNO mixer, FiLM."""

from nops_models._afno import AFNOMixer
from nops_models._config import FNOConfig, UAFNOConfig, UNetConfig
from nops_models._film import FiLM
from nops_models._fno import FNO
from nops_models._spectral import SpectralConv
from nops_models._step import StepModel
from nops_models._uafno import UAFNO
from nops_models._unet import UNet

__all__ = [
    "FNO",
    "UAFNO",
    "AFNOMixer",
    "FNOConfig",
    "FiLM",
    "SpectralConv",
    "StepModel",
    "UAFNOConfig",
    "UNet",
    "UNetConfig",
]
