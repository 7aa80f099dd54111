"""The section `tasks`: several equations, each with data of its own, around one approximator."""

from typing import Any, Literal

from nops_train import Config
from pydantic import Field, ValidationError

from upt_inverse.config_data import UptDataConfig
from upt_inverse.config_loss import TERMS


def _own(text: str, **limits: Any) -> Any:
    return Field(default=None, description=f"{text} Null: that of the section loss.", **limits)


def _of_model(text: str, **limits: Any) -> Any:
    return Field(default=None, description=f"{text} Null: that of the section model.", **limits)


class TaskModelConfig(Config):
    """What encoder and decoder of a task have in place of the section `model`."""

    encoder: Literal["grid", "supernodes"] | None = _of_model("A grid, or any set of points.")
    tokens: int | None = _of_model("Tokens of the latent.", ge=1)
    patch_size: int | None = _of_model("Cells of a patch per axis.", ge=1)
    supernodes: int | None = _of_model("Points that gather messages.", ge=1)
    radius: float | None = _of_model("How far they see.", gt=0)
    max_neighbors: int | None = _of_model("Points that one hears at most.", ge=1)
    history: int | None = _of_model("States that the encoder reads.", ge=1)
    condition: tuple[str, ...] | None = _of_model("What conditions the model.")


class TaskLossConfig(Config):
    """What the terms of a task have in place of the section `loss`."""

    L_forward: float | None = _own("Base weight.", ge=0)
    L_inv_enc: float | None = _own("Base weight.", ge=0)
    L_inv_dec: float | None = _own("Base weight.", ge=0)
    L_rollout: float | None = _own("Base weight.", ge=0)
    L_forward_latent: float | None = _own("Base weight.", ge=0)
    L_spec: float | None = _own("Base weight.", ge=0)
    L_latent_norm: float | None = _own("Base weight.", ge=0)
    L_latent_diversity: float | None = _own("Base weight.", ge=0)
    L_divergence: float | None = _own("Base weight.", ge=0)
    L_conservation: float | None = _own("Base weight.", ge=0)
    L_boundary: float | None = _own("Base weight.", ge=0)
    L_positivity: float | None = _own("Base weight.", ge=0)
    rollout_horizon: int | None = _own("Steps that L_rollout unrolls.", ge=1)
    rollout_queries: float | None = _own("Share of the points decoded there.", gt=0, le=1)
    num_queries: int | None = Field(
        default=None,
        ge=1,
        description="Points per sample. Null: that of loss.query_sampling.",
    )
    chunk_size: int | None = _own("Points decoded at once.", ge=1)
    divergence_field: str | None = _own("Vector field of L_divergence.", min_length=1)
    boundary_value: float | None = _own("Of L_boundary.")
    positivity_minimum: float | None = _own("Of L_positivity.")


assert set(TERMS) <= set(TaskLossConfig.model_fields)


class TaskConfig(Config):
    """One equation among several."""

    weight: float = Field(default=1.0, gt=0, description="Factor on all its terms.")
    data: UptDataConfig = Field(
        default=UptDataConfig(num_steps=8, shape=(256,)), description="Its trajectories."
    )
    model: TaskModelConfig = TaskModelConfig()
    loss: TaskLossConfig = TaskLossConfig()


def laid_over(plain: dict[str, Any], task: TaskConfig) -> dict[str, Any]:
    """The plain config of a run of a task alone: its own keys over the shared ones.

    Raises:
        ValueError: If a number of points is given where none are drawn.
    """
    own = task.model_dump(mode="json")
    loss = {**plain["loss"], **_given(own["loss"])}
    queries = loss.pop("num_queries", None)
    sampling = loss["query_sampling"]
    if queries is not None:
        if not sampling["enabled"]:
            raise ValueError(
                "loss.num_queries has no effect while loss.query_sampling.enabled is false"
            )
        loss["query_sampling"] = {**sampling, "num_queries": queries}
    return {
        **plain,
        "tasks": {},
        "rounds": None,
        "weighting": {"kind": "constant"},  # that of the run is over the terms of all tasks
        "data": own["data"],
        "model": {**plain["model"], **_given(own["model"])},
        "loss": loss,
    }


def _given(section: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if value is not None}


def first_problem(error: ValidationError) -> str:
    """The first of pydantic's problems, in its words, with its place."""
    problem = error.errors(include_url=False)[0]
    place = ".".join(map(str, problem["loc"]))
    text = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {text}" if place else text
