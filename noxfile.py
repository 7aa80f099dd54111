"""Sessions of the workspace: `uv run nox -s tests`, `uv run nox -l` for the rest."""

import os
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

import nox

ROOT = Path(__file__).parent
AGGREGATORS = ("torchjd[quadprog-projector]>=0.18,<0.19", "conflictfree>=0.1.8")
QUANTIZERS = ("vector-quantize-pytorch>=1.20", "scikit-learn>=1.4")
# nops-train, whose tests take longest, first.
PACKAGES = sorted((path.name for path in (ROOT / "packages").iterdir()), reverse=True)
APPS = sorted(path.name for path in (ROOT / "apps").iterdir())
MEMBERS = [f"packages/{name}" for name in PACKAGES] + [f"apps/{name}" for name in APPS]
# Oldest Python with the oldest torch whose tests pass, middle, newest.
PAIRS = [("3.11", "2.6.0"), ("3.12", "2.9.1"), ("3.13", "2.15.0")]
(OLDEST, _), MIDDLE, (_, NEWEST_TORCH) = PAIRS
# What each runs: every app from data to report, stopped and gone on with; in testing/, every app under every weighting.
WHOLE_RUNS = [str(path.relative_to(ROOT)) for path in ROOT.glob("apps/*/tests/test_train.py")]
PARTS = dict(zip(PAIRS, (sorted(WHOLE_RUNS), ["testing"], ["packages", "testing"]), strict=True))
WHEELS = ROOT / ".nox" / "wheels"
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
WORKERS = str(os.cpu_count() or 1)

nox.needs_version = ">=2026.10.20"
nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["tests"]


# Processes that the sessions start read compiled files; each would compile its imports anew otherwise.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def widen_pyenv() -> None:
    """Let all of pyenv's interpreters be found, where it puts only one on PATH.

    One may be chosen already: a command that pyenv itself starts, such as uv, runs under it.
    """
    if shutil.which("pyenv"):
        command = ["pyenv", "versions", "--bare", "--skip-aliases"]
        listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        chosen = os.environ.get("PYENV_VERSION", "").split(":")
        os.environ["PYENV_VERSION"] = ":".join(dict.fromkeys(filter(None, chosen + listed.split())))


widen_pyenv()


def install_members(session: nox.Session, *extra: str) -> None:
    editable = [word for member in [*MEMBERS, "testing"] for word in ("-e", member)]
    session.install(*editable, *extra)


@nox.session
@nox.parametrize("python,torch", PAIRS, ids=[f"py{p}-torch{t}" for p, t in PAIRS])
def tests(session: nox.Session, torch: str) -> None:
    """The packages' own on the newest pair, and on each what trains all apps; the rest of those is in `apps`.

    The packages meet the middle pair in `isolated`, and the oldest torch in `minimums`. With words of one's own
    (`nox -s tests -- apps`) each pair runs those.
    """
    install_members(session, f"torch=={torch}", "tensorboard>=2.16")
    usual = PARTS[str(session.python), torch]
    session.run("pytest", "-n", WORKERS, *(session.posargs or usual))


def install_wheel(session: nox.Session, *options: str) -> None:
    """Install from our wheels and the index, as of the workspace's date."""
    newer = ("--exclude-newer", SETTINGS["uv"]["exclude-newer"])
    session.install("--find-links", str(WHEELS), *newer, *options)


def copy_tests(package: str, folder: Path) -> None:
    shutil.rmtree(folder / "tests", ignore_errors=True)
    shutil.copytree(ROOT / "packages" / package / "tests", folder / "tests")
    shutil.copy(ROOT / "pyproject.toml", folder / "pytest_settings.toml")


EXTRAS = {
    "nops-diagnostics": ("nops-diagnostics[alignment]",),
    "nops-schedules": ("nops-schedules[torch]",),
}
IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.startswith("nops_schedules.gradient._"):  # what needs the extra torch
        importlib.import_module(module.name)
"""


def run_isolated(session: nox.Session, package: str, *options: str) -> None:
    """Import and test one package in a folder where no workspace is found."""
    with tempfile.TemporaryDirectory() as name, session.chdir(name):
        install_wheel(session, *options, package)
        module = package.replace("-", "_")
        session.run("python", "-W", "error::ImportWarning", "-c", IMPORT_ALL, module)
        session.run("uv", "pip", "check", external=True)
        install_wheel(session, *options, package, *EXTRAS.get(package, ()), "nops-testing")
        copy_tests(package, Path(name))
        settings = ("-c", "pytest_settings.toml", "--rootdir", name, "-p", "no:cacheprovider")
        workers = "0" if session.parallel else WORKERS
        session.run("pytest", *settings, "-n", workers, "tests")


@nox.session(python=MIDDLE[0], requires=["wheels"], allow_parallel=True)
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def isolated(session: nox.Session, package: str) -> None:
    """One package from its wheel in an empty environment: imports alone, then passes its tests."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        print(f"torch=={MIDDLE[1]}", file=file, flush=True)
        run_isolated(session, package, "--constraint", file.name)


@nox.session(python=OLDEST, requires=["wheels"], allow_parallel=True)
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def minimums(session: nox.Session, package: str) -> None:
    """As `isolated`, with the lowest version of every direct dependency."""
    run_isolated(session, package, "--resolution", "lowest-direct")


def files_marked(name: str) -> list[str]:
    """The test files with a marker (the folder, for a `conftest.py`): a session collects these alone."""
    found = (
        path for member in [*MEMBERS, "testing"] for path in (ROOT / member / "tests").rglob("*.py")
    )
    places = {
        path.parent if path.name == "conftest.py" else path
        for path in found
        if f"mark.{name}" in path.read_text()
    }
    return sorted(str(path.relative_to(ROOT)) for path in places)


