"""Packages that load a name when it is asked for do so by the same lines, since none imports another."""

from pathlib import Path

PACKAGES = Path(__file__).parents[2] / "packages"


def test_lazy_fronts_load_alike():
    texts = {front.parent.name: front.read_text() for front in PACKAGES.glob("*/src/*/__init__.py")}
    lines = {
        name: text[text.index("def __getattr__(") :]
        for name, text in texts.items()
        if "_MODULES = {" in text
    }
    assert set(lines) >= {"nops_diagnostics", "nops_train"}
    assert len(set(lines.values())) == 1
