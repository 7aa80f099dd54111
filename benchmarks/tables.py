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
ERRORS = {
    "field_error": "field error",
    "log_spectrum_error": "log spectrum error",
    "one_step_field_error": "field error, one step",
}

ROLLOUTS = {
    "latent_nrmse": "latent rollout",
    "image_nrmse": "image rollout",
    "one_step_nrmse": "one step",
    "reconstruction_nrmse": "reconstruction",
}


def main() -> None:
    """Claims of every result, then the tables of the studies."""
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
                print(f"\n### {domain}\n\n{study(table)}\n\n{tokens(table['tokens'])}")
        if path.stem == "turbulence_study":
            print(f"\n{arms(document['details'])}\n\n{differences(document['details'])}")
        if path.stem == "pinn_study":
            for problem, held in document["details"].items():
                print(f"\n### {problem}\n\n{schemes(held)}")
        if path.stem == "upt_study":
            for equation, held in document["details"].items():
                print(f"\n### {equation}\n\n{ablation(held)}")


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


def tokens(seeds: list[dict]) -> str:
    """What the rollouts of each seed are worth as tokens."""
    heads = "reconstruction error | codes used | by rollouts | rollouts / truth | equal tokens | verdict"
    lines = [f"| seed | {heads} |", "|---" * 7 + "|"]
    for seed, held in enumerate(seeds):
        shares = (f"{held[n]:.2f}" for n in ("reconstruction", "used", "used_by_rollouts"))
        ratio = f"{held['ratio']:.1f} ({held['grade']}) | {held['agreement']:.2f}"
        failed = f", gates failed: {', '.join(held['failed'])}" if held["failed"] else ""
        verdict = f"{held['verdict']} ({held['points']:.2f}){failed}"
        lines.append(f"| {seed} | {' | '.join(shares)} | {ratio} | {verdict} |")
    return "\n".join(lines)


def arms(details: dict) -> str:
    """Mean ± deviation over seeds of each arm, and the baselines."""
    lines = ["| arm | " + " | ".join(ERRORS.values()) + " |", "|---" * 4 + "|"]
    for arm, held in details["arms"].items():
        cells = (f"{held[n]['mean']:.3f} ± {held[n]['std']:.3f}" for n in ERRORS)
        lines.append(f"| `{arm}` | " + " | ".join(cells) + " |")
    for name, held in details["baselines"].items():
        lines.append(f"| {name} | " + " | ".join(f"{held[n]:.3f}" for n in ERRORS) + " |")
    return "\n".join(lines)


def differences(details: dict) -> str:
    """The schedule less each rival, seed by seed: mean ± deviation, and how many seeds agree."""
    lines = ["| schedule less | " + " | ".join(ERRORS.values()) + " |", "|---" * 4 + "|"]
    for arm, held in details["differences"].items():
        cells = (difference(held[n]) for n in ERRORS)
        lines.append(f"| `{arm}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def schemes(held: dict) -> str:
    """Median [least, largest] error of each scheme, at equal steps and at equal time, and who wins."""
    columns = {b: {r["arm"].split()[0]: r for r in t["rows"]} for b, t in held.items()}
    first = next(iter(columns.values()))
    heads = "".join(f" equal {budget} |" for budget in columns)
    lines = [f"| scheme |{heads} backward passes |", "|---" * (len(columns) + 2) + "|"]
    for name, row in first.items():
        errors = "".join(f" {rows[name]['error']} |" for rows in columns.values())
        lines.append(f"| {row['arm'].replace('(x', '(×')} |{errors} {row['passes']} |")
    return "\n".join([*lines, "", *(table["winner"] for table in held.values())])


def ablation(details: dict) -> str:
    """Mean ± deviation over seeds of each horizon and arm, the verdicts, and the baselines."""
    lines = ["| horizon | arm | " + " | ".join(ROLLOUTS.values()) + " |", "|---" * 6 + "|"]
    for horizon, held in details["horizons"].items():
        for arm, row in held["arms"].items():
            cells = (f"{row[n]['mean']:.3f} ± {row[n]['std']:.3f}" for n in ROLLOUTS)
            lines.append(f"| {horizon} | `{arm}` | " + " | ".join(cells) + " |")
    for name, value in details["baselines"].items():
        lines.append(f"| | {name} | {value:.3f} | | | |")
    effects = (
        f"- Horizon {h}: {held['effect']}."
        for h, held in details["horizons"].items()
        if "effect" in held
    )
    return "\n".join([*lines, "", *effects])


def difference(held: dict) -> str:
    """Mean ± deviation, with a star where it is beyond the deviation and has one sign in all seeds."""
    one_sign = all(value * held["mean"] > 0 for value in held["each"])
    star = "*" if one_sign and abs(held["mean"]) > held["std"] else ""
    return f"{held['mean']:+.3f} ± {held['std']:.3f}{star}"


if __name__ == "__main__":
    main()