@nox.session(python=OLDEST, allow_parallel=True)
def peers(session: nox.Session) -> None:
    """Our files, metrics, physics, quantizers and rules on gradients against independent packages."""
    others = ("the-well>=1.2", "prosail>=2.0", "cutde>=23.6.25", *QUANTIZERS, *AGGREGATORS)
    install_members(session, *others, f"torch=={NEWEST_TORCH}")
    session.run("pytest", "-m", "peer", *files_marked("peer"), "-n", "0", *session.posargs)


@nox.session(venv_backend="none")
def apps(session: nox.Session) -> None:
    """The apps' own tests, in one environment; annotations are checked where `testing` trains them."""
    unchecked = {"JAXTYPING_DISABLE": "1"}
    session.run("pytest", "-n", WORKERS, *(session.posargs or ["apps"]), env=unchecked)


@nox.session(venv_backend="none")
def faults(session: nox.Session) -> None:
    """Real runs killed, filled up, damaged and poisoned, and what takes long: once, in one environment."""
    workers = ("-n", WORKERS, "--dist", "worksteal")  # a few of them take a minute
    limit = ("--timeout", "900")  # seconds; many start processes, one after the other
    session.run("pytest", "-m", "fault", *files_marked("fault"), *workers, *limit, *session.posargs)


@nox.session(venv_backend="none")
def nightly(session: nox.Session) -> None:
    """What takes minutes: training in full, and fits to all of the measured data."""
    limit = ("--timeout", "3600")
    session.run("pytest", "-m", "nightly", "apps", "packages", "-n", "0", *limit, *session.posargs)


@nox.session(venv_backend="none")
def mutants(session: nox.Session) -> None:
    """Formulas broken one by one: a test must go red for 95 %. Before a release, not with each change."""
    session.run("python", "-m", "nops_testing.mutants", *session.posargs)


@nox.session(venv_backend="none", allow_parallel=True)
def lint(session: nox.Session) -> None:
    """Ruff: rules and format."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(venv_backend="none", allow_parallel=True)
def types(session: nox.Session) -> None:
    """Pyright over all sources."""
    session.run("pyright")


@nox.session(venv_backend="none", allow_parallel=True)
def imports(session: nox.Session) -> None:
    """Who may import whom."""
    session.run("lint-imports", "--no-cache")


@nox.session(venv_backend="none")
def wheels(session: nox.Session) -> None:
    """The workspace's source archives, and all wheels built from those.

    None holds copyleft code, or a table of measured constants.
    """
    shutil.rmtree(WHEELS, ignore_errors=True)
    session.run("uv", "build", "--all-packages", "-q", "-o", str(WHEELS), external=True)
    built = sorted(WHEELS.glob("*.whl"))
    for wheel in built:
        session.run("python", "-m", "nops_testing.wheels", str(wheel))
    archives = {path.name.removesuffix(".tar.gz") for path in WHEELS.glob("*.tar.gz")}
    assert archives == {"-".join(path.name.split("-")[:2]) for path in built}, archives
    assert len(built) >= len(MEMBERS), built


@nox.session(venv_backend="none", allow_parallel=True)
def docs(session: nox.Session) -> None:
    """The site, strictly, and every example of the docs and the READMEs, executed."""
    session.run("mkdocs", "build", "--strict", "-q", env={"NO_MKDOCS_2_WARNING": "1"})
    pages = ("docs/check_examples.py", "docs/check_pages.py", "docs/check_notebooks.py")
    session.run("pytest", *pages, "-n", WORKERS, "-q")


@nox.session(venv_backend="none")
def notebooks(session: nox.Session) -> None:
    """Every notebook (or those named), executed in a folder of its own; fails at the first error."""
    names = session.posargs or sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    for name in names:
        execute(session, ROOT / "notebooks" / f"{name}.ipynb")


def execute(session: nox.Session, notebook: Path) -> None:
    """Run all cells of a copy, each at most ten minutes; one of them has to show a figure."""
    limits = ("--timeout=600", "--startup_timeout=300")  # a busy machine starts slowly
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(notebook, folder))
        session.run("jupyter-execute", "--inplace", *limits, str(copy))
        if '"image/png"' not in copy.read_text():
            session.error(f"{notebook.name} shows no figure")


@nox.session(venv_backend="none")
def gallery(session: nox.Session) -> None:
    """Every figure of the docs drawn anew, from default runs (`-- --runs DIR`: those there go on)."""
    session.run("python", "docs/gallery.py", *session.posargs)


@nox.session(python=OLDEST)
def bench(session: nox.Session) -> None:
    """Every benchmark script (or those named), one after the other; fails when a bar is missed."""
    others = ("the-well>=1.2", "prosail>=2.0", *QUANTIZERS, *AGGREGATORS)
    install_members(session, *others, f"torch=={NEWEST_TORCH}")
    names = session.posargs or sorted(
        path.stem for path in (ROOT / "benchmarks").glob("bench_*.py")
    )
    missed = [name for name in names if not passes(session, name)]
    if missed:
        session.error(f"failed or bar missed: {', '.join(missed)}")


def passes(session: nox.Session, name: str) -> bool:
    try:
        session.run("python", f"benchmarks/{name}.py")
    except nox.command.CommandFailed:
        return False
    return True


@nox.session(venv_backend="none")
def gpu(session: nox.Session) -> None:
    """Tests that need a CUDA device; each skips, saying so, where there is none."""
    session.run("pytest", "-m", "gpu", "-n", "0", *session.posargs)
