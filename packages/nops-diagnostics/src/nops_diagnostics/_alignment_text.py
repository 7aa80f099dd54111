"""The diagnosis as a block of text."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nops_diagnostics._alignment_report import AlignmentReport, Section

RULE = "=" * 60
MEANING = {
    "EXCELLENT": "L_latent provides strong alignment",
    "GOOD": "L_latent provides meaningful alignment",
    "MODERATE": "L_latent provides partial alignment",
    "POOR": "L_latent provides no meaningful alignment",
}
WITHOUT_PROJECTOR = "by tokens alone, no projector was trained"
TITLES = {
    "reconstruction": "VQ Reconstruction",
    "diversity": "Token Diversity",
    "correlation": "Alignment Correlation",
    "consistency": "Temporal Consistency",
}


def text_of(report: "AlignmentReport") -> str:
    """Sections, gates, summary and verdict, line by line."""
    parts = [_reconstruction, _diversity, _correlation, _consistency]
    blocks = [
        [RULE, "L_latent Alignment Diagnostics", RULE],
        *(part(section) for part, section in zip(parts, report.sections.values(), strict=True)),
        _gates(report),
        _summary(report),
    ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _reconstruction(section: "Section") -> list[str]:
    errors = {name: value for name, value in section.figures.items() if name != "total"}
    width = max((len(name) for name in errors), default=0)
    rows = [f"  {name.upper():<{width}}: {value:.4f}" for name, value in errors.items()]
    head = ["1. VQ Reconstruction Quality", f"Total MSE: {section.figures['total']:.4f}"]
    listed = ["Per-category reconstruction errors:", *rows] if rows else []
    return [*head, *listed, f"➜ Quality Assessment: {section.grade}"]


def _diversity(section: "Section") -> list[str]:
    found = section.figures
    share = f"{found['utilisation']:.1%} ({found['used']}/{found['num_codes']} codes)"
    return [
        "2. Token Diversity",
        f"Overall utilization: {share}",
        f"Token entropy: {found['entropy']:.2f} nats",
        f"➜ Diversity Assessment: {section.grade}",
    ]


def _correlation(section: "Section") -> list[str]:
    head, tail = "3. Alignment Correlation", f"➜ Correlation Assessment: {section.grade}"
    found = section.figures
    if not found:
        return [head, tail]
    return [
        head,
        f"Cosine similarity: {found['cosine']:.3f} ± {found['deviation']:.3f} "
        f"[{found['least']:.3f}, {found['greatest']:.3f}]",
        f"L_latent (MSE): {found['latent_loss']:.3f}",
        tail,
    ]


def _consistency(section: "Section") -> list[str]:
    head, tail = "4. Temporal Consistency", f"➜ Consistency Assessment: {section.grade}"
    found = section.figures
    if not found:
        return [head, tail]
    return [
        head,
        f"Latent norm: {found['norm']:.3f} ± {found['deviation']:.3f}",
        f"Coefficient of variation: {found['variation']:.3f}",
        tail,
    ]


def _gates(report: "AlignmentReport") -> list[str]:
    words = {True: "passed", False: "FAILED", None: "not trained"}
    lines = ["Gates"]
    for name, gate in report.gates.items():
        lines.append(f"  {name + ':':<16}{words[gate.passed]}")
        lines += [f"    {reason}" for reason in gate.reasons]
    return lines


def _summary(report: "AlignmentReport") -> list[str]:
    lines = ["Overall Summary"]
    for name, section in report.sections.items():
        lines.append(f"{TITLES[name] + ':':<24}{section.grade}")
    return [*lines, f"Mean of points:         {report.points:.2f}", "", _verdict(report)]


def _verdict(report: "AlignmentReport") -> str:
    if report.failed:
        why = f"failed gates: {', '.join(report.failed)} (grades alone: {report.ungated})"
    elif report.sections["correlation"].points is None:
        why = WITHOUT_PROJECTOR
    else:
        why = MEANING[report.verdict]
    return f"➜ Final Verdict: {report.verdict} - {why}"
