"""Schemes by problems by seeds, in parallel processes; what is done already is not done again."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from nops_train import (
    Diverged,
    InputError,
    Invocation,
    RunFolder,
    Study,
    join_world,
    open_study,
    parse_config,
    study_config,
)

from pinn_weighting.cells import Arm, Cell, arms_of, cell_config, first_cells, tuned_cells
from pinn_weighting.config import PinnConfig
from pinn_weighting.report_study import print_tables, report_study
from pinn_weighting.study_scores import chosen_factors, equal_time_cells

GRACE = 30.0  # seconds to save in

Job = tuple[str, dict[str, Any], str]


def compare_runs(config: PinnConfig, call: Invocation) -> None:
    """Train every cell, or go on; write the comparison.

    Raises:
        InputError: If a scheme does not fit a problem, told before anything is trained.
    """
    if join_world().active:
        raise InputError("compare runs its own processes; start it without torchrun")
    study = open_study(call, word="compare")
    config = study_config(config, study, call)
    resume = "auto" if call.resume == "never" else call.resume
    arms = arms_of(config)
    runner = Runner(study, config, arms, resume=resume)
    first = first_cells(config, arms)
    runner.check(first)
    study.update(config=config.model_dump(mode="json"))
    runner.run(first)
    runner.run(tuned_cells(config, arms, chosen_factors(study.read())))
    if "time" in config.compare.budget:
        runner.run(equal_time_cells(study.read(), config))
    print_tables(study.path)
    print(f"Report: {report_study(study.path)}")


class Runner:
    """Trains cells, as many at once as there are processors, and notes each in `study.json`.

    Args:
        study: The folder.
        config: Of the comparison.
        arms: By whose labels cells name them.
        resume: Of each run.
    """

    def __init__(self, study: Study, config: PinnConfig, arms: list[Arm], *, resume: str) -> None:
        self._study, self._config, self._resume = study, config, resume
        self._arms = {arm.label: arm for arm in arms}
        self._cells: dict[str, dict[str, Any]] = {}

    def check(self, cells: Sequence[Cell]) -> None:
        """Build the configuration and the weighting of each arm on each problem, before anything is trained.

        Raises:
            InputError: If they do not fit.
        """
        from pinn_weighting.build import build_weighting

        for cell in {(cell.problem, cell.arm): cell for cell in cells}.values():
            build_weighting(self._config_of(cell))

    def run(self, cells: Sequence[Cell]) -> None:
        """Train what is not trained yet.

        Raises:
            InputError: If a run cannot be continued as asked, or has ended with other settings.
        """
        self._cells |= {cell.name: cell.plain() for cell in cells}
        jobs = [
            (cell.name, self._config_of(cell).model_dump(mode="json"), self._resume)
            for cell in cells
            if not self._is_over(cell)
        ]
        workers = min(self._config.compare.workers or os.cpu_count() or 1, len(jobs))
        if workers <= 1:
            for number, job in enumerate(jobs, 1):
                self._say(train_cell(self._study.path, job), number, len(jobs))
        else:
            self._in_parallel(jobs, workers)
        self._study.update(cells=self._cells)

    def _is_over(self, cell: Cell) -> bool:
        from pinn_weighting.training import NEUTRAL

        folder = self._study.path / cell.name
        if self._resume == "force" or not is_done(folder):
            return False
        if cell.budget != "time":  # that of a run at equal time follows from times measured then
            asked = self._config_of(cell).model_dump(mode="json")
            run = RunFolder(folder, config=asked, config_class=PinnConfig, neutral=NEUTRAL)
            run.check_config(RunFolder.at(folder).config, where=f"{folder}/config.yaml")
        return True

    def _in_parallel(self, jobs: list[Job], workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=begin_worker)
        try:
            futures = [pool.submit(train_cell, self._study.path, job) for job in jobs]
            for number, future in enumerate(as_completed(futures), 1):
                self._say(future.result(), number, len(jobs))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _config_of(self, cell: Cell) -> PinnConfig:
        return cell_config(self._config, self._arms[cell.arm], cell)

    @staticmethod
    def _say(line: str, number: int, total: int) -> None:
        print(f"{number}/{total}  {line}", flush=True)


def is_done(folder: Path) -> bool:
    """Whether a run was trained and evaluated, or given up as diverged."""
    if not (folder / "config.yaml").is_file():
        return False
    summary = RunFolder.at(folder).summary()
    return "metrics" in summary or summary.get("status") == "diverged"


def begin_worker() -> None:
    """Each process computes on one processor, and saves and stops when the one that started it is gone."""
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # a process of this program, as on its command line
    threading.Thread(target=_stop_with_parent, daemon=True).start()


def _stop_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)  # an engine at work saves
    time.sleep(GRACE)
    os._exit(1)  # the next job would never come


def train_cell(study: Path, job: Job) -> str:
    """Train one cell to its end in this process; a line about it."""
    from pinn_weighting.training import NEUTRAL, Parts, train_in

    name, plain, resume = job
    config = parse_config(PinnConfig, plain, source=name)
    parts = Parts.of(config)
    run = Study(study).run(name, config=config, resume=resume, neutral=NEUTRAL)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        try:
            train_in(run, parts)
        except Diverged:
            run.update_summary(status="diverged")
    summary = run.summary()
    if "metrics" not in summary:
        return f"{name}: diverged"
    return f"{name}: error {summary['metrics']['error']:.3g}, {summary['seconds']:.1f} s"
