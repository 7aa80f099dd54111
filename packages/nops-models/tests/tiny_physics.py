"""Forward models to work out by hand."""

import torch
from torch import nn


class Line(nn.Module):
    """Outputs a·t + b at t = 0, 1, 2, 3, in metres; a in 0…4, b in −1…1."""

    parameter_names = ("a", "b")
    parameter_units = ("m/s", "m")
    input_names = ()
    input_units = ()
    input_defaults = ()
    output_names = ("t0", "t1", "t2", "t3")
    output_units = ("m",) * 4

    def __init__(self):
        super().__init__()
        self.register_buffer("bounds", torch.tensor([[0.0, 4.0], [-1.0, 1.0]]))
        self.register_buffer("input_bounds", torch.zeros(0, 2))
        self.seen = []

    def forward(self, parameters, inputs=None):
        self.seen.append((parameters.dtype, torch.is_autocast_enabled("cpu")))
        a, b = parameters.unbind(-1)
        times = torch.arange(4, dtype=parameters.dtype)
        return a[..., None] * times + b[..., None]


class Shifted(Line):
    """The same plus a known gain of two values and a known shift, 10…30, 20 by default."""

    input_names = ("shift", "pair")
    input_units = ("m", "")
    input_defaults = (20.0, torch.tensor([0.5, 1.5]))

    def __init__(self):
        super().__init__()
        self.input_bounds = torch.tensor([[10.0, 30.0], [0.0, 2.0]])

    def forward(self, parameters, inputs=None):
        known = inputs or {}
        shift = torch.as_tensor(known.get("shift", 20.0)).to(parameters)
        pair = torch.as_tensor(known.get("pair", self.input_defaults[1])).to(parameters)
        return super().forward(parameters) * pair.sum(-1)[..., None] + shift[..., None]
