"""How much memory a step takes, and with which points of a step it would fit."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from nops_models import UPT
from nops_train import (
    InputError,
    MemoryForecast,
    check_memory,
    free_memory,
    is_out_of_memory,
    parse_config,
    predict_memory,
)
from torch import Tensor, nn

from upt_inverse.build import Bundle, build_task
from upt_inverse.config import UptConfig
from upt_inverse.reach import WholeStep

HALVINGS = 6  # of the points, when one looks for what fits
SPENT = 0.7  # share of a forecast that was too much, which the next try may need: forecasts are low


def report_memory(
    config: UptConfig,
    bundle: Bundle,
    model: UPT,
    *,
    whole: nn.Module | None = None,
    name: str = "",
) -> int:
    """Print the forecast of a step's memory in bytes.

    Args:
        config: Of the run, or of a task.
        bundle: Of its data.
        model: That is stepped.
        whole: All that is trained, of which the model is a part; None: the model.
        name: Of the task.

    Raises:
        InputError: If it is more than is free, with what would fit.
    """
    device = next(model.parameters()).device
    forecast = forecast_step(config, bundle, model, whole=whole)
    try:
        check_memory(forecast, device=device)
    except InputError as error:
        advice = advise(config, bundle, model, budget=free_memory(device))
        raise InputError(f"{error}; {advice}") from error
    text = f"{name}: {forecast}" if name else str(forecast)
    print(text[0].upper() + text[1:])
    return forecast.total


@contextmanager
def memory_advice(config: UptConfig, bundle: Bundle, model: UPT) -> Iterator[None]:
    """Inside, running out of memory is told with the settings estimated to fit.

    Raises:
        InputError: In place of the error for it.
    """
    told = None
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        told = f"{error}".partition("\n")[0] or type(error).__name__
    if told is None:
        return
    model.zero_grad(set_to_none=True)  # the error, and what its frames held, are gone by now
    device = next(model.parameters()).device
    if device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        needed = forecast_step(config, bundle, model).total
        budget = min(int(SPENT * needed), free_memory(device))
        advice = advise(config, bundle, model, budget=budget)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        advice = "not even two samples fit: take a smaller model"
    raise InputError(f"not enough memory: {told}; {advice}")


def forecast_step(
    config: UptConfig, bundle: Bundle, model: UPT, *, whole: nn.Module | None = None
) -> MemoryForecast:
    """What a training step of these settings will hold; `whole` is all that is trained."""
    batch = first_batch(bundle, next(model.parameters()).device)
    return predict_memory(
        WholeStep(whole or model, build_task(config, bundle, model), config.loss.weights()),
        tuple(batch[name][:1] for name in ("frames", "start", "parameters")),
        batch_size=-(-config.train.batch_size // config.train.accumulate),
        window=1,
    )


def forecast_of_all_points(config: UptConfig, bundle: Bundle, model: UPT) -> int | None:
    """The bytes of a step without drawing points; None where none are drawn, or it does not fit."""
    plain = config.model_dump(mode="json")
    if not config.loss.query_sampling.enabled:
        return None
    plain["loss"]["query_sampling"] = {"enabled": False}
    whole = parse_config(UptConfig, plain, source="all points")
    try:
        return forecast_step(whole, bundle, model).total
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None


def advise(config: UptConfig, bundle: Bundle, model: UPT, *, budget: int) -> str:
    """The most points drawn, and decoded at once, with which a step is estimated to fit into so many bytes."""
    found = []
    for key in ("loss.query_sampling.num_queries", "loss.chunk_size"):
        for points in _fewer(config, key, bundle.geometry.num_points):
            changed = _with(config, key, points)
            if changed and forecast_step(changed, bundle, model).total <= budget:
                found.append(f"{key} = {points}")
                break
    least = "a smaller train.batch_size, or a larger train.accumulate"
    return f"estimated to fit: {', or '.join(found)}; or {least}" if found else f"take {least}"


def _fewer(config: UptConfig, key: str, points: int) -> list[int]:
    """Half of what a key allows now, half of that, and so on."""
    sampling = config.loss.query_sampling
    drawn = (sampling.num_queries if sampling.enabled else None) or points
    now = config.loss.chunk_size if key == "loss.chunk_size" else drawn
    halves = [(now or drawn) >> shift for shift in range(1, HALVINGS + 1)]
    return [half for half in halves if half > 0]


def _with(config: UptConfig, key: str, points: int) -> UptConfig | None:
    """The config with so many points; None where they are too few for the model."""
    plain = config.model_dump(mode="json")
    if key == "loss.chunk_size":
        plain["loss"]["chunk_size"] = points
    else:
        plain["loss"]["query_sampling"] |= {"enabled": True, "num_queries": points}
    try:
        return parse_config(UptConfig, plain, source=key)
    except InputError:
        return None


def first_batch(bundle: Bundle, device: torch.device) -> Mapping[str, Tensor]:
    """A training batch, normalised."""
    batch = next(iter(bundle.train.batches(epoch=0)))
    return {name: values.to(device) for name, values in batch.items()}
