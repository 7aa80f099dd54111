"""A Universal Physics Transformer: what queries cost in memory and time.

The whole step is encode, step, decode, decode the input's latent, encode what was decoded, and AdamW,
with plain squared errors as losses. Queries are a random subset of the points; a set encoder reads
that subset as well. Peak memory is the largest running sum of the allocations that torch's profiler
sees in a step after a first one; on a GPU, `max_memory_allocated`.
"""

import copy
from collections.abc import Callable
from typing import Any, Literal

import torch
from _harness import Claim, paired_ratio, record
from nops_losses import compute_operator_loss_bundle
from nops_models import UPT, AnyPointDecoder, UPTConfig
from torch import Tensor, nn
from torch.nn.functional import mse_loss

POINTS, BATCH, TURNS = 4096, 2, 7
SETS = UPTConfig(
    {"u": 1},
    2,
    encoder="supernodes",
    supernodes=256,
    radius=0.04,
    max_neighbors=16,
    tokens=64,
    dim=128,
)
GRID = UPTConfig({"u": 1}, 2, grid_shape=(64, 64), patch_size=8, tokens=64, dim=128)
DECODER = UPTConfig(
    {"u": 1}, 2, encoder="supernodes", supernodes=256, radius=0.04, tokens=256, dim=128, heads=8
)


class Returning(nn.Module):
    """`nn.MultiheadAttention` in the place of our attention, weights returned and dropped."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        width, heads = ours.query.in_features, ours.heads
        self.peer = nn.MultiheadAttention(width, heads, batch_first=True)
        with torch.no_grad():
            both = (ours.query, ours.key_value)
            self.peer.in_proj_weight.copy_(torch.cat([layer.weight for layer in both]))
            self.peer.in_proj_bias.copy_(torch.cat([layer.bias for layer in both]))
            self.peer.out_proj.load_state_dict(ours.output.state_dict())

    def keys_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens themselves: the peer makes keys and values of its own."""
        return tokens, tokens

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """What `x` reads of the tokens, twice given."""
        return self.peer(x, keys, values, need_weights=True)[0]


def centres(side: int = 64) -> Tensor:
    """Cell centres of a square grid `[side², 2]`."""
    axis = (torch.arange(side) + 0.5) / side
    return torch.cartesian_prod(axis, axis)


