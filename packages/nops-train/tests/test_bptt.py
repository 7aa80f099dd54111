import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_train._bptt import truncated_bptt
from torch.testing import assert_close

MODES = ["last", "sequential", "random_start", "pushforward"]


def trajectory(seed, *, samples=3, steps=6, channels=2, grid=(4, 5)):
    """A start and a target of random numbers, float64."""
    generator = torch.Generator().manual_seed(seed)
    shape = (samples, steps + 1, channels, *grid)
    states = torch.randn(shape, generator=generator, dtype=torch.float64)
    return states[:, 0], states[:, 1:]


class Net(torch.nn.Module):
    """A nonlinear map of a state, with dropout where asked."""

    def __init__(self, *, dropout=0.0):
        super().__init__()
        self.layer = torch.nn.Linear(5, 5, dtype=torch.float64)
        self.dropout = torch.nn.Dropout(dropout)
        torch.manual_seed(0)
        torch.nn.init.normal_(self.layer.weight, std=0.5)

    def forward(self, state):
        return self.dropout(torch.tanh(self.layer(state)))


def squared(window):
    return (window.pred - window.target).square().mean()


def loss_and_gradient(net, initial, target, **settings):
    """Weighted loss summed over windows, and the gradient of the weights."""
    net.zero_grad()
    total = 0.0
    for window in truncated_bptt(net, initial, target, **settings):
        loss = window.weight * squared(window)
        loss.backward()
        total += loss.item()
    return total, net.layer.weight.grad.clone()


# Worked by hand: x <- a x with a = 0.5, x_0 = 1, T = 4, hence x = 0.5, 0.25, 0.125, 0.0625.
@pytest.mark.parametrize(
    ("mode", "window", "true", "loss", "slope"),
    [
        # (x_3^2 + x_4^2) / 2 from x_2 = 1/4: (1/64 + 1/256) / 2; slope (2 x_3 / 4 + 2 x_4 a / 2) / 2
        ("last", 2, 0.0, 0.009765625, 0.046875),
        # windows 0.15625 and 0.009765625, half each; slopes 0.75 and 0.046875
        ("sequential", 2, 0.0, 0.0830078125, 0.3984375),
        # 3 steps of weight 3/4 and 1 step of 1/4: the same loss; slope (2a + 4a^3 + 6a^5) / 4 + 2 a x_3^2 / 4
        ("sequential", 3, 0.0, 0.0830078125, 0.421875 + 2 * 0.5 * 0.125**2 / 4),
        # (a^2 + a^4 + a^6 + a^8) / 4, slope (2a + 4a^3 + 6a^5 + 8a^7) / 4
        ("last", 4, 0.0, 0.0830078125, 0.4375),
        ("sequential", 4, 0.0, 0.0830078125, 0.4375),
        ("random_start", 4, 0.0, 0.0830078125, 0.4375),
        # from 1 to a without gradient, then a * a: (0.25 - 1)^2, slope 2 (-0.75) a
        ("pushforward", 1, 1.0, 0.5625, -0.75),
        # from 1 with gradient: (0.5 - 1)^2, slope 2 (-0.5)
        ("random_start", 1, 1.0, 0.25, -1.0),
    ],
)
def test_scalar_decay_by_hand(mode, window, true, loss, slope):
    a = torch.tensor(0.5, requires_grad=True)
    initial, target = torch.ones(1, 1, 1), torch.full((1, 4, 1, 1), true)
    total = 0.0
    for part in truncated_bptt(lambda x: a * x, initial, target, window=window, mode=mode):
        value = part.weight * squared(part)
        value.backward()
        total += value.item()
    assert total == pytest.approx(loss, rel=1e-6)
    assert a.grad.item() == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("mode", ["last", "sequential", "random_start"])
