"""Sentinel-2 bands: responses, and the wavelengths at which a model needs to be computed."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nops_physics._leaf_angles import gauss_legendre
from nops_physics._spectra import FIRST_NM, LAST_NM, all_wavelengths, check_whole_nm, read_table

Sampling = Literal["quadrature", "full"]

BANDS = {  # centre, full width at half maximum in nm: figures of ESA for Sentinel-2A
    "B01": (442.7, 21.0),
    "B02": (492.4, 66.0),
    "B03": (559.8, 36.0),
    "B04": (664.6, 31.0),
    "B05": (704.1, 15.0),
    "B06": (740.5, 15.0),
    "B07": (782.8, 20.0),
    "B08": (832.8, 106.0),
    "B8A": (864.7, 21.0),
    "B09": (945.1, 20.0),
    "B10": (1373.5, 31.0),
    "B11": (1613.7, 91.0),
    "B12": (2202.4, 175.0),
}
LEFT_OUT = ("B01", "B10")  # aerosol and cirrus say little about the ground
DEFAULT_BANDS = tuple(name for name in BANDS if name not in LEFT_OUT)
LEAST_RESPONSE = 0.01


class SentinelBands(nn.Module):
    """Band averages of spectra.

    The response of a band is exp(-ln 2 (2 |x - centre| / width)^6), zero below 0.01, at whole nm
    with the sum 1. `full` sums over those nm; `quadrature` takes Gauss-Legendre nodes in the
    cumulative response, which costs an error of at most 1e-4 of reflectance with 10 nodes a band.

    Args:
        names: Bands in the order of the output; by default those eleven that see the ground.
        nodes: Wavelengths per band of `quadrature`.
        sampling: `quadrature` or `full`.
        file: Measured responses instead: a table split by white space or commas under the header
            `wavelength` and names of bands, one row per nm within 400 to 2500.

    Attributes:
        wavelengths: `[wavelength]` in nm: where spectra are to be given.
        weights: `[band, wavelength]`, sum 1 per band.

    Raises:
        ValueError: If a band is unknown or named twice, `nodes` is below 1, or the file is no such
            table (with its name, row, column and what was expected).

    Source:
        Centres and widths: those published by ESA for the Sentinel-2A MSI, not yet compared with
        the original document.
    """

    wavelengths: Tensor
    weights: Tensor

    def __init__(
        self,
        names: Sequence[str] = DEFAULT_BANDS,
        *,
        nodes: int = 10,
        sampling: Sampling = "quadrature",
        file: str | Path | None = None,
    ) -> None:
        super().__init__()
        known = model_responses() if file is None else read_responses(Path(file))
        self.names = _checked(names, known)
        responses = torch.stack([known[name] for name in self.names])
        responses = responses / responses.sum(-1, keepdim=True)
        if sampling == "full":
            wavelengths, weights = _full(responses)
        elif sampling == "quadrature" and nodes >= 1:
            wavelengths, weights = _quadrature(responses, nodes)
        else:
            raise ValueError(
                f"need sampling 'full', or 'quadrature' with nodes >= 1, got {sampling!r}, {nodes}"
            )
        self.register_buffer("wavelengths", wavelengths, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, spectrum: Float[Tensor, "*batch wavelength"]) -> Float[Tensor, "*batch band"]:
        """Averages over each band of spectra `[*batch, wavelength]` given at `wavelengths`.

        Raises:
            ValueError: If the number of wavelengths is another.
        """
        if spectrum.shape[-1] != len(self.wavelengths):
            raise ValueError(
                f"spectrum needs {len(self.wavelengths)} wavelengths, got {tuple(spectrum.shape)}"
            )
        dtype = torch.promote_types(spectrum.dtype, torch.float32)
        with torch.autocast(spectrum.device.type, enabled=False):
            return (spectrum.to(dtype) @ self.weights.to(dtype).mT).to(spectrum.dtype)


def model_responses() -> dict[str, Tensor]:
    """Response of each band at 400 to 2500 nm by the closed form."""
    at = all_wavelengths()
    found = {}
    for name, (centre, width) in BANDS.items():
        response = torch.exp(-math.log(2) * (2 * (at - centre).abs() / width) ** 6)
        found[name] = torch.where(response < LEAST_RESPONSE, 0.0, response)
    return found


def read_responses(path: Path) -> dict[str, Tensor]:
    """Response of each band of a file at 400 to 2500 nm."""
    table = read_table(path, first="wavelength")
    at = table.pop("wavelength")
    check_whole_nm(at, path, every=False)
    if not len(at) or at[0] < FIRST_NM or at[-1] > LAST_NM:
        raise ValueError(
            f"{path}: {len(at)} wavelengths from {at[:1].tolist()} to {at[-1:].tolist()}, "
            f"expected some within {FIRST_NM} to {LAST_NM} nm"
        )
    start = int(at[0].item()) - FIRST_NM
    for name, values in table.items():
        if not (values >= 0).all() or not values.sum() > 0:
            raise ValueError(f"{path}: column {name!r} needs values from 0 on with a positive sum")
    after = LAST_NM - FIRST_NM + 1 - start - len(at)
    return {name: nn.functional.pad(values, (start, after)) for name, values in table.items()}


def _checked(names: Sequence[str], known: dict[str, Tensor]) -> tuple[str, ...]:
    if not names or len(set(names)) != len(names) or not known.keys() >= set(names):
        raise ValueError(
            f"names need to be bands, each once, of {', '.join(known)}; got {', '.join(names)}"
        )
    return tuple(names)


def _full(responses: Tensor) -> tuple[Tensor, Tensor]:
    used = responses.sum(0) > 0
    return all_wavelengths()[used], responses[:, used]


def _quadrature(responses: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """Nodes band after band; each whole nm stands for the nm around it."""
    places, shares = gauss_legendre(nodes)
    wavelengths = torch.cat([_quantiles(response, places) for response in responses])
    return wavelengths, torch.block_diag(*(shares[None] for _ in responses))


def _quantiles(response: Tensor, places: Tensor) -> Tensor:
    """Wavelengths below which the given shares of the response lie."""
    total = response.cumsum(0)
    at = torch.searchsorted(total, places * total[-1])
    missing = total[at] - places * total[-1]
    found = all_wavelengths()[at] + 0.5 - missing / response[at]
    return found.clamp(FIRST_NM, LAST_NM)
