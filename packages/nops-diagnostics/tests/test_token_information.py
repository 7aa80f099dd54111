"""Mutual information of tokens and parameters: hand values, bounds, chance."""

import math

import pytest
import torch
from nops_diagnostics import codebook_usage, plot_usage, token_information
from torch.testing import assert_close


def test_hand_values():
    # θ₀ in two bins: 0 0 1 1; θ₁: 0 1 0 1. First token: the bin of θ₀, ln 2 of it and nothing of θ₁.
    # Second token: 1 for one trajectory of four, which is 1 of 2 within (1, ·) and within (·, 1):
    # I = H(1/4) + ln 2 − H(1/2, 1/4, 1/4) = 0.5623 + 0.6931 − 1.0397
    parameters = torch.tensor([[0.1, 5.0], [0.2, 7.0], [0.8, 6.0], [0.9, 8.0]])
    tokens = torch.tensor([[[0, 0]], [[0, 0]], [[1, 0]], [[1, 1]]]).expand(4, 3, 2)
    found = token_information(tokens, parameters, num_codes=(2, 3), bins=2)
    quarter = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    small = quarter + math.log(2) - 1.5 * math.log(2)
    expected = torch.tensor([[math.log(2), 0.0], [small, small]], dtype=torch.float64)
    assert_close(found.information, expected)
    assert_close(found.entropy, torch.tensor([math.log(2), quarter], dtype=torch.float64))


def test_independent_tokens_lie_within_chance_and_dependent_ones_beyond():
    generator = torch.Generator().manual_seed(0)
    parameters = torch.rand(200, 2, generator=generator)
    noise = torch.randint(0, 6, (200, 4), generator=generator)
    told = (parameters[:, :1] * 6).long().expand(-1, 4)
    found = token_information(torch.stack([noise, told], -1), parameters, num_codes=(6, 6))
    assert (found.information[0] < 2 * found.null[0]).all()
    assert found.information[1, 0] > 5 * found.null[1, 0]
    assert found.information[1, 1] < 2 * found.null[1, 1]
    assert (found.information <= found.entropy[:, None] + 1e-12).all()


def test_only_the_order_of_a_parameter_counts():
    generator = torch.Generator().manual_seed(1)
    parameters = torch.rand(40, 1, generator=generator)
    tokens = torch.randint(0, 3, (40, 2, 1), generator=generator)
    plain = token_information(tokens, parameters, num_codes=(3,))
    assert_close(token_information(tokens, parameters.exp(), num_codes=(3,)).null, plain.null)


@pytest.mark.parametrize(
    ("shape", "options", "named"),
    [
        ((4, 1, 1), {"num_codes": (2, 2)}, "num_codes"),
        ((3, 1, 1), {"num_codes": (2,)}, "shapes"),
        ((4, 1, 1), {"num_codes": (2,), "bins": 5}, "bins"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused(shape, options, named):
    with pytest.raises(ValueError, match=named):
        token_information(torch.zeros(shape, dtype=torch.int64), torch.rand(4, 1), **options)


def test_use_of_codes_is_drawn_from_the_most_used():
    usage = {"a": codebook_usage(torch.tensor([0, 2, 2, 2]), num_codes=4)}
    figure = plot_usage({**usage, "b": codebook_usage(torch.tensor([1]), num_codes=2)})
    figure.canvas.draw()
    first, second, empty = figure.axes
    assert [bar.get_height() for bar in first.patches] == [0.75, 0.25, 0.0, 0.0]
    assert list(first.lines[0].get_ydata()) == [0.25, 0.25]  # an even use
    assert (first.get_title(loc="left"), second.get_title(loc="left")) == ("a", "b")
    assert not empty.get_visible()
    with pytest.raises(ValueError, match="no table"):
        plot_usage({})
