"""Every model in training: cut anywhere, restore, equal to never having stopped."""

from functools import partial

import nops_models
import pytest
import torch
from nops_models import FNO, UAFNO, UPT, FNOConfig, UAFNOConfig, UNet, UNetConfig, UPTConfig
from nops_testing.contract import check_round_trip, stateful_classes

STEPS = 3
COMMON = {"in_channels": 1, "num_parameters": 2, "base_channels": 4, "embedding": 4}
PYRAMID = {**COMMON, "encoder_levels": 1, "blocks_per_level": 1, "norm": "instance"}
MODELS = {
    "uafno": lambda: UAFNO(UAFNOConfig(**PYRAMID, afno_blocks=1, afno_groups=2)),
    "unet": lambda: UNet(UNetConfig(**PYRAMID, bottleneck_blocks=1)),
    "fno": lambda: FNO(FNOConfig(**COMMON, num_layers=2, modes=3)),
    "upt": lambda: OnGrid(),
}


class OnGrid(torch.nn.Module):
    """A Universal Physics Transformer that takes and gives fields as the other models do."""

    def __init__(self):
        super().__init__()
        sizes = {"grid_shape": (8, 8), "patch_size": 4, "tokens": 3, "dim": 8}
        self.upt = UPT(UPTConfig({"u": 1}, 2, **sizes, condition=("nu", "kappa")))

    def forward(self, field, theta):
        positions = torch.cartesian_prod(*2 * [(torch.arange(8) + 0.5) / 8])
        fields = {"u": field.flatten(2).mT}
        return self.upt(fields, positions, condition=theta).fields["u"].mT.view_as(field)


class Training:
    """A tiny model under AdamW; parameters, and the field that it predicts."""

    def __init__(self, make):
        torch.manual_seed(0)
        self.model = make()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        generator = torch.Generator().manual_seed(1)
        self.field = torch.randn(2, 1, 8, 8, generator=generator)
        self.theta = torch.rand(2, 2, generator=generator)

    @property
    def state(self):
        return self

    def state_dict(self):
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def advance(self, step):
        self.optimizer.zero_grad()
        pred = self.model(self.field, self.theta)
        (pred - self.field.roll(step + 1, -1)).square().mean().backward()
        self.optimizer.step()

    def observe(self):
        with torch.no_grad():
            return [self.model(self.field, self.theta), dict(self.model.state_dict())]


@pytest.mark.parametrize("make", MODELS.values(), ids=list(MODELS))
@pytest.mark.parametrize("cut", range(STEPS + 1))
def test_round_trip(make, cut):
    check_round_trip(partial(Training, make), cut=cut, steps=STEPS)


def test_no_model_has_a_state_of_another_kind():
    assert stateful_classes(nops_models) == set()
