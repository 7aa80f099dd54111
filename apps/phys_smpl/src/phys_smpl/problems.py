"""The forward model of a run, from its configuration and the files beside its data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from nops_data import LayoutError, read_ranges, read_stations, read_table
from nops_physics import (
    AdvectionDiffusion,
    Inform,
    Mogi,
    Okada,
    Pendulum,
    SentinelBands,
    load_spectra,
    sunflower_stations,
)
from nops_train import InputError
from torch import Tensor

from phys_smpl.config import PhysConfig
from phys_smpl.config_data import NETWORKS

Ranges = dict[str, tuple[float, float]]
SYNTHETIC: dict[str, Ranges] = {
    "mogi": {"xcen": (-8.0, 8.0), "ycen": (-8.0, 8.0), "d": (2.0, 8.0), "dV": (2e6, 1e7)}
}
RANGE_FILES = {"mogi": "mogi_paras.json", "inform": "rtm_paras.json"}
SPECTRA_FILES = ("dataSpec_PRO_v2.txt", "prospect_pro.txt")
STATION_FILE = "station_info.json"
CODED_BELOW = 1e4  # m³; a source's range of volumes is wider, a range below is coded
DECODE = (1e5, -1e7)  # the published code of dV: times this, plus that


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What lies beside the data.

    Attributes:
        folder: Of the data, or None before there are any.
        facts: Of `problem.json`, where the data were simulated.
        stations: Order of the stations in the data, where they name them.
    """

    folder: Path | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    stations: tuple[str, ...] = ()

    def file(self, *names: str) -> Path | None:
        """The first of some files that is there."""
        there = () if self.folder is None else (self.folder / name for name in names)
        return next((path for path in there if path.is_file()), None)


def make_physics(config: PhysConfig, beside: Beside) -> Any:
    """The forward model.

    Raises:
        InputError: If a file is missing or does not fit, naming it and what was expected.
    """
    makers: dict[str, Callable[[PhysConfig, Beside], Any]] = {
        "mogi": _network,
        "okada": _network,
        "inform": _inform,
        "pendulum": lambda config, _: Pendulum(method=config.physics.method),
        "advection_diffusion": lambda config, _: AdvectionDiffusion(),
    }
    try:
        return makers[config.problem](config, beside)
    except (ValueError, LayoutError) as error:
        raise InputError(f"{config.problem}: {error}") from error


def _network(config: PhysConfig, beside: Beside) -> Mogi | Okada:
    stations = station_positions(config, beside)
    if config.problem == "okada":
        return Okada(stations, bounds=_ranges(config, beside, Okada(stations)))
    return Mogi(stations, bounds=_ranges(config, beside, Mogi(stations)))


def _inform(config: PhysConfig, beside: Beside) -> Inform:
    physics = config.physics
    path = physics.spectra or beside.file(*SPECTRA_FILES)
    spectra = load_spectra(path)
    if physics.version == "PRO" and "prot" not in spectra.absorption:
        raise ValueError(
            f"physics.version: PRO with the constants of {spectra.source}, which lack proteins; "
            "give a file with columns sac_prot and sac_cbc (--spectra FILE)"
        )
    bands = SentinelBands(sampling=physics.sampling, file=physics.srf)
    options: dict[str, Any] = {"spectra": spectra, "bands": bands, "version": physics.version}
    if physics.soil is not None:
        options["soil"] = _soil(physics.soil)
    plain = Inform(**options)
    return Inform(**options, bounds=_ranges(config, beside, plain))


def _soil(path: str) -> Tensor:
    table = read_table(path)
    return torch.from_numpy(table.numbers(["soil"])[:, 0])


def _ranges(config: PhysConfig, beside: Beside, plain: Any) -> Ranges:
    """Usual ranges, those of a file in their place, and single ones over them."""
    names = plain.parameter_names
    usual = dict(zip(names, map(tuple, plain.bounds.double().tolist()), strict=True))
    path = config.physics.bounds or beside.file(RANGE_FILES.get(config.problem, ""))
    if path is not None and Path(path).is_file():
        found = _decoded(read_ranges(path, names=names))
    elif path is not None:
        raise ValueError(f"physics.bounds: found nothing at {path}")
    else:
        held: Ranges = {k: (v[0], v[1]) for k, v in beside.facts.get("ranges", {}).items()}
        found = held or SYNTHETIC.get(config.problem) or usual
    if extra := sorted(config.physics.ranges.keys() - set(names)):
        raise ValueError(f"physics.ranges: unknown {extra}; valid names: {', '.join(names)}")
    return {**found, **config.physics.ranges}


def _decoded(ranges: Ranges) -> Ranges:
    """With volumes in m³, where the file has the published code 0 to 200."""
    if "dV" not in ranges or max(map(abs, ranges["dV"])) > CODED_BELOW:
        return ranges
    factor, shift = DECODE
    low, high = ranges["dV"]
    return {**ranges, "dV": (factor * low + shift, factor * high + shift)}


def station_positions(config: PhysConfig, beside: Beside) -> Tensor:
    """Positions `[station, 2]` in km: of a file, in the order of the data, or synthetic ones.

    Raises:
        ValueError: If the data and the file name different stations.
    """
    assert config.problem in NETWORKS
    path = config.physics.stations or beside.file(STATION_FILE)
    if path is None:
        held = beside.facts.get("stations")
        return sunflower_stations() if held is None else torch.tensor(held, dtype=torch.float64)
    found = read_stations(path)
    names = beside.stations or tuple(found)
    if set(names) != set(found):
        only_data, only_file = sorted(set(names) - set(found)), sorted(set(found) - set(names))
        raise ValueError(
            f"stations differ: only in the data {only_data or 'none'}, only in {path} "
            f"{only_file or 'none'}"
        )
    return torch.tensor([found[name] for name in names], dtype=torch.float64)
