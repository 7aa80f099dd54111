"""Print the tables of `docs/benchmarks.md` from `results/*.json`: `python benchmarks/tables.py`."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SIGNS = {"at_most": "≤", "at_least": "≥"}
COLUMNS = {
    "skill_persistence": "skill over persistence",
    "skill_mean": "over the mean",
    "parameters_shuffle": "θ-shuffle",
    "nmse": "NMSE",
}


def main() -> None:
    """Claims of every result, then the study's table per domain."""
    for path in sorted(RESULTS.glob("*.json")):
        document = json.loads(path.read_text())
        print(f"\n## {document['name']}\n\n{machine(document['machine'])}\n")
        print("| claim | measured | bar | met |\n|---|---|---|---|")
        for row in document["claims"]:
            bar = f"{SIGNS[row['kind']]} {row['bar']:g}"
            print(
                f"| {row['claim']} | {row['value']:.3g} | {bar} | {'yes' if row['met'] else 'no'} |"
            )
        if path.stem == "noa_study":
            for domain, table in document["details"].items():
                print(f"\n### {domain}\n\n{study(table)}")


def machine(facts: dict) -> str:
    """One line on where it was measured."""
    return (
        f"{facts['processor']}, {facts['cores']} cores, {facts['device']}, "
        f"Python {facts['python']}, torch {facts['torch']}, {facts['threads']} thread(s)."
    )


def study(table: dict) -> str:
    """Mean ± deviation per lead time."""
    lines = ["| lead | " + " | ".join(COLUMNS.values()) + " |", "|---" * 5 + "|"]
    for lead, figures in table["lead"].items():
        cells = (f"{figures[n]['mean']:.2f} ± {figures[n]['std']:.2f}" for n in COLUMNS)
        lines.append(f"| {lead} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
