"""What two vocabularies are compared by."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nops_diagnostics._layout import as_double


@dataclass(frozen=True, kw_only=True)
class Codebook:
    """The codes of a vocabulary, of all its quantisers one after the other; only what a mode needs.

    Attributes:
        names: Columns of the signatures, as `FeatureExtractor.names`.
        signatures: What each code decodes to `[code, feature]`, the other quantisers at their mean
            latent, in standardised features.
        counts: How often each code is used in training `[code]`; codes never used are left out.
            None uses all.
        tokens: Of a probe set `[sample, quantiser]`, or `[sample]` of one quantiser.
        num_codes: Codes of each quantiser, or of all; None where the tokens show them.
        latents: Before quantisation, of a probe set `[sample, dim]`.
        codes: The codes in the space of the latents `[code, dim]`.
    """

    names: tuple[str, ...] = ()
    signatures: Float[Tensor, "code feature"] | None = None
    counts: Float[Tensor, "code"] | Int[Tensor, "code"] | None = None
    tokens: Int[Tensor, "sample *quantiser"] | None = None
    num_codes: int | Sequence[int] | None = None
    latents: Float[Tensor, "sample dim"] | None = None
    codes: Float[Tensor, "code dim"] | None = None

    def used(self) -> Int[Tensor, "used"]:
        """Numbers of the codes in use.

        Raises:
            ValueError: If no code is, or there is nothing that says how many there are.
        """
        rows = self.signatures if self.signatures is not None else self.codes
        if self.counts is None and rows is None:
            raise ValueError("a codebook needs signatures, codes or counts.")
        counts = torch.ones(len(rows)) if self.counts is None and rows is not None else self.counts
        assert counts is not None
        if rows is not None and len(counts) != len(rows):
            raise ValueError(f"counts has {len(counts)} entries for {len(rows)} codes.")
        found = (counts > 0).nonzero().flatten().cpu()
        if not len(found):
            raise ValueError("no code is used.")
        return found

    def shared_names(self, other: "Codebook") -> tuple[str, ...]:
        """Columns of both, in the order of this one.

        Raises:
            ValueError: If there are none, with the way out.
        """
        found = tuple(name for name in self.names if name in other.names)
        if not found:
            raise ValueError(
                f"the codebooks share no column of {len(self.names)} and {len(other.names)}; compare them "
                "with mode='behaviour' on a probe set that both can read."
            )
        return found

    def columns(self, names: Sequence[str]) -> Float[Tensor, "code feature"]:
        """Signatures in some columns, float64 on the CPU."""
        signatures = as_double(required(self.signatures, field="signatures", name="codebook")).cpu()
        if signatures.shape[1] != len(self.names):
            raise ValueError(
                f"{signatures.shape[1]} columns of signatures, {len(self.names)} names."
            )
        return signatures[:, [self.names.index(name) for name in names]]


def required(value: Tensor | None, *, field: str, name: str) -> Tensor:
    """`value`, or an error that says what is missing."""
    if value is None:
        raise ValueError(f"this mode needs `{field}` of {name}.")
    return value.detach()