def test_a_window_of_all_steps_is_full_backpropagation(mode):
    initial, target = trajectory(0)
    net = Net()
    state, states = initial, []
    for _ in range(6):
        state = net(state)
        states.append(state)
    loss = (torch.stack(states, 1) - target).square().mean()
    loss.backward()
    expected = net.layer.weight.grad.clone()
    total, gradient = loss_and_gradient(net, initial, target, window=6, mode=mode)
    assert total == pytest.approx(loss.item())
    assert_close(gradient, expected)


def test_sequential_is_the_sum_of_separate_windows():
    initial, target = trajectory(1, steps=5)
    net = Net()
    total, gradient = loss_and_gradient(net, initial, target, window=2, mode="sequential")
    net.zero_grad()
    state, expected = initial, 0.0
    for first, last in ((0, 2), (2, 4), (4, 5)):  # the last window is shorter
        states = []
        for _ in range(first, last):
            state = net(state)
            states.append(state)
        loss = (torch.stack(states, 1) - target[:, first:last]).square().mean()
        (loss * (last - first) / 5).backward()
        expected += loss.item() * (last - first) / 5
        state = state.detach()
    assert total == pytest.approx(expected)
    assert_close(gradient, net.layer.weight.grad)


def test_the_weights_make_the_mean_over_all_steps():
    initial, target = trajectory(2, steps=7)
    windows = list(truncated_bptt(Net(), initial, target, window=3, mode="sequential"))
    assert [w.weight for w in windows] == [3 / 7, 3 / 7, 1 / 7]
    assert [w.index for w in windows] == [0, 1, 2]
    assert [w.first_step.tolist() for w in windows] == [[0] * 3, [3] * 3, [6] * 3]
    pred = torch.cat([w.pred for w in windows], dim=1)
    assert_close(sum(w.weight * squared(w) for w in windows), (pred - target).square().mean())


@pytest.mark.parametrize("mode", MODES)
@given(seed=st.integers(0, 1000), window=st.integers(1, 4), lead=st.integers(1, 2))
def test_targets_and_starts_belong_together(mode, seed, window, lead):
    """On a true trajectory of x + 1, every prediction is its target, wherever the window lies."""
    initial, _ = trajectory(seed)
    steps = torch.arange(1, 7, dtype=torch.float64).view(1, 6, 1, 1, 1)
    target = initial[:, None] + steps
    generator = torch.Generator().manual_seed(seed)
    for part in truncated_bptt(
        lambda x: x + 1,
        initial,
        target,
        window=window,
        mode=mode,
        num_pushforward=lead,
        generator=generator,
    ):
        assert part.pred.shape == part.target.shape
        assert part.target.shape[0] == 3
        assert part.target.shape[2:] == initial.shape[1:]
        assert_close(part.pred, part.target)
        sample = torch.arange(3)
        assert_close(part.target[:, 0], target[sample, part.first_step])
        assert part.first_step.dtype == torch.int64


class Counted(torch.autograd.Function):
    """Identity that counts how often a gradient passes."""

    passes = 0

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        Counted.passes += 1
        return gradient


@pytest.mark.parametrize(
    ("mode", "window", "depths"),
    [
        ("last", 2, [2]),
        ("sequential", 4, [4, 2]),
        ("random_start", 3, [3]),
        ("pushforward", 2, [2]),
    ],
)
def test_the_graph_is_as_deep_as_the_window(mode, window, depths):
    initial, target = trajectory(3)
    net = Net()
    found = []
    for part in truncated_bptt(
        lambda u: Counted.apply(net(u)), initial, target, window=window, mode=mode
    ):
        Counted.passes = 0
        part.pred[:, -1].sum().backward()  # from the last step back to the start of the window
        found.append(Counted.passes)
    assert found == depths


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("every", [1, 2, 4, 9])
def test_checkpoints_change_no_gradient(mode, every):
    initial, target = trajectory(4, steps=7)
    settings = {"window": 5, "mode": mode}
    net = Net(dropout=0.3)  # random numbers are drawn again alike
    results = []
    for stored in (0, every):
        torch.manual_seed(7)
        generator = torch.Generator().manual_seed(1)
        results.append(
            loss_and_gradient(
                net, initial, target, checkpoint_every=stored, generator=generator, **settings
            )
        )
    (loss, gradient), (other_loss, other_gradient) = results
    assert loss == other_loss
    assert torch.equal(gradient, other_gradient)


