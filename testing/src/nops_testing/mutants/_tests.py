"""Which files of tests reach a module of their package, by the imports that the sources state."""

import ast
from functools import cache
from pathlib import Path

FAR = 100


@cache
def imports(path: Path) -> frozenset[tuple[str, str]]:
    """The pairs (module, name) that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {(node.module, alias.name) for alias in node.names}
    return frozenset(found)


def module_name(source: Path, path: Path) -> str:
    """The dotted name of a file of the package whose folder is `source`."""
    parts = path.relative_to(source.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def provider(source: Path, module: str, name: str) -> str:
    """The module that a name comes from: that which a package's `__init__` takes it from."""
    init = source.parent.joinpath(*module.split("."), "__init__.py")
    if not init.exists():
        return module
    if init.with_name(f"{name}.py").exists():
        return f"{module}.{name}"
    return next((m for m, n in sorted(imports(init)) if n == name and m != module), module)


@cache
def distances(source: Path, path: Path) -> dict[str, int]:
    """By module of the package: how many imports lead from it to the file `path`."""
    users: dict[str, set[str]] = {}
    for file in source.rglob("*.py"):
        if file.stem != "__init__":
            for module, name in imports(file):
                users.setdefault(provider(source, module, name), set()).add(
                    module_name(source, file)
                )
    found = {module_name(source, path): 0}
    for module in (queue := list(found)):
        for user in sorted(users.get(module, set()) - found.keys()):
            found[user] = found[module] + 1
            queue.append(user)
    return found


def tests_of(source: Path, path: Path) -> list[str]:
    """Test files of the package that reach the file `path`, nearest first.

    One that imports nothing that reaches it may do so by a fixture, and comes after the others.
    """
    reached = distances(source, path)

    def far(file: Path) -> int:
        named = file.stem.removeprefix("test_") == path.stem.lstrip("_")
        near = min(
            (reached.get(provider(source, *pair), FAR) for pair in imports(file)), default=FAR
        )
        return -1 if named else near

    folder = source.parent.parent / "tests"
    files = sorted(folder.rglob("test_*.py"), key=lambda file: (far(file), file.stat().st_size))
    by_fixture = min(map(far, folder.rglob("conftest.py")), default=FAR) < FAR
    return [file.as_posix() for file in files if by_fixture or far(file) < FAR]
