"""A report as one HTML file that needs nothing else."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from nops_diagnostics._figure import DPI, WIDTH, png_bytes
from nops_diagnostics._files import write_atomically
from nops_diagnostics._format import format_cell, heading_of
from nops_diagnostics._layout import check_choice
from nops_diagnostics._machine import describe_machine

Level = Literal["good", "warning", "bad"]


@dataclass(frozen=True, kw_only=True)
class _Cell:
    text: str
    detail: str
    is_number: bool


@dataclass(frozen=True, kw_only=True)
class _Block:
    """One thing in a section; `kind` names the template's macro for it, `data` is its input."""

    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Section:
    title: str
    anchor: str
    blocks: list[_Block] = field(default_factory=list)


class Report:
    """Collects text, tables, figures and facts in reading order, then writes one HTML file.

    The file has no script and loads nothing: figures are embedded, style and icons are inline. It
    reads on a telephone and in dark mode. Every text given is escaped; in texts and captions,
    `words` between backticks are set as code and an empty line starts a paragraph.

    Args:
        title: Title of page and document.
        subtitle: One line below it, such as the run and its data.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self._title = title
        self._subtitle = subtitle
        self._verdicts: list[dict[str, Any]] = []
        self._sections: list[_Section] = []
        self._figures: dict[str, bytes] = {}

    @property
    def figure_names(self) -> tuple[str, ...]:
        """Names of the figures so far, each the stem of its file in `write(plots=...)`."""
        return tuple(self._figures)

    def add_verdict(
        self, headline: str, *, level: Level = "good", details: Sequence[str] = ()
    ) -> None:
        """Put a box on top of the report, whenever it is called.

        Args:
            headline: What came out, in a sentence.
            level: `"good"`, `"warning"` or `"bad"`: colour, sign and word of the box.
            details: Reasons, one line each.

        Raises:
            ValueError: If the level is unknown.
        """
        check_choice("level", level, ("good", "warning", "bad"))
        self._verdicts.append({"headline": headline, "level": level, "details": tuple(details)})

    def add_section(self, title: str) -> None:
        """Start a section: a heading, and an entry in the navigation."""
        taken = {section.anchor for section in self._sections}
        self._sections.append(_Section(title=title, anchor=_unique(_slug(title), taken)))

    def add_text(self, text: str) -> None:
        """Add paragraphs."""
        self._add("text", text=text)

    def add_facts(self, facts: Mapping[str, Any]) -> None:
        """Add a row of headline figures, name above value.

        Args:
            facts: By name; numbers, `Estimate`s of one number and texts, shown as in tables.
        """
        self._add("facts", facts=[(name, _cell(value)) for name, value in facts.items()])

    def add_table(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        caption: str,
        columns: Mapping[str, str] | Sequence[str] | None = None,
    ) -> None:
        """Add a table, one row per mapping.

        Numbers are rounded to three significant digits; an `Estimate` shows its interval below.

        Args:
            rows: Values by column; a missing or undefined one shows as a dash.
            caption: Above the table.
            columns: Which columns, in order, with their headings if a mapping. None: all, in order
                of appearance.

        Raises:
            ValueError: If a column asked for is in no row.
        """
        headings = _headings(rows, columns)
        cells = [[_cell(row.get(key)) for key in headings] for row in rows]
        numeric = [all(row[i].is_number for row in cells) for i in range(len(headings))]
        self._add(
            "table",
            caption=caption,
            headings=list(zip(headings.values(), numeric, strict=True)),
            rows=cells,
        )

    def add_figure(
        self, figure: Figure, *, caption: str, name: str = "", alt: str | None = None
    ) -> None:
        """Draw a figure now and embed it as PNG.

        Args:
            figure: From one of the plot functions, or any matplotlib figure.
            caption: Below the figure: what is shown and what to see in it.
            name: Stem of its file in `write(plots=...)`; made from the section's title if empty.
            alt: Description for those who cannot see it; the caption if None.

        Raises:
            ValueError: If the name is taken or is no plain file name.
        """
        section = self._section()
        name = name or _unique(section.anchor, set(self._figures))
        if name in self._figures or not re.fullmatch(r"[\w-][\w.-]*", name):
            raise ValueError(
                f"figure name {name!r} is taken, or not made of letters, digits, '.', '_' and '-'; "
                f"there is {sorted(self._figures)}."
            )
        self._figures[name] = png_bytes(figure)
        width, height = (round(DPI * inches) for inches in figure.get_size_inches())
        self._add(
            "figure",
            name=name,
            image=base64.b64encode(self._figures[name]).decode("ascii"),
            width=width,
            height=height,
            share=min(1.0, round(width / (DPI * WIDTH), 3)),
            caption=caption,
            alt=caption if alt is None else alt,
        )

    def add_config(self, config: Mapping[str, Any], *, caption: str = "Configuration") -> None:
        """Add a folded block with every key of a nested configuration, dotted, values exact."""
        self._add("config", caption=caption, keys=list(_flatten(config)))

    def add_machine(self, facts: Mapping[str, Any] | None = None) -> None:
        """Add machine and versions.

        Args:
            facts: As recorded with the run; those of this process, `describe_machine()`, if None.
        """
        held = describe_machine() if facts is None else facts
        self._add("config", caption="Machine and versions", keys=list(_flatten(held)))

    def render(self) -> str:
        """The HTML document."""
        page = _template().render(
            title=self._title,
            subtitle=self._subtitle,
            verdicts=self._verdicts,
            sections=self._sections,
        )
        return page.lstrip() + "\n"

    def write(self, path: str | Path, *, plots: str | Path | None = None) -> Path:
        """Write the report, whole or not at all.

        Args:
            path: Of the HTML file; its folder is made if need be.
            plots: Folder for the figures as `<name>.png`; none are written if None.

        Returns:
            The path.

        Raises:
            OSError: If a file cannot be written; one already there is then left as it was.
        """
        if plots is not None:
            for name, image in self._figures.items():
                write_atomically(Path(plots) / f"{name}.png", image)
        write_atomically(Path(path), self.render().encode("utf-8"))
        return Path(path)

    def _section(self) -> _Section:
        if not self._sections:
            self.add_section("Overview")
        return self._sections[-1]

    def _add(self, kind: str, **data: Any) -> None:
        self._section().blocks.append(_Block(kind=kind, data=data))


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("nops_diagnostics"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["paragraphs"] = _paragraphs
    environment.filters["runs"] = _runs
    return environment.get_template("report.html")


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


def _runs(text: str) -> list[tuple[str, bool]]:
    """Pieces of a text with whether each stood between backticks."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # an odd backtick is a backtick
        parts[-2:] = ["`".join(parts[-2:])]
    return [(part, i % 2 == 1) for i, part in enumerate(parts) if part]


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"


def _unique(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}-{number}", number + 1
    return name


def _cell(value: Any) -> _Cell:
    text, detail, is_number = format_cell(value)
    return _Cell(text=text, detail=detail, is_number=is_number)


def _headings(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str] | Sequence[str] | None
) -> dict[str, str]:
    known = list(dict.fromkeys(key for row in rows for key in row))
    keys = known if columns is None else list(columns)
    if rows and (missing := [key for key in keys if key not in known]):
        raise ValueError(f"columns {missing} are in no row; the rows have {known}.")
    given = columns if isinstance(columns, Mapping) else {}
    return {key: given.get(key) or heading_of(key) for key in keys}


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, value in nested.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            pairs.extend(_flatten(value, f"{name}."))
        else:
            pairs.append((name, _exact(value)))
    return pairs


def _exact(value: Any) -> str:
    """A value as the configuration file has it: nothing rounded."""
    if value is None or isinstance(value, bool | int | float | list | tuple | dict):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)