def whole_step(
    config: UPTConfig, num_queries: int, *, chunk_size: int | None = None
) -> Callable[[], None]:
    """One training step with both inverse losses, as a function of nothing."""
    torch.manual_seed(0)
    model, positions, everywhere = UPT(config), centres(), torch.arange(POINTS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    state, target = torch.randn(2, BATCH, POINTS, 1)
    chunks = {"chunk_size": chunk_size, "checkpoint": chunk_size is not None}

    def step() -> None:
        some = torch.randperm(POINTS)[:num_queries] if num_queries < POINTS else everywhere
        x, u, v = positions[some], state[:, some], target[:, some]
        optimizer.zero_grad(set_to_none=True)
        latent = model.encode({"u": u}, x)
        moved = model.step(latent)
        decoded = model.decode(x, moved, **chunks)
        loss = mse_loss(decoded["u"], v)
        loss = loss + mse_loss(model.decode(x, latent, **chunks)["u"], u)
        loss = loss + mse_loss(model.encode(decoded, x), moved)
        loss.backward()
        optimizer.step()

    return step


def forward_step(*, offered: bool) -> Callable[[], None]:
    """A training step of the forward loss alone; `offered`: the bundle has all else at weight 0."""
    torch.manual_seed(0)
    model, positions = UPT(GRID), centres()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    state, target = torch.randn(2, BATCH, POINTS, 1)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        latent = model.encode({"u": state}, positions)
        decoded = model.decode(positions, model.step(latent))["u"]
        if not offered:
            loss = mse_loss(decoded, target)
        else:
            loss = compute_operator_loss_bundle(
                input_fields={"u": state},
                encoded_latent=latent,
                decoder=model.decode,
                encoder=model.encode,
                input_positions=positions,
                query_positions=positions,
                pred_next=decoded,
                target_next=target,
                weights={"lambda_inv_enc": 0.0, "lambda_inv_dec": 0.0},
            ).total
        loss.backward()
        optimizer.step()

    return step


def peak_bytes(step: Callable[[], None]) -> int:
    """Largest running sum of allocations of one step, after one that is not counted."""
    step()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        step()
    return largest_sum(profile)


def largest_sum(profile: Any) -> int:
    """Of the profiler's allocation events, in the order of time; a release counts negative."""
    running = largest = 0
    results = profile.profiler.kineto_results
    memory = [event for event in results.events() if event.name() == "[memory]"]
    for event in sorted(memory, key=lambda event: event.start_ns()):
        running += event.nbytes()
        largest = max(largest, running)
    return largest


def saved_bytes(decoder: AnyPointDecoder, num_queries: int) -> int:
    """Bytes that the backward pass of one decode needs, weights left out."""
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    latent = torch.randn(1, DECODER.tokens, DECODER.dim)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        fields = decoder(torch.rand(1, num_queries, 2), latent)
    assert fields["u"].requires_grad
    weights = {p.untyped_storage().data_ptr() for p in decoder.parameters()}
    return sum(size for pointer, size in seen.items() if pointer not in weights)


def line_residual(sizes: dict[int, int]) -> float:
    """Largest distance of the sizes from their least-squares line, over the largest size."""
    x = torch.tensor([[1.0, q] for q in sizes], dtype=torch.float64)
    y = torch.tensor([[size] for size in sizes.values()], dtype=torch.float64)
    fitted = x @ torch.linalg.lstsq(x, y).solution
    return ((fitted - y).abs().max() / y.max()).item()


def decoding(decoder: AnyPointDecoder) -> Callable[[], None]:
    """Forward and backward at all points."""
    positions, latent = centres(), torch.randn(1, DECODER.tokens, DECODER.dim)

    def run() -> None:
        decoder(positions, latent)["u"].square().mean().backward()

    return run


def with_returned_weights(decoder: AnyPointDecoder) -> AnyPointDecoder:
    peer = copy.deepcopy(decoder)
    for block in [*peer.blocks, *peer.cross]:
        block.attention = Returning(block.attention)
    check = torch.rand(1, 5, 2), torch.randn(1, DECODER.tokens, DECODER.dim)
    torch.testing.assert_close(peer(*check), decoder(*check), rtol=1e-4, atol=1e-4)
    return peer


def rolling(mode: Literal["latent", "image"]) -> Callable[[], None]:
    """Twenty steps at all points, of which the last is decoded."""
    model, fields, positions = UPT(GRID), {"u": torch.randn(1, POINTS, 1)}, centres()

    @torch.no_grad()
    def run() -> None:
        model.rollout(fields, positions, steps=20, decode_every=20, mode=mode)

    return run


def claim(name: str, value: float, bar: float, *, least: bool = False) -> Claim:
    return {"claim": name, "value": value, "bar": bar, "kind": "at_least" if least else "at_most"}


def measure() -> tuple[list[Claim], dict[str, object]]:
    torch.manual_seed(0)
    decoder = AnyPointDecoder(DECODER)
    saved = {q: saved_bytes(decoder, q) for q in (512, 1024, 2048, 4096)}
    half, full = whole_step(SETS, POINTS // 2), whole_step(SETS, POINTS)
    chunked, plain = whole_step(GRID, POINTS, chunk_size=1024), whole_step(GRID, POINTS)
    peaks = {
        name: peak_bytes(step)
        for name, step in (
            ("supernodes, 2048 queries", half),
            ("supernodes, 4096 queries", full),
            ("grid, chunks of 1024", chunked),
            ("grid, unchunked", plain),
        )
    }
    sets_half, sets_full, grid_chunked, grid_plain = peaks.values()
    attention = paired_ratio(decoding(with_returned_weights(decoder)), decoding(decoder))
    claims = [
        claim("decoder saved bytes, residual of a line in queries", line_residual(saved), 0.02),
        claim("peak of a whole step, 2048 / 4096 queries", sets_half / sets_full, 0.65),
        claim(
            "time of a whole step, 2048 / 4096 queries",
            paired_ratio(half, full, repeat=TURNS),
            0.70,
        ),
        claim("grid encoder, peak of chunked / unchunked", grid_chunked / grid_plain, 0.65),
        claim(
            "grid encoder, time of chunked / unchunked",
            paired_ratio(chunked, plain, repeat=TURNS),
            1.30,
        ),
        claim(
            "step with both inverse losses at weight 0 / without them",
            paired_ratio(forward_step(offered=True), forward_step(offered=False)),
            1.05,
        ),
        claim("decoder, MultiheadAttention with weights / ours", attention, 1.3, least=True),
        claim(
            "20 steps decoding the last, image / latent",
            paired_ratio(rolling("image"), rolling("latent"), repeat=TURNS),
            3.0,
            least=True,
        ),
    ]
    details: dict[str, object] = {
        "points": POINTS,
        "batch": BATCH,
        "saved_bytes": {str(q): size for q, size in saved.items()},
        "peak_bytes": peaks,
        "memory_method": "largest running sum of the profiler's allocation events",
    }
    return claims, details


def main() -> None:
    """Measure and record, on one thread."""
    torch.set_num_threads(1)
    record("upt", *measure())


if __name__ == "__main__":
    main()
