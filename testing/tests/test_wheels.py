"""The audit finds what no wheel may hold, and finds nothing in our sources."""

import zipfile
from pathlib import Path

import pytest
from nops_testing.wheels import audit_file, audit_wheel

ROOT = Path(__file__).parents[2]
HEADER = "# This program is free software under the GNU General Public License, version 3.\n"
PLAIN = {
    "own/__init__.py": "WEIGHTS = (0.5, 0.25)\n",
    "own-1.dist-info/METADATA": "Name: own\nRequires-Dist: prosail ; extra == 'prosail'\n\nGPL\n",
    "own-1.dist-info/LICENSE": "MIT",
}


def wheel(folder: Path, **changed: str) -> Path:
    path = folder / "own-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        for name, text in {**PLAIN, **changed}.items():
            file.writestr(name, text)
    return path


def table(count: int) -> str:
    return ", ".join(f"{0.001 * i:.3f}" for i in range(count))


def test_a_clean_wheel_has_no_findings(tmp_path: Path) -> None:
    assert audit_wheel(wheel(tmp_path)) == []


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("own/leaf.py", HEADER, "own/leaf.py: GNU General Public License"),
        ("own/leaf.py", "# SPDX-License-Identifier: GPL-3.0-or-later\n", "SPDX"),
        ("own/leaf.py", f"K = [{table(2101)}]\n", "own/leaf.py: a table of 2101 numbers"),
        ("own/leaf.py", f"K = {{'cab': ({table(300)})}}\n", "a table of 300 numbers"),
        ("own/leaf.py", f'K = """{table(300)}"""\n', "a table of 300 numbers"),
        ("own/spectra.yaml", f"k: [{table(300)}]\n", "a table of 300 numbers"),
        ("own/spectra.npy", "", "own/spectra.npy: neither code, setting nor template"),
        ("own/spectra.txt", "400 1.5\n", "own/spectra.txt: neither"),
        ("own-1.dist-info/METADATA", "License-Expression: GPL-3.0-only\n\n", "GPL-3.0-only"),
        ("own-1.dist-info/METADATA", "Requires-Dist: prosail>=2\n\n", "requires prosail>=2"),
    ],
)
def test_what_may_not_be_there_is_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    found = audit_wheel(wheel(tmp_path, **{name: text}))
    assert found
    assert all(says in line for line in found)


def test_our_sources_hold_nothing_of_the_kind() -> None:
    sources = [
        path
        for path in ROOT.glob("*/*/src/**/*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert len(sources) > 100
    found = [line for path in sources for line in audit_file(str(path), path.read_bytes())]
    assert found == []
