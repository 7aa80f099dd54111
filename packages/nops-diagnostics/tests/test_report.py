"""Reports: one file, everything in it, nothing outside, whole or not at all."""

import base64
import html.parser
import os
import re

import pytest
import torch
from nops_diagnostics import Estimate, Report, describe_machine
from nops_diagnostics._figure import WIDTH, new_figure

VOID = {"meta", "link", "img", "br", "hr"}


class Page(html.parser.HTMLParser):
    """Tags in order, checked to be balanced, and the visible text."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def words(self) -> str:
        return re.sub(r"[ \n]+", " ", " ".join(self.text))


def picture(value: float = 1.0):
    figure = new_figure(2.0, 1.0)
    figure.subplots().plot([0.0, value])
    return figure


def full_report() -> Report:
    report = Report("Title of it", "run `one`")
    report.add_section("Results")
    report.add_text("First paragraph.\n\nSecond with `code`.")
    report.add_facts({"parameters": 297728, "skill": 0.87654})
    ends = {"low": torch.tensor(0.8), "high": torch.tensor(0.9)}
    rows = [{"lead": 1, "nmse": Estimate(value=torch.tensor(0.85), **ends)}, {"lead": 64}]
    report.add_table(rows, caption="Scores.")
    report.add_figure(picture(), caption="Skill over lead.", name="skill")
    report.add_section("Training")
    report.add_figure(picture(2.0), caption="Losses.")
    report.add_figure(picture(3.0), caption="Rates.", alt="a falling line")
    report.add_config({"train": {"epochs": 25, "learning_rate": 3e-3, "ema_decay": None}})
    report.add_machine({"torch": "2.15.0"})
    report.add_verdict("Beats persistence.", details=["skill 0.9"])
    report.add_verdict("One step was skipped.", level="warning")
    return report


def test_a_narrow_figure_is_not_stretched():
    report = Report("r")
    report.add_section("s")
    report.add_figure(new_figure(WIDTH, 2.0), caption="wide")
    report.add_figure(new_figure(WIDTH / 2, 2.0), caption="narrow")
    images = [attributes for tag, attributes in Page(report.render()).tags if tag == "img"]
    assert [image["style"] for image in images] == ["--share: 1.0", "--share: 0.5"]


def test_everything_added_is_there():
    page = Page(full_report().render())
    for words in (
        "Title of it",
        "run one",
        "First paragraph.",
        "297\u202f728",
        "0.877",
        "0.850 [0.800, 0.900]",
        "Scores.",
        "train.epochs 25",
        "train.learning_rate 0.003",
        "train.ema_decay null",
        "torch 2.15.0",
        "Good. Beats persistence.",
        "Warning. One step was skipped.",
    ):
        assert words in page.words, words
    assert len(page.all("p")) >= 4
    assert "lead NMSE 1 0.850 [0.800, 0.900] 64 –" in page.words


def test_every_figure_is_embedded_as_it_was_written(tmp_path):
    report = full_report()
    path = report.write(tmp_path / "run" / "report.html", plots=tmp_path / "run" / "plots")
    page = Page(path.read_text(encoding="utf-8"))
    images = page.all("img")
    assert report.figure_names == ("skill", "training", "training-2")
    assert len(images) == len(page.all("figure")) == 3
    for image, name in zip(images, report.figure_names, strict=True):
        head, data = str(image["src"]).split(",", 1)
        assert head == "data:image/png;base64"
        stored = (tmp_path / "run" / "plots" / f"{name}.png").read_bytes()
        assert base64.b64decode(data) == stored
        width, height = (int.from_bytes(stored[i : i + 4], "big") for i in (16, 20))
        assert (image["width"], image["height"]) == (str(width), str(height))
    assert [image["alt"] for image in images] == ["Skill over lead.", "Losses.", "a falling line"]


def test_nothing_is_loaded_from_anywhere():
    source = full_report().render()
    assert not re.search(r"(?i)https?:|ftp:", source)
    markup = re.sub(r"base64,[A-Za-z0-9+/=]+", "", source)
    assert not re.search(r"(?i)//[a-z]|url\(|@import|<script", markup)
    page = Page(source)
    for tag, attrs in page.tags:
        for name in ("src", "href"):
            assert str(attrs.get(name) or "data:").startswith(("data:", "#")), (tag, attrs)
    policy = [m["content"] for m in page.all("meta") if m.get("http-equiv")]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_verdicts_stand_above_everything_else():
    source = full_report().render()
    assert source.index("Beats persistence") < source.index("<nav") < source.index("<h2")


def test_navigation_reaches_every_section():
    report = full_report()
    report.add_section("Training")
    report.add_section("Ω")
    page = Page(report.render())
    targets = [str(a["href"])[1:] for a in page.all("a")]
    assert targets == ["results", "training", "training-2", "section"]
    assert [h["id"] for h in page.all("h2")] == targets


def test_one_title_one_heading_a_language_and_a_viewport():
    page = Page(full_report().render())
    assert len(page.all("title")) == len(page.all("h1")) == len(page.all("main")) == 1
    assert page.all("html") == [{"lang": "en"}]
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    assert "prefers-color-scheme: dark" in full_report().render()


def test_every_user_string_is_escaped():
    evil = "<b onclick=\"x('&amp;')\">"
    report = Report(evil, evil)
    report.add_verdict(evil, details=[evil])
    report.add_section(evil)
    report.add_text(evil)
    report.add_facts({evil: evil})
    report.add_table([{evil: evil, "b": 1}], caption=evil)
    report.add_table([{"a": 1}], caption="", columns={"a": evil})
    report.add_figure(picture(), caption=evil, name="p")
    report.add_figure(picture(), caption="", name="q", alt=evil)
    report.add_config({evil: {evil: evil}, "list": [evil]}, caption=evil)
    report.add_section("end")
    source = report.render()
    assert "<b" not in source.replace("<body", "")
    page = Page(source)
    assert page.words.count(evil) == 19
    assert page.all("img")[1]["alt"] == evil


def test_backticks_set_code_and_a_lone_one_stays():
    report = Report("t")
    report.add_text("use `a < b` or `c`, and 5` more")
    source = report.render()
    assert "<code>a &lt; b</code> or <code>c</code>, and 5` more" in source


def test_configuration_is_folded_and_exact():
    report = Report("t")
    report.add_config(
        {
            "model": {"modes": None, "shape": (32, 32), "rate": 0.1234567890123},
            "empty": {},
            "on": True,
        }
    )
    page = Page(report.render())
    assert [name for name, _ in page.tags].count("details") == 1
    assert page.all("details") == [{}]  # closed
    for words in ("model.shape [32, 32]", "model.rate 0.1234567890123", "empty {}", "on true"):
        assert words in page.words


def test_columns_choose_and_name():
    rows = [{"lead": 1, "nmse": 0.5, "other": "x"}]
    report = Report("t")
    report.add_table(rows, caption="c", columns={"nmse": "error", "lead": "lead (steps)"})
    assert "error lead (steps) 0.500 1" in Page(report.render()).words
    report.add_table(rows, caption="c", columns=["other"])
    report.add_table([], caption="none", columns=["a"])
    assert "no rows" in Page(report.render()).words
    with pytest.raises(ValueError, match=r"\['mse'\] are in no row.*'nmse'"):
        report.add_table(rows, caption="c", columns=["mse"])


def test_numbers_align_and_words_do_not():
    report = Report("t")
    report.add_table([{"name": "a", "x": 1.0}, {"name": "b", "x": None}], caption="c")
    page = Page(report.render())
    assert [h.get("class") for h in page.all("th")] == [None, "number", None, None]
    assert [cell.get("class") for cell in page.all("td")] == ["number", "number"]


def test_a_figure_name_is_used_once_and_is_a_file_name():
    report = Report("t")
    report.add_figure(picture(), caption="c", name="loss")
    for name in ("loss", "a/b", "..", "a b"):
        with pytest.raises(ValueError, match="figure name"):
            report.add_figure(picture(), caption="c", name=name)
    assert report.figure_names == ("loss",)


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="level='fine'"):
        Report("t").add_verdict("h", level="fine")


def test_writing_again_replaces_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "report.html"
    Report("first").write(path)
    Report("second").write(path)
    assert "second" in path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_report(tmp_path, monkeypatch, failing):
    path = tmp_path / "report.html"
    Report("first").write(path)
    old = path.read_bytes()

    def full_disk(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, full_disk)
    with pytest.raises(OSError, match="No space left"):
        Report("second").write(path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_the_same_report_is_the_same_bytes(tmp_path):
    first = full_report().write(tmp_path / "a.html").read_bytes()
    assert full_report().write(tmp_path / "b.html").read_bytes() == first


def test_the_machine_names_what_made_a_figure():
    facts = describe_machine()
    assert facts["torch"] == torch.__version__
    assert {"system", "processor", "cores", "memory", "python", "nops-diagnostics"} <= facts.keys()
    report = Report("t")
    report.add_machine()
    assert torch.__version__ in Page(report.render()).words
