"""Several transformers around one approximator."""

from collections.abc import Mapping

from torch import nn

from nops_models._upt import UPT
from nops_models._upt_config import UPTConfig


class UPTMixture(nn.Module):
    """A `UPT` for each of several tasks, which share the weights of their approximator.

    Encoder, decoder and conditioner are each task's own, so that tasks may differ in fields, grid,
    dimensions, number of tokens and conditions. A task without conditions beside one that has some
    steps under an embedding of zeros.

    Parameters of the approximator are in `state_dict` under each task's name and share their
    memory; `parameters()` has them once.

    Args:
        configs: By task; a name is letters, digits and underscores.

    Attributes:
        tasks: The models by task.

    Raises:
        ValueError: If there is no task, a name has a dot, or sizes of the approximators differ (width, heads,
            depth, MLP, norms, dropping), naming the task.
    """

    def __init__(self, configs: Mapping[str, UPTConfig]) -> None:
        super().__init__()
        if not configs or not all(name.isidentifier() for name in configs):
            raise ValueError(f"need one task at least, names being words, got {list(configs)}.")
        models = {name: UPT(config) for name, config in configs.items()}
        told = (model for model in models.values() if model.config.condition)
        first = next(told, next(iter(models.values())))
        for name, model in models.items():
            if model is not first:
                _share(name, model, first)
        self.tasks = nn.ModuleDict(models)

    def __getitem__(self, name: str) -> UPT:
        """The model of a task."""
        model = self.tasks[name]
        assert isinstance(model, UPT)
        return model


def _share(name: str, model: UPT, first: UPT) -> None:
    try:
        model.approximator.share(first.approximator)
    except ValueError as error:
        raise ValueError(f"task {name!r}: {error}") from error
