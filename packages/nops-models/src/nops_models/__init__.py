"""Neural operators and their building blocks: U-AFNO, AFNO mixer, FiLM."""

from nops_models._afno import AFNOMixer
from nops_models._config import UAFNOConfig
from nops_models._film import FiLM
from nops_models._uafno import UAFNO

__all__ = ["UAFNO", "AFNOMixer", "FiLM", "UAFNOConfig"]
