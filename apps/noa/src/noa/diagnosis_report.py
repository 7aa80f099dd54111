"""The diagnosis as sections of a report."""

from collections.abc import Mapping
from typing import Any

from nops_diagnostics import Report, format_number

from noa.validation_report import PANELS, add_usage

LEVELS = {"EXCELLENT": "good", "GOOD": "good", "MODERATE": "warning", "POOR": "bad"}
TITLES = {
    "reconstruction": "VQ reconstruction",
    "diversity": "token diversity",
    "correlation": "alignment correlation",
    "consistency": "temporal consistency",
}
MEASURES = {
    "reconstruction": ("total", "mean squared error of the rollouts' features"),
    "diversity": ("utilisation", "share of codes in use"),
    "correlation": ("cosine", "mean cosine of projection and latent"),
    "consistency": ("variation", "deviation of the projection's norm over steps / its mean"),
}
PASSED = {True: "passed", False: "failed", None: "not trained"}


def add_diagnosis(report: Report, found: Mapping[str, Any]) -> None:
    """Verdict and sections of `diagnosis.json`."""
    failed = found["failed"]
    verdict = found["verdict"]
    reasons = [reason for gate in found["gates"].values() for reason in gate["reasons"]]
    headline = f"Diagnosis: {verdict}"
    if failed:
        headline += f", by failed gates: {', '.join(failed)}"
    grades = f"By its grades alone {found['ungated']} ({found['points']:.2f} of 4 points)."
    report.add_verdict(f"{headline}.", level=LEVELS[verdict], details=[grades, *reasons])  # type: ignore[arg-type]
    report.add_section("Diagnosis: sections")
    report.add_text(
        "How the rollouts tokenise, and how well the model's inner state says which tokens they "
        "get. A collapsed model has good grades too, so the gates below decide. `not trained`: "
        "there is no projector, so that two sections and a gate drop out."
    )
    report.add_table(_section_rows(found), caption="Sections")
    report.add_table(_category_rows(found), caption="Reconstruction error by category")
    report.add_section("Diagnosis: gates")
    report.add_text(
        "Skill over persistence and the training mean at half the horizon and its end; answers to θ "
        "as strong as the truth's, and to the right θ; latents, projections and tokens that have not "
        "collapsed; projections that point to their own latent rather than to another's. One that "
        "fails makes the verdict POOR."
    )
    report.add_table(_gate_rows(found), caption="Gates")
    report.add_section("Diagnosis: use of codes")
    drawn = list(found["counts"])[:PANELS]
    add_usage(report, found["counts"], drawn, name="diagnosis_usage")


def _section_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, section in found["sections"].items():
        key, measure = MEASURES[name]
        row = {"section": TITLES[name], "grade": section["grade"], "points": section["points"]}
        rows.append(row | {"measure": measure, "value": section.get(key)})
    return rows


def _category_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    section = found["sections"]["reconstruction"]
    names = [name for name in section if name not in ("grade", "points")]
    return [{"category": name, "error": section[name]} for name in names]


def _gate_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, gate in found["gates"].items():
        figures = {k: v for k, v in gate.items() if k not in ("passed", "reasons")}
        said = "; ".join(f"{_words(key)} {_shown(value)}" for key, value in figures.items())
        row = {"gate": name, "result": PASSED[gate["passed"]], "measured": said or None}
        rows.append(row | {"because": "; ".join(gate["reasons"]) or None})
    return rows


def _words(key: str) -> str:
    return key.replace("theta_shuffle", "θ-shuffle").replace("_", " ")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_shown(one) for one in value)
    return format_number(value)
