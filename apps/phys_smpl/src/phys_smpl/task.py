"""What the engine trains and validates: the terms of a physics-integrated VAE."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from nops_diagnostics import residual_ratio
from nops_losses import (
    capacity_penalty,
    coefficient_penalty,
    edge_penalty,
    gate_penalty,
    gaussian_kl,
    logistic_kl,
    logit_recovery_loss,
    orthogonality_penalty,
    residual_penalty,
    temporal_smoothness,
)
from nops_models import GatedResidual, LowRankResidual, PhysicsVAE
from nops_schedules import LinearAnnealing
from torch import Tensor

from phys_smpl.config_loss import LossConfig

Batch = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class PhysTask:
    """Terms of pretraining and training, and metrics at the means of the latents.

    Batches hold standardised `x` [B, D], or [B, L, D] for stretches in time, `input_<name>` and `time`.

    Attributes:
        model: The VAE.
        loss: The loss section.
        pretrain: Epochs of pretraining.
        r: Strength of the low-rank correction over the epochs of training.
        tau: Its temperature.
        capacity: Target of the capacity term.
        note: Takes warnings, or None.
    """

    model: PhysicsVAE
    loss: LossConfig
    pretrain: int
    r: LinearAnnealing
    tau: LinearAnnealing
    capacity: LinearAnnealing
    note: Callable[..., None] | None = None

    def losses(
        self, batch: Batch, *, epoch: int, step: int, active: frozenset[str]
    ) -> dict[str, Tensor]:
        """The active terms; in pretraining the batch lends its known inputs and is not decoded."""
        del step
        self._advance(epoch)
        rows = Unpacked.of(batch)
        found: dict[str, Tensor] = {}
        if "bootstrap" in active:
            found["bootstrap"] = self.bootstrap(len(rows.x), rows.inputs)
        if wanted := active - {"bootstrap"}:
            found |= self._trained_terms(rows, epoch=epoch, wanted=wanted)
        return found

    def bootstrap(self, count: int, inputs: Mapping[str, Tensor]) -> Tensor:
        """Error of the parameters of simulations: the simulator itself has no gradient."""
        with torch.no_grad():
            z = self.model.sample_unit(count)
            simulated = self.model.generate_physonly(z, inputs)
        self._check_finite("bootstrap", simulated, z)
        return logit_recovery_loss(self.model.encode(simulated, inputs=inputs).u_mean, z)

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """Errors per sample at the means of the latents, divergences, and what moves in training."""
        rows, model = Unpacked.of(batch), self.model
        output = model(rows.x, **rows.more, hard=True)
        decoding = output.decoding
        found = {
            "reconstruction": squares(decoding.x_pb - rows.x),
            "physics_error": squares(decoding.x_p - rows.x),
            "residual": squares(decoding.correction),
            "proposed": squares(decoding.delta),
            **self._divergences(output.encoding, output.draw.u),
        }
        found["kl"] = found["kl_physics"] + found["kl_aux"]
        if model.latent_dim:
            found["bootstrap"] = self.bootstrap(len(rows.x), rows.inputs)
            pair = (v * model.x_scale + model.x_mean for v in (decoding.x_pb, decoding.x_p))
            found["residual_percent"] = 100 * residual_ratio(*pair, cap=1.0).nan_to_num(0.0)
            found |= self._latents(output.encoding.u_mean)
        batched = {name: rows.per_item(value) for name, value in found.items()}
        return {**batched, **self._head_facts(decoding.gain)}

    def _divergences(self, encoding: Any, u: Tensor) -> dict[str, Tensor]:
        return {
            "kl_physics": self._kl_physics(encoding, u, reduction="none"),
            "kl_aux": gaussian_kl(encoding.aux_mean, encoding.aux_lnvar, reduction="none"),
        }

    def _latents(self, u_mean: Tensor) -> dict[str, Tensor]:
        """Mean of each latent's mean, and of its square: the report makes a spread of both."""
        names = self.model.physics.parameter_names
        means = dict(zip(names, u_mean.unbind(1), strict=True))
        return {
            **{f"u_mean_{name}": value for name, value in means.items()},
            **{f"u_square_{name}": value.square() for name, value in means.items()},
        }

    def _head_facts(self, gain: Tensor) -> dict[str, Tensor]:
        head = self.model.head
        if isinstance(head, GatedResidual):
            return {"gate_mean": gain.mean()}
        if not isinstance(head, LowRankResidual):
            return {}
        basis = head.basis.detach().float()
        identity = torch.eye(basis.shape[1], device=basis.device)
        return {
            "r": head.r,
            "tau": head.tau,
            "coefficient_norm": gain.norm(dim=1).mean(),
            "scale_norm": head.scale.norm(),
            "basis_departure": (basis.mT @ basis - identity).norm(),
        }

    def _advance(self, epoch: int) -> None:
        """Strength and temperature are buffers of the model: they go with its checkpoint."""
        if isinstance(self.model.head, LowRankResidual):
            at = max(epoch - self.pretrain, 0)
            self.model.set_progress(r=self.r(at), tau=self.tau(at))

    def _trained_terms(
        self, rows: "Unpacked", *, epoch: int, wanted: frozenset[str]
    ) -> dict[str, Tensor]:
        model, loss = self.model, self.loss
        encoding = model.encode(rows.x, inputs=rows.inputs)
        drawn = model.draw(
            encoding, sample_physics=loss.beta_physics > 0, sample_aux=loss.beta_aux > 0
        )
        decoding = model.decode(drawn.z, drawn.z_aux, **rows.more)
        self._check_finite("reconstruction", decoding.x_p, drawn.z)
        if model.prior is not None and epoch > self.pretrain:  # from the second epoch of training
            model.update_prior(encoding)
        terms: dict[str, Callable[[], Tensor]] = {
            "reconstruction": lambda: squares(decoding.x_pb - rows.x).mean(),
            "kl_physics": lambda: self._kl_physics(encoding, drawn.u),
            "kl_aux": lambda: gaussian_kl(encoding.aux_mean, encoding.aux_lnvar),
            "gate": lambda: gate_penalty(decoding.gain),
            "residual": lambda: residual_penalty(decoding.delta),
            "orthogonality": lambda: orthogonality_penalty(self._basis()),
            "coefficient": lambda: coefficient_penalty(decoding.gain),
            "edge": lambda: edge_penalty(drawn.z, power=loss.edge_power),
            "smoothness": lambda: temporal_smoothness(rows.stretched(drawn.z)),
            "capacity": lambda: capacity_penalty(
                self._kl_physics(encoding, drawn.u),
                self.capacity(max(epoch - self.pretrain, 0)),
                gamma=loss.capacity.gamma,
            ),
        }
        return {name: term() for name, term in terms.items() if name in wanted}

    def _kl_physics(self, encoding: Any, u: Tensor, *, reduction: Any = "mean") -> Tensor:
        moments = self.model.prior_moments()
        if moments is None:
            return logistic_kl(u, encoding.u_mean, encoding.u_lnvar, reduction=reduction)
        mean, lnvar = (m.expand_as(encoding.u_mean) for m in moments)
        return gaussian_kl(
            encoding.u_mean,
            encoding.u_lnvar,
            prior_mean=mean,
            prior_lnvar=lnvar,
            reduction=reduction,
        )

    def _basis(self) -> Tensor:
        assert isinstance(self.model.head, LowRankResidual)
        return self.model.head.basis

    def _check_finite(self, term: str, x_p: Tensor, z: Tensor) -> None:
        """Name the parameters of the first row that is not finite; the engine skips the step."""
        if self.note is None or bool(x_p.isfinite().all()):
            return
        row = int((~x_p.isfinite().all(1)).nonzero()[0])
        values = self.model.to_physical(z[row]).tolist() if z.shape[1] else []
        named = zip(self.model.physics.parameter_names, values, strict=False)
        where = ", ".join(f"{name} = {value:.6g}" for name, value in named)
        self.note("warning", message=f"{term}: the physics is not finite at {where} (row {row})")


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """The rows of a batch, stretches laid behind each other.

    Attributes:
        x: (row, D).
        inputs: Known inputs by name.
        time: Features of the time, or None.
        shape: Of the batch's items and their rows.
    """

    x: Tensor
    inputs: dict[str, Tensor]
    time: Tensor | None
    shape: tuple[int, ...]

    @classmethod
    def of(cls, batch: Batch) -> "Unpacked":
        """From a batch of single rows, or of stretches."""
        x = batch["x"]
        lead = x.ndim - 1
        flat = {name: value.flatten(0, lead - 1) for name, value in batch.items()}
        inputs = {k.removeprefix("input_"): v for k, v in flat.items() if k.startswith("input_")}
        return cls(x=flat["x"], inputs=inputs, time=flat.get("time"), shape=tuple(x.shape[:lead]))

    @property
    def more(self) -> dict[str, Any]:
        """What the model's calls take beside x."""
        return {"inputs": self.inputs, "time_features": self.time}

    def stretched(self, values: Tensor) -> Tensor:
        """Values of rows as those of stretches, (item, step, …)."""
        return values.unflatten(0, self.shape)

    def per_item(self, values: Tensor) -> Tensor:
        """Values of rows as means of the batch's items; a scalar is itself."""
        if values.ndim == 0 or len(self.shape) == 1:
            return values
        return values.unflatten(0, self.shape).mean(1)


def squares(difference: Tensor) -> Tensor:
    """Σ over features of squares, per row."""
    return difference.square().sum(1)
