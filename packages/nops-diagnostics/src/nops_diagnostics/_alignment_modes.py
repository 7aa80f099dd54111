"""The three ways to compare two vocabularies: similarity of codes, one score, and random draws of both."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from nops_diagnostics._codebooks import Codebook, required
from nops_diagnostics._distribution import check_tokens, sizes_of, tokens_of
from nops_diagnostics._layout import as_double

PIECES = 2**22  # numbers at once in a sum over possible counts


class Comparison(NamedTuple):
    """What one comparison, true or random, gives.

    Attributes:
        matrix: Similarity of every code of a to every one of b.
        score: Of the whole; None for the mean of the matched pairs.
    """

    matrix: Tensor
    score: float | None


class Mode(Protocol):
    """One way to compare."""

    rows: Tensor
    columns: Tensor

    def compare(self) -> Comparison:
        """The two vocabularies as they are."""
        ...

    def nulls(self, num: int, generator: torch.Generator) -> dict[str, Iterator[Comparison]]:
        """`num` random draws of each null, by its name."""
        ...


class Signature:
    """Codes by what they decode to: cosine of their deviations from the mean code."""

    def __init__(self, a: Codebook, b: Codebook) -> None:
        """Codes in use, shared columns."""
        names = a.shared_names(b)
        self.rows, self.columns = a.used(), b.used()
        self._a = unit_rows(centred(a.columns(names)[self.rows]))
        self._b = centred(b.columns(names)[self.columns])
        num = len(self._b)
        frame = torch.linalg.qr(centred(torch.eye(num, dtype=torch.float64))[:, : num - 1]).Q
        self._within = frame.T @ self._b  # b in a frame that leaves the mean code out

    def compare(self) -> Comparison:
        """The two vocabularies as they are."""
        return self._with(self._b)

    def nulls(self, num: int, generator: torch.Generator) -> dict[str, Iterator[Comparison]]:
        """Codes of b mixed by a random rotation, and columns of b shuffled one by one."""
        return {
            "rotated codes": (self._with(self._rotated(generator)) for _ in range(num)),
            "shuffled columns": (self._with(self._shuffled(generator)) for _ in range(num)),
        }

    def _with(self, b: Tensor) -> Comparison:
        return Comparison(self._a @ unit_rows(b).T, None)

    def _rotated(self, generator: torch.Generator) -> Tensor:
        """As many random codes with b's mean and covariance: the mean code stays in its place."""
        num = len(self._b)
        drawn = centred(torch.randn(num, num - 1, generator=generator, dtype=torch.float64))
        turned, upper = torch.linalg.qr(drawn)
        return turned * upper.diagonal().sign() @ self._within

    def _shuffled(self, generator: torch.Generator) -> Tensor:
        drawn = torch.rand(self._b.shape, generator=generator, dtype=torch.float64)
        return self._b.gather(0, drawn.argsort(0))


class Behaviour:
    """Codes by the probe samples that they stand for: adjusted mutual information of tokens."""

    def __init__(self, a: Codebook, b: Codebook) -> None:
        """One indicator per code that occurs."""
        self._a, self.rows, self._of_a = _indicators(a, name="a")
        self._b, self.columns, self._of_b = _indicators(b, name="b")
        if len(self._a) != len(self._b):
            raise ValueError(
                f"mode='behaviour' needs tokens of one probe set, got {len(self._a)} and "
                f"{len(self._b)} samples."
            )
        counts = self._a.sum(0), self._b.sum(0)
        self._expected = self._of_a.T @ _expected_information(*counts, len(self._a)) @ self._of_b
        entropies = (
            _entropies(*pair) for pair in zip(counts, (self._of_a, self._of_b), strict=True)
        )
        first, second = entropies
        self._mean_entropy = (first[:, None] + second) / 2

    def compare(self) -> Comparison:
        """The two vocabularies as they are."""
        return self._with(self._b)

    def nulls(self, num: int, generator: torch.Generator) -> dict[str, Iterator[Comparison]]:
        """Samples of b in random order."""
        return {"shuffled samples": (self._with(shuffled(self._b, generator)) for _ in range(num))}

    def _with(self, b: Tensor) -> Comparison:
        similarity = unit_rows(centred(self._a).T) @ unit_rows(centred(b).T).T
        total = len(b)
        counts = self._a.T @ b
        margins = self._a.sum(0)[:, None] * b.sum(0)
        terms = counts / total * (counts * total / margins).clamp(min=1e-300).log()
        information = self._of_a.T @ terms @ self._of_b
        room = (self._mean_entropy - self._expected).clamp(min=1e-12)
        adjusted = (information - self._expected) / room
        return Comparison(similarity, adjusted[assign(adjusted)].mean().item())


