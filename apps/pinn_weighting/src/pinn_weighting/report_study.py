"""The report of a comparison."""

from pathlib import Path
from typing import Any

from nops_diagnostics import Report
from nops_train import InputError, Study
from rich.console import Console
from rich.table import Table

from pinn_weighting.study_scores import Group, groups_of, rows_of, winner_sentence

COLUMNS = {
    "arm": "scheme",
    "error": "error: median [min, max]",
    "steps": "steps",
    "seconds": "training, s",
    "passes": "backward passes",
    "tuning": "tuning, s",
}


def tables_of(folder: Path) -> dict[str, list[Group]]:
    """Groups by budget.

    Raises:
        InputError: If no run of the comparison was evaluated yet.
    """
    study = Study(folder).read()
    budgets = study.get("config", {}).get("compare", {}).get("budget", ["steps"])
    found = {budget: groups_of(study, budget=budget) for budget in budgets}
    if not any(found.values()):
        raise InputError(f"{folder}: no run of this comparison was evaluated yet")
    return found


def problems_in(groups: list[Group]) -> list[str]:
    """Names of the problems, each once."""
    return list(dict.fromkeys(group.problem for group in groups))


def print_tables(folder: Path) -> None:
    """Tables and winners in the terminal."""
    for budget, groups in tables_of(folder).items():
        for problem in problems_in(groups):
            table = Table(title=f"{problem}, equal {budget}")
            for name, heading in COLUMNS.items():
                table.add_column(heading, justify="left" if name == "arm" else "right")
            for row in rows_of(groups, problem):
                table.add_row(*("" if row[name] is None else str(row[name]) for name in COLUMNS))
            Console().print(table)
            print(winner_sentence(groups, problem, budget=budget))


def report_study(folder: Path) -> Path:
    """Write the comparison's report."""
    study, tables = Study(folder), tables_of(folder)
    config: dict[str, Any] = study.read()["config"]
    report = Report("Weightings compared", folder.name)
    for budget, groups in tables.items():
        for problem in problems_in(groups):
            report.add_verdict(winner_sentence(groups, problem, budget=budget))
    for problem in problems_in(next(iter(tables.values()))):
        report.add_section(problem.replace("_", " "))
        report.add_text(_explained(problem))
        for budget, groups in tables.items():
            rows = rows_of(groups, problem)
            more = [name for name in rows[0] if name not in COLUMNS] if rows else []
            columns = {**COLUMNS, **{name: name.replace("_", " ") for name in more}}
            report.add_table(rows, caption=f"Equal {budget}", columns=columns)
    report.add_section("The comparison")
    report.add_text(
        "Errors are those of the last weights on the test set, never the best on it. `tuned` is "
        "fixed weights with one factor on all terms but residuals, chosen by validation error with "
        "a seed of its own; `tuning` is what that cost. At equal time a scheme makes as many steps "
        "as fixed weights' time allows, by the step times measured here; schemes whose steps take "
        "as long within 5 % share their runs."
    )
    report.add_config(config, caption="Configuration of the comparison")
    report.add_machine()
    return report.write(study.report, plots=folder / "plots")


def _explained(problem: str) -> str:
    if problem == "wave_chain":
        return (
            "Error: ‖û − u_RK‖ / ‖u_RK − u‖ of single steps from held-out states, mean of u and v; "
            "further columns are medians of a free rollout from rest under two pushes."
        )
    return "Error: relative L2 over the test grid, mean over the fields."
