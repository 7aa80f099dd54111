"""What no wheel of ours may hold: copyleft code, and tables of measured constants.

`python -m nops_testing.wheels WHEEL…` prints what it finds; the exit code is 1 then.
"""

import ast
import re
import sys
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

NUMBERS = 200  # in one literal; a spectrum has thousands, an integration rule tens
TEXT = {".py", ".typed", ".yaml", ".html", ".css"}
COPYLEFT = re.compile(
    r"GNU\s+((Lesser|Affero|Library)\s+)?General\s+Public\s+Licen[cs]e"
    r"|(SPDX-License-Identifier|License-Expression):\s*[AL]?GPL",
    re.IGNORECASE,
)
NUMBER = re.compile(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?")


def audit_wheel(path: Path) -> list[str]:
    """What a wheel holds that it may not, a line each; empty if nothing.

    Headers of the GPL and its kin, files that are no code, setting or template, a literal of more
    than `NUMBERS` numbers, and a requirement outside of an extra that is such a package.
    """
    with zipfile.ZipFile(path) as wheel:
        held = {name: wheel.read(name) for name in wheel.namelist() if not name.endswith("/")}
    found = []
    for name, content in held.items():
        if ".dist-info/" not in name:
            found += audit_file(name, content)
        elif name.endswith("/METADATA"):
            found += _metadata(name, content.decode())
    return found


def audit_file(name: str, content: bytes) -> list[str]:
    """The same of one file of a package."""
    if PurePosixPath(name).suffix not in TEXT:
        return [f"{name}: neither code, setting nor template"]
    text = content.decode()
    found = [f"{name}: {match[0]}" for match in COPYLEFT.finditer(text)]
    literals = _literals(text) if name.endswith(".py") else _lines(text)
    return found + [f"{name}: a table of {n} numbers" for n in literals if n > NUMBERS]


def _literals(code: str) -> Iterator[int]:
    """Numbers in each outermost list, tuple, set or dictionary, and in each text."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            constants = (n.value for n in ast.walk(node) if isinstance(n, ast.Constant))
            yield sum(isinstance(v, int | float) for v in constants)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield sum(NUMBER.fullmatch(word.strip(",;")) is not None for word in node.value.split())


def _lines(text: str) -> Iterator[int]:
    yield sum(NUMBER.fullmatch(word.strip(",;[]-")) is not None for word in text.split())


def _metadata(name: str, text: str) -> list[str]:
    headers = HeaderParser().parsestr(text)
    found = [
        f"{name}: {value}"
        for value in headers.get_all("License-Expression", []) + headers.get_all("Classifier", [])
        if "GPL" in value or "General Public" in value
    ]
    needed = [v for v in headers.get_all("Requires-Dist", []) if "extra ==" not in v]
    return found + [f"{name}: requires {v}" for v in needed if v.lower().startswith("prosail")]


def main() -> int:
    """Audit the wheels that the words name."""
    found = [line for word in sys.argv[1:] for line in audit_wheel(Path(word))]
    print("\n".join(found) or f"{len(sys.argv) - 1} wheel(s): nothing found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
