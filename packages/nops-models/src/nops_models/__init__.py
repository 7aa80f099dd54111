"""Neural operators, a physics transformer, a physics-integrated VAE, quantizers, and building blocks."""

from nops_models._afno import AFNOMixer
from nops_models._bounded import draw_normal
from nops_models._codebook_rules import EMA, Gradient, SimVQ
from nops_models._config import FNOConfig, UAFNOConfig, UNetConfig
from nops_models._estimators import RotationTrick, StraightThrough
from nops_models._film import FiLM
from nops_models._fno import FNO
from nops_models._kmeans import kmeans
from nops_models._mlp import MLP, FourierMLP
from nops_models._physics_decoder import PhysicsDecoder
from nops_models._projector import LatentProjector
from nops_models._quantizer import QuantizerOutput, VectorQuantizer
from nops_models._quantizer_residual import ResidualVectorQuantizer
from nops_models._quantizer_scalar import FiniteScalarQuantizer
from nops_models._residual_heads import (
    Correction,
    GatedResidual,
    LowRankResidual,
    NoPhysicsHead,
)
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
from nops_models._upt_mixture import UPTMixture
from nops_models._vae import PhysicsVAE
from nops_models._vae_config import PhysicsVAEConfig
from nops_models._vae_outputs import Decoding, Draw, Encoding, Posterior, VAEOutput
from nops_models._vqvae import VQVAE, VQVAEOutput
from nops_models._vqvae_config import QuantizerConfig, VQVAEConfig
from nops_models._wave_graph import WaveGraphNet

__all__ = [
    "EMA",
    "FNO",
    "MLP",
    "UAFNO",
    "UPT",
    "VQVAE",
    "AFNOMixer",
    "AnyPointDecoder",
    "Approximator",
    "Correction",
    "Decoding",
    "Draw",
    "Encoding",
    "FNOConfig",
    "FiLM",
    "FiniteScalarQuantizer",
    "FourierMLP",
    "GatedResidual",
    "Gradient",
    "GridEncoder",
    "LatentProjector",
    "LowRankResidual",
    "NoPhysicsHead",
    "PhysicsDecoder",
    "PhysicsVAE",
    "PhysicsVAEConfig",
    "Posterior",
    "QuantizerConfig",
    "QuantizerOutput",
    "ResidualVectorQuantizer",
    "RotationTrick",
    "SimVQ",
    "SpectralConv",
    "StepModel",
    "StraightThrough",
    "SupernodeEncoder",
    "UAFNOConfig",
    "UNet",
    "UNetConfig",
    "UPTConfig",
    "UPTMixture",
    "UPTOutput",
    "VAEOutput",
    "VQVAEConfig",
    "VQVAEOutput",
    "VectorQuantizer",
    "WaveGraphNet",
    "draw_normal",
    "kmeans",
]
