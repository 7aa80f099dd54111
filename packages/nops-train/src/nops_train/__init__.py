"""A training engine that never loses a run.

Give it a task (named loss terms, and metrics), a weighting, a model, batches and a run folder; it trains,
logs, checkpoints, and continues by the same call wherever it was stopped.

Importing this package does not import torch: each name is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nops_train._bptt import Window as Window
    from nops_train._bptt import truncated_bptt as truncated_bptt
    from nops_train._checkpoint import CheckpointError as CheckpointError
    from nops_train._checkpoint_export import export as export
    from nops_train._checkpoint_export import load_weights as load_weights
    from nops_train._checkpoint_export import weights_source as weights_source
    from nops_train._checkpoint_folder import CheckpointFolder as CheckpointFolder
    from nops_train._checkpoint_folder import load_checkpoint as load_checkpoint
    from nops_train._checkpoint_folder import save_checkpoint as save_checkpoint
    from nops_train._command_line import resolve_call as resolve_call
    from nops_train._command_line import run_cli as run_cli
    from nops_train._command_line_layers import load_run_config as load_run_config
    from nops_train._command_line_layers import parse_config as parse_config
    from nops_train._command_line_layers import resumed_config as resumed_config
    from nops_train._command_line_report import is_out_of_memory as is_out_of_memory
    from nops_train._command_line_spec import Alias as Alias
    from nops_train._command_line_spec import App as App
    from nops_train._command_line_spec import Command as Command
    from nops_train._command_line_spec import Folders as Folders
    from nops_train._command_line_spec import Invocation as Invocation
    from nops_train._command_line_spec import Needs as Needs
    from nops_train._command_line_spec import Option as Option
    from nops_train._common_commands import generate_command as generate_command
    from nops_train._common_commands import one_run as one_run
    from nops_train._common_commands import runs_or_studies as runs_or_studies
    from nops_train._common_commands import schedule_needs as schedule_needs
    from nops_train._common_commands import some_runs as some_runs
    from nops_train._common_commands import verify_option as verify_option
    from nops_train._config import Config as Config
    from nops_train._config import DataConfig as DataConfig
    from nops_train._config import TrainConfig as TrainConfig
    from nops_train._continue import check_start_weights as check_start_weights
    from nops_train._continue import continued_config as continued_config
    from nops_train._continue import neutral_keys as neutral_keys
    from nops_train._continue import open_study as open_study
    from nops_train._continue import study_config as study_config
    from nops_train._data_section import require_data as require_data
    from nops_train._data_section import settled_config as settled_config
    from nops_train._engine import Engine as Engine
    from nops_train._engine_report import RunResult as RunResult
    from nops_train._engine_rng import rng_state as rng_state
    from nops_train._engine_rng import set_rng_state as set_rng_state
    from nops_train._engine_source import ListSource as ListSource
    from nops_train._errors import CheckFailed as CheckFailed
    from nops_train._errors import Diverged as Diverged
    from nops_train._errors import InertTermError as InertTermError
    from nops_train._errors import InputError as InputError
    from nops_train._errors import Interrupted as Interrupted
    from nops_train._errors import PeerFailed as PeerFailed
    from nops_train._evaluation_file import keep_evaluation as keep_evaluation
    from nops_train._evaluation_file import kept_evaluation as kept_evaluation
    from nops_train._events import read_events as read_events
    from nops_train._generation import run_generation as run_generation
    from nops_train._generation import run_verification as run_verification
    from nops_train._importer import Imported as Imported
    from nops_train._importer import Importer as Importer
    from nops_train._inert import check_inert_terms as check_inert_terms
    from nops_train._initialise import InitReport as InitReport
    from nops_train._initialise import initialise_from as initialise_from
    from nops_train._learning_rate import make_learning_rate as make_learning_rate
    from nops_train._loss_task import LossTask as LossTask
    from nops_train._memory import MemoryForecast as MemoryForecast
    from nops_train._memory import check_memory as check_memory
    from nops_train._memory import free_memory as free_memory
    from nops_train._memory import predict_memory as predict_memory
    from nops_train._memory_report import forecast_memory as forecast_memory
    from nops_train._memory_report import report_forecast as report_forecast
    from nops_train._protocols import BatchSource as BatchSource
    from nops_train._protocols import Stateful as Stateful
    from nops_train._protocols import Task as Task
    from nops_train._protocols import Weighting as Weighting
    from nops_train._run_folder import RunFolder as RunFolder
    from nops_train._sinks import Sink as Sink
    from nops_train._study import Study as Study
    from nops_train._study import mean_and_spread as mean_and_spread
    from nops_train._study import report_each as report_each
    from nops_train._study import train_children as train_children
    from nops_train._weighting_config import ConstantConfig as ConstantConfig
    from nops_train._weighting_config import CurriculumConfig as CurriculumConfig
    from nops_train._weighting_config import MomentumConFIGConfig as MomentumConFIGConfig
    from nops_train._weighting_config import NtkConfig as NtkConfig
    from nops_train._weighting_config import WeightingConfig as WeightingConfig
    from nops_train._world import World as World
    from nops_train._world import join_world as join_world

_MODULES = {
    "Window": "_bptt",
    "truncated_bptt": "_bptt",
    "CheckpointError": "_checkpoint",
    "export": "_checkpoint_export",
    "load_weights": "_checkpoint_export",
    "weights_source": "_checkpoint_export",
    "CheckpointFolder": "_checkpoint_folder",
    "load_checkpoint": "_checkpoint_folder",
    "save_checkpoint": "_checkpoint_folder",
    "resolve_call": "_command_line",
    "run_cli": "_command_line",
    "load_run_config": "_command_line_layers",
    "parse_config": "_command_line_layers",
    "resumed_config": "_command_line_layers",
    "is_out_of_memory": "_command_line_report",
    "Alias": "_command_line_spec",
    "App": "_command_line_spec",
    "Command": "_command_line_spec",
    "Folders": "_command_line_spec",
    "Invocation": "_command_line_spec",
    "Needs": "_command_line_spec",
    "Option": "_command_line_spec",
    "generate_command": "_common_commands",
    "one_run": "_common_commands",
    "runs_or_studies": "_common_commands",
    "some_runs": "_common_commands",
    "schedule_needs": "_common_commands",
    "verify_option": "_common_commands",
    "Config": "_config",
    "DataConfig": "_config",
    "TrainConfig": "_config",
    "neutral_keys": "_continue",
    "check_start_weights": "_continue",
    "continued_config": "_continue",
    "open_study": "_continue",
    "study_config": "_continue",
    "require_data": "_data_section",
    "settled_config": "_data_section",
    "Engine": "_engine",
    "RunResult": "_engine_report",
    "rng_state": "_engine_rng",
    "set_rng_state": "_engine_rng",
    "ListSource": "_engine_source",
    "CheckFailed": "_errors",
    "Diverged": "_errors",
    "InertTermError": "_errors",
    "InputError": "_errors",
    "Interrupted": "_errors",
    "PeerFailed": "_errors",
    "keep_evaluation": "_evaluation_file",
    "kept_evaluation": "_evaluation_file",
    "read_events": "_events",
    "run_generation": "_generation",
    "run_verification": "_generation",
    "Imported": "_importer",
    "Importer": "_importer",
    "check_inert_terms": "_inert",
    "InitReport": "_initialise",
    "initialise_from": "_initialise",
    "make_learning_rate": "_learning_rate",
    "LossTask": "_loss_task",
    "MemoryForecast": "_memory",
    "check_memory": "_memory",
    "free_memory": "_memory",
    "predict_memory": "_memory",
    "forecast_memory": "_memory_report",
    "report_forecast": "_memory_report",
    "BatchSource": "_protocols",
    "Stateful": "_protocols",
    "Task": "_protocols",
    "Weighting": "_protocols",
    "RunFolder": "_run_folder",
    "Sink": "_sinks",
    "Study": "_study",
    "mean_and_spread": "_study",
    "report_each": "_study",
    "train_children": "_study",
    "ConstantConfig": "_weighting_config",
    "CurriculumConfig": "_weighting_config",
    "MomentumConFIGConfig": "_weighting_config",
    "NtkConfig": "_weighting_config",
    "WeightingConfig": "_weighting_config",
    "World": "_world",
    "join_world": "_world",
}

__all__ = [
    "Alias",
    "App",
    "BatchSource",
    "CheckFailed",
    "CheckpointError",
    "CheckpointFolder",
    "Command",
    "Config",
    "ConstantConfig",
    "CurriculumConfig",
    "DataConfig",
    "Diverged",
    "Engine",
    "Folders",
    "Imported",
    "Importer",
    "InertTermError",
    "InitReport",
    "InputError",
    "Interrupted",
    "Invocation",
    "ListSource",
    "LossTask",
    "MemoryForecast",
    "MomentumConFIGConfig",
    "Needs",
    "NtkConfig",
    "Option",
    "PeerFailed",
    "RunFolder",
    "RunResult",
    "Sink",
    "Stateful",
    "Study",
    "Task",
    "TrainConfig",
    "Weighting",
    "WeightingConfig",
    "Window",
    "World",
    "check_inert_terms",
    "check_memory",
    "check_start_weights",
    "continued_config",
    "export",
    "forecast_memory",
    "free_memory",
    "generate_command",
    "initialise_from",
    "is_out_of_memory",
    "join_world",
    "keep_evaluation",
    "kept_evaluation",
    "load_checkpoint",
    "load_run_config",
    "load_weights",
    "make_learning_rate",
    "mean_and_spread",
    "neutral_keys",
    "one_run",
    "open_study",
    "parse_config",
    "predict_memory",
    "read_events",
    "report_each",
    "report_forecast",
    "require_data",
    "resolve_call",
    "resumed_config",
    "rng_state",
    "run_cli",
    "run_generation",
    "run_verification",
    "runs_or_studies",
    "save_checkpoint",
    "schedule_needs",
    "set_rng_state",
    "settled_config",
    "some_runs",
    "study_config",
    "train_children",
    "truncated_bptt",
    "verify_option",
    "weights_source",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module, once."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted({*globals(), *__all__})
