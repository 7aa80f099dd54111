"""A small network with three terms, trained under any weighting, by two ranks together too.

`gradient_ranks.py FOLDER` trains under each weighting of `MAKE` and writes `FOLDER/RANK.pt`.
"""

import os
import sys
from pathlib import Path

import torch
from nops_schedules import AdaptiveLossWeights, ReLoBRaLo, Stages, gradient
from nops_train import Engine, ListSource, RunFolder, TrainConfig, join_world
from torch import nn

NAMES = ("fit", "size", "slope")
POINTS = 15
LBFGS = {"lbfgs_from": 3, "lbfgs_max_iter": 4}  # with more, rounding grows to what one can see


def with_points(weighting, points):
    return gradient.WithPointwise(weighting, {"fit": points})


MAKE = {
    "norm": lambda: gradient.GradientNormWeights(NAMES, every=2),
    "annealing": lambda: gradient.LearningRateAnnealing(NAMES, reference="fit", every=2),
    "dirichlet": lambda: gradient.InverseDirichlet(NAMES, every=2),
    "grad_norm": lambda: gradient.GradNorm(NAMES),
    "uncertainty": lambda: gradient.UncertaintyWeights(NAMES),
    "kernel": lambda: gradient.NTKWeights(NAMES, every=2),
    "probes": lambda: gradient.NTKWeights(NAMES, method="hutchinson", every=2),
    "ConFIG": lambda: gradient.ConFIG(NAMES),
    "MomentumConFIG": lambda: gradient.MomentumConFIG(NAMES),
    "PCGrad": lambda: gradient.PCGrad(NAMES),
    "MGDA": lambda: gradient.MGDA(NAMES),
    "CAGrad": lambda: gradient.CAGrad(NAMES),
    "IMTLG": lambda: gradient.IMTLG(NAMES),
    "AlignedMTL": lambda: gradient.AlignedMTL(NAMES),
    "UPGrad": lambda: gradient.UPGrad(NAMES),
    "self_adaptive": lambda: with_points(gradient.ConFIG(NAMES), gradient.SelfAdaptive(POINTS)),
    "attention": lambda: with_points(ReLoBRaLo(NAMES), gradient.ResidualAttention(POINTS)),
    "causal": lambda: with_points(
        gradient.GradientNormWeights(NAMES, every=2), gradient.CausalWeights(3, tolerances=(1.0,))
    ),
}


def in_stages(make=MAKE["norm"], *, carry=True):
    """A weighting from gradients for three steps, and then its weights, held."""
    held = AdaptiveLossWeights(NAMES, strategy="fixed")
    return Stages([(3, make()), (None, held)], carry=carry)


class Model(nn.Module):
    """A network, a coefficient that one term alone knows, a layer that none reaches, a frozen bias."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1))
        self.coefficient = nn.Parameter(torch.tensor(0.5))
        self.idle = nn.Linear(1, 1)
        self.net[0].bias.requires_grad_(False)

    def forward(self, x):
        return self.net(x)


class ThreeTerms:
    """Residuals are offered to a weighting that asks; `fit` is made by a point scheme where there is one."""

    note_residuals = None

    def __init__(self, model, weighting):
        self.model = model
        self.points = getattr(weighting, "points", {}).get("fit")

    def losses(self, batch, *, epoch, step, active):
        pred = self.model(batch["x"])
        residuals = {
            "fit": pred - batch["y"],
            "size": 0.1 * pred,
            "slope": pred - self.model.coefficient * batch["x"][:, :1],
        }
        if self.note_residuals is not None:
            self.note_residuals(residuals)
        terms = {name: r.square().mean() for name, r in residuals.items()}
        if self.points is not None:
            place = batch["index"] / (POINTS - 1) if self.points.takes_time else batch["index"]
            terms["fit"] = self.points.loss(residuals["fit"], place)
        return {name: terms[name] for name in terms if name in active}

    def metrics(self, batch):
        return {"error": (self.model(batch["x"]) - batch["y"]).square().mean()}


def items():
    draws = torch.Generator().manual_seed(1)
    x = torch.randn(POINTS, 2, generator=draws, dtype=torch.float64)
    y = torch.randn(POINTS, 1, generator=draws, dtype=torch.float64)
    return [{"x": x[i], "y": y[i], "index": torch.tensor(i)} for i in range(POINTS)]


def trained(root, make, *, name, stops=(2,), source=None, optimizer=None, **settings):
    """Parameters and state of the weighting after runs up to each of these epochs, in one folder."""
    for epochs in stops:
        torch.manual_seed(0)
        model = Model().double()
        base = {"epochs": epochs, "batch_size": 5, "learning_rate": 0.01, "device": "cpu"}
        config = TrainConfig(**{**base, "lr_schedule": "constant", **settings})
        weighting = make()
        made = Engine(
            task=ThreeTerms(model, weighting),
            weighting=weighting,
            model=model,
            config=config,
            run=RunFolder.open(root, app="toy", name=name, config={}, resume="auto"),
            optimizer=(optimizer or sgd)([p for p in model.parameters() if p.requires_grad]),
            progress="none",
        )
        made.fit(source or ListSource(items(), batch_size=5, seed=0), None)
    return {k: p.detach() for k, p in model.named_parameters()}, weighting.state_dict()


def sgd(params):
    return torch.optim.SGD(params, lr=0.05)


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.fsync = lambda descriptor: None  # no waiting for the disk
    folder = Path(sys.argv[1])
    found = {name: trained(folder, make, name=name) for name, make in MAKE.items()}
    found["lbfgs"] = trained(folder, in_stages, name="lbfgs", **LBFGS)
    torch.save(found, folder / f"{join_world().rank}.pt")
    join_world().barrier()
