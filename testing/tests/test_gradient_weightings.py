"""Every weighting from gradients in the engine: it trains, accumulates, and goes on from a checkpoint exactly."""

import pytest
import torch
from nops_schedules import gradient
from nops_testing.contract import same
from nops_train import Engine, ListSource, RunFolder, TrainConfig
from torch import nn

NAMES = ("fit", "size", "slope")
MAKE = {
    "norm": lambda: gradient.GradientNormWeights(NAMES, every=2),
    "annealing": lambda: gradient.LearningRateAnnealing(NAMES, reference="fit", every=2),
    "dirichlet": lambda: gradient.InverseDirichlet(NAMES, every=2),
    "grad_norm": lambda: gradient.GradNorm(NAMES),
    "uncertainty": lambda: gradient.UncertaintyWeights(NAMES),
    "kernel": lambda: gradient.NTKWeights(NAMES, every=2),
    "ConFIG": lambda: gradient.ConFIG(NAMES),
    "MomentumConFIG": lambda: gradient.MomentumConFIG(NAMES),
    "PCGrad": lambda: gradient.PCGrad(NAMES),
    "MGDA": lambda: gradient.MGDA(NAMES),
    "CAGrad": lambda: gradient.CAGrad(NAMES),
    "IMTLG": lambda: gradient.IMTLG(NAMES),
    "AlignedMTL": lambda: gradient.AlignedMTL(NAMES),
    "UPGrad": lambda: gradient.UPGrad(NAMES),
}


class ThreeTerms:
    """Three terms of a small network, whose residuals are offered to a weighting that asks."""

    note_residuals = None

    def __init__(self, model):
        self.model = model

    def losses(self, batch, *, epoch, step, active):
        pred = self.model(batch["x"])
        residuals = {
            "fit": pred - batch["y"],
            "size": 0.1 * pred,
            "slope": pred - batch["x"][:, :1],
        }
        if self.note_residuals is not None:
            self.note_residuals(residuals)
        return {name: r.square().mean() for name, r in residuals.items() if name in active}

    def metrics(self, batch):
        return {"error": (self.model(batch["x"]) - batch["y"]).square().mean()}


def trained(root, make, *, name, stops=(2,), accumulate=1):
    """Parameters and state of the weighting after runs up to each of these epochs, in one folder."""
    draws = torch.Generator().manual_seed(1)
    batches = [
        {"x": torch.randn(6, 2, generator=draws), "y": torch.randn(6, 1, generator=draws)}
        for _ in range(3)
    ]
    for epochs in stops:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1))
        model[0].bias.requires_grad_(False)
        config = TrainConfig(
            epochs=epochs,
            batch_size=6,
            accumulate=accumulate,
            learning_rate=0.01,
            lr_schedule="constant",
            warmup_steps=0,
            device="cpu",
        )
        weighting = make()
        made = Engine(
            task=ThreeTerms(model),
            weighting=weighting,
            model=model,
            config=config,
            run=RunFolder.open(root, app="toy", name=name, config={}, resume="auto"),
            optimizer=torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01),
            progress="none",
        )
        made.fit(ListSource(batches, seed=0), None)
    return [p.detach() for p in model.parameters()], weighting.state_dict()


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_it_trains_and_goes_on_exactly(tmp_path, make):
    whole = trained(tmp_path, make, name="whole", stops=(2,))
    assert same(whole, trained(tmp_path, make, name="stopped", stops=(1, 2)))
    untrained = trained(tmp_path, make, name="short", stops=(1,))
    assert not same(whole[0], untrained[0])
    assert not same(whole[1], untrained[1])


@pytest.mark.parametrize("name", ["ConFIG", "UPGrad"])
def test_micro_batches_join_as_one(tmp_path, name):
    one, _ = trained(tmp_path, MAKE[name], name="one")
    two, _ = trained(tmp_path, MAKE[name], name="two", accumulate=2)
    for a, b in zip(one, two, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)