@pytest.mark.parametrize(("every", "stored"), [(1, 6), (2, 3), (4, 2), (6, 1), (9, 1)])
def test_checkpoints_store_one_state_per_segment(every, stored):
    initial, target = trajectory(5, steps=6)
    sizes = {}

    def pack(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    net = Net()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        windows = truncated_bptt(
            net, initial, target, window=6, mode="last", checkpoint_every=every
        )
        part = next(windows)
    state = 3 * 2 * 4 * 5 * 8  # bytes of one state of the batch, float64
    assert part.pred.requires_grad
    assert sum(sizes.values()) == stored * state


@pytest.mark.parametrize(("mode", "most"), [("random_start", 4), ("pushforward", 3)])
def test_every_start_is_drawn(mode, most):
    initial, target = trajectory(6, samples=200)
    (part,) = truncated_bptt(
        lambda u: u,
        initial,
        target,
        window=2,
        mode=mode,
        generator=torch.Generator().manual_seed(0),
    )
    lead = 1 if mode == "pushforward" else 0
    counts = torch.bincount(part.first_step - lead, minlength=most + 1)
    assert len(counts) == most + 1  # s in 0 ... T - w - lead
    # 200 draws over 4 or 5 starts: 40 to 50 expected, standard deviation 6
    assert counts.min() > 20
    assert counts.max() < 80


@pytest.mark.parametrize("mode", ["random_start", "pushforward"])
def test_starts_follow_the_generator(mode):
    initial, target = trajectory(7, samples=50)

    def starts(generator):
        (part,) = truncated_bptt(
            lambda u: u, initial, target, window=1, mode=mode, generator=generator
        )
        return part.first_step.tolist()

    first = starts(torch.Generator().manual_seed(3))
    assert starts(torch.Generator().manual_seed(3)) == first
    assert starts(torch.Generator().manual_seed(4)) != first
    state = torch.get_rng_state()
    starts(torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), state)  # the global one is left alone
    torch.manual_seed(3)
    assert starts(None) == first  # and is the default


def test_modes_without_chance_draw_nothing():
    initial, target = trajectory(8)
    state = torch.get_rng_state()
    for mode in ("last", "sequential"):
        list(truncated_bptt(lambda u: u, initial, target, window=2, mode=mode))
    assert torch.equal(torch.get_rng_state(), state)


def test_windows_are_made_when_they_are_asked_for():
    initial, target = trajectory(9)
    calls = []

    def step(u):
        calls.append(1)
        return u * 1.0

    windows = truncated_bptt(step, initial, target, window=2, mode="sequential")
    assert len(calls) == 0
    for made, _ in enumerate(windows, start=1):
        assert len(calls) == 2 * made


def test_nothing_of_a_window_is_held_while_the_next_is_made():
    initial, target = trajectory(10)
    net = Net()
    alive = []

    def step(u):
        alive.append(sum(ref() is not None for ref in seen))
        return net(u)

    seen = []
    windows = truncated_bptt(step, initial, target, window=2, mode="sequential")
    for _ in range(3):
        window = next(windows)
        seen.append(weakref.ref(window.pred))
        del window
    assert alive == [0] * 6


def test_parameters_may_change_between_windows():
    """An optimizer may step between windows: what was detached is not recomputed."""
    initial, target = trajectory(11)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for window in truncated_bptt(net, initial, target, window=2, mode="sequential"):
        squared(window).backward()
        optimizer.step()
    assert net.layer.weight.grad.isfinite().all()


