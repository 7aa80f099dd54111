"""Pictures of vocabularies: what is drawn where."""

import numpy as np
import pytest
import torch
from nops_diagnostics import (
    Codebook,
    compute_alignment,
    plot_alignment,
    plot_distances,
    plot_token_usage,
)


def test_usage_in_the_order_of_the_truth():
    truth = {"x": torch.tensor([1, 0, 3]), "y": torch.tensor([2, 2])}
    model = {"x": torch.tensor([0, 4, 4]), "y": torch.tensor([0, 1])}
    first, second, *_ = plot_token_usage(truth, model).axes
    assert [bar.get_height() for bar in first.patches] == [0.75, 0.25, 0.0]
    np.testing.assert_allclose(first.get_lines()[0].get_ydata(), [0.5, 0.0, 0.5])
    assert second.get_title(loc="left") == "y"
    with pytest.raises(ValueError, match="expected the same"):
        plot_token_usage(truth, {"x": truth["x"]})


def test_the_largest_distances_on_top():
    values, null = torch.tensor([0.1, 0.5, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    axes = plot_distances(values, null, names=("p", "q", "r"), most=2).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["q", "r"]
    np.testing.assert_allclose(axes.get_lines()[0].get_xdata(), [0.5, 0.3], rtol=1e-6)
    np.testing.assert_allclose(axes.get_lines()[1].get_xdata(), [0.3, 0.4], rtol=1e-6)
    with pytest.raises(ValueError, match="one name"):
        plot_distances(values, null, names=("p",))


def test_pairs_lie_on_the_diagonal_and_sure_ones_are_ringed(fields):
    a = fields(0, 14, 9)
    names = tuple("abcdefghi")
    b = torch.cat([a[4:13].flip(0), fields(1, 3, 9)])
    found = compute_alignment(
        Codebook(names=names, signatures=a), Codebook(names=names, signatures=b), num_null=100
    )
    axes = plot_alignment(found, names=("rd", "waves")).axes[0]
    shown = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(
        np.diagonal(shown), [pair.similarity for pair in found.pairs], atol=1e-12
    )
    assert axes.get_ylabel() == "code of rd"
    paired = [str(pair.a) for pair in found.pairs]
    assert [label.get_text() for label in axes.get_yticklabels()][: len(paired)] == paired
    ringed = [i for i, pair in enumerate(found.pairs) if pair.q < 0.05]
    assert 0 < len(ringed) < len(found.pairs)
    assert list(axes.get_lines()[0].get_xdata()) == ringed
