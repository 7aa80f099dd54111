"""Transforms: those of torch, and the same bits in any batch and with any number of threads."""

import pytest
import torch
from nops_physics._transforms import SHORT, grid_of, modes_of

SHAPES = [(7,), (12,), (21,), (64,), (9, 7), (9, 14), (16, 9), (16, 16), (32, 32), (64, 64)]
SHAPES += [(24, 100), (4, 6, 5), (4, 8, 16)]
PARTS = [slice(0, 1), slice(4, 7), slice(3, 5), slice(10, 11)]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def fields(shape, *, channels=1, dtype=torch.float64):
    draws = torch.Generator().manual_seed(0)
    return torch.randn(11, channels, *shape, generator=draws, dtype=dtype)


def there_and_back(field, shape):
    modes = modes_of(field, num_dims=len(shape))
    return modes, grid_of(modes, shape=shape)


@pytest.mark.parametrize("norm", ["forward", "backward", "ortho"])
@pytest.mark.parametrize("shape", SHAPES)
def test_they_are_those_of_torch(shape, norm):
    x, dims = fields(shape), tuple(range(-len(shape), 0))
    modes = torch.fft.rfftn(x, dim=dims, norm=norm)
    torch.testing.assert_close(modes_of(x, num_dims=len(shape), norm=norm), modes)
    modes = modes * torch.linspace(0.5, 2.0, modes.shape[-1])  # no longer of x
    torch.testing.assert_close(
        grid_of(modes, shape=shape, norm=norm),
        torch.fft.irfftn(modes, s=shape, dim=dims, norm=norm),
    )


def test_what_a_real_field_cannot_have_is_left_out():
    """The imaginary part of the mean, and of the shortest wave of an even row, as `irfft` does."""
    for side in (SHORT - 2, SHORT - 1):
        modes = torch.fft.rfft(fields((side,)))
        modes[..., 0] += 0.3j
        if side % 2 == 0:
            modes[..., -1] -= 0.7j
        torch.testing.assert_close(grid_of(modes, shape=(side,)), torch.fft.irfft(modes, n=side))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_bit_depends_on_the_batch_or_on_threads(shape, channels, dtype, threads):
    x = fields(shape, channels=channels, dtype=dtype)
    threads(1)
    whole = there_and_back(x, shape)
    for number in (1, 2, 4):
        threads(number)
        for found, wanted in zip(there_and_back(x, shape), whole, strict=True):
            assert torch.equal(found, wanted)
        for part in PARTS:
            for found, wanted in zip(there_and_back(x[part], shape), whole, strict=True):
                assert torch.equal(found, wanted[part])


def test_views_are_taken():
    x = fields((9, 14))
    expanded = x[:1].expand(3, -1, -1, -1)
    assert torch.equal(modes_of(expanded, num_dims=2)[2], modes_of(x[:1], num_dims=2)[0])
    assert torch.equal(modes_of(x.mT, num_dims=2), modes_of(x.mT.contiguous(), num_dims=2))
    alone = modes_of(x[0, 0], num_dims=2)  # no batch axis at all
    assert torch.equal(alone, modes_of(x, num_dims=2)[0, 0])


@pytest.mark.parametrize("shape", [(5,), (3, 4), (3, 16)])
@pytest.mark.parametrize("batch", [1, 2])
def test_gradients(shape, batch):
    x, other = fields(shape).split((batch, 11 - batch))
    modes = modes_of(other[:batch], num_dims=len(shape))

    def filtered(x):
        return grid_of(modes * modes_of(x.square(), num_dims=len(shape)), shape=shape)

    assert torch.autograd.gradcheck(filtered, (x.clone().requires_grad_(),))
