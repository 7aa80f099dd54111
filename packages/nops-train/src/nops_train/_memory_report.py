"""The forecast of a configured run's memory: made on the model's device, said aloud, or refused."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from nops_train._config import TrainConfig
from nops_train._memory import MemoryForecast, check_memory, predict_memory


def forecast_memory(
    model: nn.Module,
    sample: tuple[Tensor, ...],
    *,
    train: TrainConfig,
    num_samples: int,
    window: int,
    checkpoint_every: int = 0,
    parts: int = 1,
) -> MemoryForecast:
    """How much memory a step of a run will take, measured on the model's device.

    Args:
        model: One step, `model(*sample)`; whole: one in parts cannot be measured.
        sample: One sample of its inputs, the state first, on any device.
        train: `batch_size` and `accumulate` count.
        num_samples: Of the train split, which may be fewer than a batch.
        window: Steps that gradients flow through.
        checkpoint_every: Steps between stored states; 0 stores all.
        parts: Ranks that share gradients and optimizer state.

    Returns:
        Bytes of activations, gradients and optimizer state.
    """
    device = next(model.parameters()).device
    batch = min(train.batch_size, num_samples)
    forecast = predict_memory(
        model,
        tuple(x.to(device) for x in sample),
        batch_size=-(-batch // train.accumulate),
        window=window,
        checkpoint_every=checkpoint_every,
    )
    return replace(forecast, optimizer=-(-forecast.optimizer // parts))


def report_forecast(
    forecast: MemoryForecast,
    *,
    device: torch.device,
    window_key: str | None = None,
    checkpoint_key: str | None = None,
) -> None:
    """Print a forecast; refuse what does not fit.

    Args:
        forecast: Of `forecast_memory`.
        device: Where the run will be.
        window_key: As for `check_memory`: what the app calls its window, to be named as advice.
        checkpoint_key: The same for the steps between stored states.

    Raises:
        InputError: If the forecast is above what is free, with settings that fit.
    """
    check_memory(forecast, device=device, window_key=window_key, checkpoint_key=checkpoint_key)
    text = str(forecast)
    print(text[0].upper() + text[1:])