@pytest.mark.parametrize("mode", MODES)
def test_without_gradients_it_still_rolls_out(mode):
    initial, target = trajectory(12)
    with torch.no_grad():
        for part in truncated_bptt(Net(), initial, target, window=2, mode=mode, checkpoint_every=1):
            assert not part.pred.requires_grad


def test_steps_before_the_window_leave_the_caller_s_gradient_mode_alone():
    initial, target = trajectory(13)
    windows = truncated_bptt(Net(), initial, target, window=2, mode="last")
    part = next(windows)
    assert torch.is_grad_enabled()
    assert part.pred.requires_grad


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 7}, "window 7 need a target of 7 steps at least, got num_steps 6"),
        ({"window": 7, "mode": "sequential"}, "window 7 .* num_steps 6"),
        (
            {"window": 5, "mode": "pushforward", "num_pushforward": 2},
            "window 5 and num_pushforward 2 need a target of 7 steps at least, got num_steps 6",
        ),
        ({"window": 0}, "window must be 1 at least, got 0"),
        ({"window": 1, "mode": "pushforward", "num_pushforward": 0}, "num_pushforward must be 1"),
        ({"window": 1, "checkpoint_every": -1}, "checkpoint_every must be 0 or more, got -1"),
        ({"window": 1, "mode": "first"}, "mode must be one of last, .*, got 'first'"),
    ],
)
def test_impossible_settings_are_refused_at_the_call(settings, message):
    initial, target = trajectory(14)
    with pytest.raises(ValueError, match=message):
        truncated_bptt(lambda u: u, initial, target, **settings)


def test_the_longest_window_beside_a_pushforward_is_accepted():
    initial, target = trajectory(14)
    (part,) = truncated_bptt(
        lambda u: u, initial, target, window=4, mode="pushforward", num_pushforward=2
    )
    assert part.first_step.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("initial", "target"),
    [
        ((2, 1, 4), (3, 5, 1, 4)),
        ((2, 1, 4), (2, 5, 2, 4)),
        ((2, 1, 4), (2, 5, 1, 5)),
        ((2, 1, 4), (2, 1, 4)),
        ((2,), (2, 5)),
    ],
)
def test_tensors_that_are_no_trajectory_are_refused(initial, target):
    with pytest.raises(ValueError, match=r"\(sample, time, channel, \*grid\), got "):
        truncated_bptt(lambda u: u, torch.zeros(initial), torch.zeros(target), window=1)


def test_a_step_that_changes_the_shape_is_refused():
    initial, target = trajectory(15)
    windows = truncated_bptt(lambda u: u[..., :2], initial, target, window=1)
    with pytest.raises(ValueError, match=r"given \(3, 2, 4, 5\), it returned \(3, 2, 4, 2\)"):
        next(windows)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_right_in_double_precision(mode):
    initial, target = trajectory(16, samples=1, steps=3, channels=1, grid=(2,))

    def loss(weight):
        windows = truncated_bptt(
            lambda u: torch.tanh(weight * u),
            initial,
            target,
            window=2,
            mode=mode,
            checkpoint_every=1,
            generator=torch.Generator().manual_seed(0),
        )
        return squared(next(windows))

    weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    if mode in ("sequential", "random_start"):  # no step before the window depends on the weight
        assert torch.autograd.gradcheck(loss, (weight,))
    (slope,) = torch.autograd.grad(loss(weight), weight)
    assert slope.isfinite()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_cpu():
    initial, target = trajectory(17)
    net = Net()
    total, gradient = loss_and_gradient(net, initial, target, window=3, mode="sequential")
    other, other_gradient = loss_and_gradient(
        net.cuda(), initial.cuda(), target.cuda(), window=3, mode="sequential", checkpoint_every=1
    )
    assert other == pytest.approx(total)
    assert_close(other_gradient.cpu(), gradient)
