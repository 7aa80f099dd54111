"""Half precision in the model, the state in float32."""

import pytest
import torch
from noa.config import RolloutConfig
from noa.task import RolloutTask
from nops_models import UAFNO, UAFNOConfig
from nops_physics import GrayScott, sobol_parameters


@pytest.fixture(scope="module")
def trained() -> tuple[RolloutTask, dict[str, torch.Tensor]]:
    """A small model after 60 steps of one frame each, and 8 trajectories of 64 steps it has not seen."""
    torch.manual_seed(0)
    domain = GrayScott(shape=(12, 12))
    theta = sobol_parameters(16, num_parameters=2)
    frames = domain.trajectory(domain.initial(16, seed=0), theta, num_steps=64)
    frames = (frames - frames.mean((0, 1, 3, 4), keepdim=True)) / frames.std(
        (0, 1, 3, 4), keepdim=True
    )
    model = UAFNO(
        UAFNOConfig(
            in_channels=2, num_parameters=2, base_channels=4, encoder_levels=2, afno_groups=2
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    parameters = theta.float()
    for at in range(60):
        pred = model(frames[:8, at], parameters[:8])
        optimizer.zero_grad()
        (pred - frames[:8, at + 1]).square().mean().backward()
        optimizer.step()
    task = RolloutTask(model.eval(), rollout=RolloutConfig())
    return task, {"frames": frames[8:], "parameters": parameters[8:]}


def test_bf16_changes_the_nmse_of_64_steps_by_at_most_5_percent(trained):
    task, batch = trained
    with torch.no_grad():
        full = task.metrics(batch)["nmse"].mean()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        half = task.metrics(batch)["nmse"].mean()
        state = task.model.rollout(batch["frames"][:, 0], batch["parameters"], num_steps=2)
    assert state.dtype == torch.float32
    assert half != full  # it did compute in half precision
    assert float(half) == pytest.approx(float(full), rel=0.05)
