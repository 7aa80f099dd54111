"""Tests in a fork of this process, against a package in a folder of ours, with a limit on hanging."""

import importlib.util
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

MEMORY = 12 << 30  # bytes; a size that a change has made huge must not take the machine down


class _Teller:
    """A pytest plugin that tells on a pipe what begins and what fails, and whose code was tested."""

    def __init__(self, pipe: int, package: str, folder: Path) -> None:
        self.pipe, self.package, self.folder = pipe, package, folder

    def tell(self, what: str, name: str) -> None:
        os.write(self.pipe, json.dumps([what, name]).encode() + b"\n")

    def pytest_sessionstart(self) -> None:
        found = importlib.util.find_spec(self.package)
        assert found is not None
        assert found.origin == str(self.folder / self.package / "__init__.py"), found.origin

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.tell("begins", nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.tell("failed", report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.tell("failed" if report.failed else "begins", report.nodeid)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        strangers = [
            module.__file__
            for name, module in list(sys.modules.items())
            if name.split(".")[0] == self.package
            and not str(module.__file__).startswith(str(self.folder))
        ]
        self.tell("ends", str(int(exitstatus)) if not strangers else f"tested {strangers[0]}")


def run_tests(tests: Sequence[str], *, package: str, folder: Path, limit: float) -> tuple[str, str]:
    """`survived`, or `killed` and the first test that failed, or `hung` and the one that did.

    The name is empty where it ended or hung before the first.

    Args:
        tests: Files or node ids, from the working folder.
        package: Import name of the package that must come from `folder`.
        folder: Where it lies.
        limit: Seconds without news after which a test counts as hanging.

    Raises:
        RuntimeError: If pytest found nothing to run, or other code than that in `folder` ran.
    """
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.close(reader)
        _become_tests(tests, _Teller(writer, package, folder))
    os.close(writer)
    try:
        return _follow(reader, limit)
    finally:
        os.close(reader)
        _end(child)


def _follow(reader: int, limit: float) -> tuple[str, str]:
    """What the news say; a process that ends without a last word was killed by its last test."""
    last = ""
    for what, name in _news(reader, limit):
        if what == "failed":
            return "killed", name
        if what == "silent":
            return "hung", last
        if what == "ends":
            if name not in ("0", "5"):
                raise RuntimeError(f"pytest ended with {name} after {last}")
            return "survived", ""
        last = name or last
    return "killed", last


def _news(reader: int, limit: float) -> Iterator[tuple[str, str]]:
    kept = b""
    while True:
        if not select.select([reader], [], [], limit)[0]:
            yield "silent", ""
        if not (some := os.read(reader, 65536)):
            return
        *lines, kept = (kept + some).split(b"\n")
        yield from (tuple(json.loads(line)) for line in lines)


def _end(child: int) -> None:
    """Stop what is left of the fork: the processes that its tests have started, too."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _become_tests(tests: Sequence[str], teller: _Teller) -> None:
    """Run pytest in this process, which ends with it."""
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        silent = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(silent, stream)
        sys.dont_write_bytecode = False  # the next fork reads what this one has compiled
        sys.path.insert(0, str(teller.folder))
        os.environ["PYTHONPATH"] = str(teller.folder)  # for processes that tests start
        for name in [n for n in sys.modules if n.split(".")[0].startswith("nops_")]:
            del sys.modules[name]  # pytest wants to import its plugins, of which we are one, itself
        pytest.main([*tests, "-x", "-q", "-n", "0", "-p", "no:cacheprovider"], plugins=[teller])
    finally:
        os._exit(0)