class Geometry:
    """Codes by where they lie, once latents of the same samples are turned onto each other."""

    def __init__(self, a: Codebook, b: Codebook) -> None:
        """Latents about their mean, codes about that of the latents."""
        self.rows, self.columns = a.used(), b.used()
        (self._a, self._codes_a), (self._b, self._codes_b) = (
            _latents(book, used, name=name)
            for book, used, name in ((a, self.rows, "a"), (b, self.columns, "b"))
        )
        if len(self._a) != len(self._b):
            raise ValueError(
                f"mode='geometry' needs latents of the same samples, got {len(self._a)} and "
                f"{len(self._b)}."
            )

    def compare(self) -> Comparison:
        """The two vocabularies as they are."""
        return self._with(self._b)

    def nulls(self, num: int, generator: torch.Generator) -> dict[str, Iterator[Comparison]]:
        """Latents of b in random order."""
        return {"shuffled samples": (self._with(shuffled(self._b, generator)) for _ in range(num))}

    def procrustes(self) -> float:
        """Share of the latents' size that a rotation brings together, 0 to 1."""
        norm = self._a.norm() * self._b.norm()
        return (torch.linalg.svdvals(self._b.T @ self._a).sum() / norm).item()

    def _with(self, b: Tensor) -> Comparison:
        across = b.T @ self._a
        left, _, right = torch.linalg.svd(across, full_matrices=False)
        turned = unit_rows(self._codes_b @ left @ right)
        own = (self._a.T @ self._a).norm() * (b.T @ b).norm()
        return Comparison(unit_rows(self._codes_a) @ turned.T, (across.norm() ** 2 / own).item())


MODES = {"signature": Signature, "behaviour": Behaviour, "geometry": Geometry}


def assign(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the one-to-one pairs with the greatest sum (Hungarian algorithm).

    Raises:
        ModuleNotFoundError: Without scipy; the message names the extra.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"alignment needs {error.name}: pip install 'nops-diagnostics[alignment]'",
            name=error.name,
        ) from error
    rows, columns = linear_sum_assignment(matrix.numpy(), maximize=True)
    return torch.from_numpy(rows), torch.from_numpy(columns)


def centred(values: Tensor) -> Tensor:
    """`values [n, d]` less their mean row."""
    return values - values.mean(0)


def unit_rows(values: Tensor) -> Tensor:
    """Rows of length 1; a row of zeros stays."""
    return values / values.norm(dim=1, keepdim=True).clamp(min=1e-12)


def shuffled(values: Tensor, generator: torch.Generator) -> Tensor:
    """Rows in random order."""
    return values[torch.randperm(len(values), generator=generator)]


def _indicators(book: Codebook, *, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Indicators `[sample, code]` of codes that occur, their numbers, and the quantiser of each."""
    tokens = tokens_of(required(book.tokens, field="tokens", name=name), name=name)
    sizes = sizes_of(book.num_codes or (tokens.amax(0) + 1).tolist(), tokens.shape[1])
    check_tokens(tokens, sizes, name=name)
    found = [
        torch.nn.functional.one_hot(t, n) for t, n in zip(tokens.unbind(1), sizes, strict=True)
    ]
    indicators = torch.cat(found, dim=1).double()
    quantiser = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    member = torch.nn.functional.one_hot(quantiser, len(sizes)).double()
    occurs = indicators.any(0)
    return indicators[:, occurs], occurs.nonzero().flatten(), member[occurs]


def _entropies(counts: Tensor, member: Tensor) -> Tensor:
    """Entropy of each quantiser's tokens, in nats."""
    share = counts / (member @ (member.T @ counts))
    return member.T @ torch.special.entr(share)


def _expected_information(a: Tensor, b: Tensor, total: int) -> Tensor:
    """Σ_n (n/N) log(nN/ab) P(n), n hypergeometric: what codes of such counts share by chance.

    Source:
        Vinh, Epps and Bailey, J. Mach. Learn. Res. 11 (2010), eq. 24a.
    """
    step = max(1, PIECES // int(b.numel() * max(1, min(a.max(), b.max()))))
    return torch.cat([_expected_rows(rows, b, total) for rows in a.split(step)])


def _expected_rows(a: Tensor, b: Tensor, total: int) -> Tensor:
    a, b = a[:, None, None], b[None, :, None]
    n = torch.arange(1, int(min(a.max(), b.max())) + 1, dtype=torch.float64)
    possible = (n >= a + b - total) & (n <= torch.minimum(a, b))
    chance = (
        _log_choose(a, n) + _log_choose(total - a, b - n) - _log_choose(total + 0 * b, b)
    ).exp()
    terms = n / total * (n * total / (a * b)).log() * chance
    return terms.where(possible, 0.0).sum(-1)


def _log_choose(whole: Tensor, part: Tensor) -> Tensor:
    rest = (whole - part).clamp(min=0)
    return torch.lgamma(whole + 1) - torch.lgamma(part.clamp(min=0) + 1) - torch.lgamma(rest + 1)


def _latents(book: Codebook, used: Tensor, *, name: str) -> tuple[Tensor, Tensor]:
    latents = as_double(required(book.latents, field="latents", name=name)).cpu()
    codes = as_double(required(book.codes, field="codes", name=name)).cpu()
    if codes.shape[1] != latents.shape[1]:
        raise ValueError(
            f"codes of {name} have width {codes.shape[1]}, its latents {latents.shape[1]}."
        )
    return centred(latents), codes[used] - latents.mean(0)


def at_least(null: Tensor, value: Tensor | float) -> Tensor:
    """(1 + how many of the draws reach the value) / (1 + draws), over the first axis."""
    reached = (null >= value - 1e-12).sum(0)
    return (1 + reached).double() / (1 + len(null))
