"""What is in a checkpoint, an export or a run folder. Nothing in a file is ever executed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nops_train._checkpoint import SCHEMA, CheckpointError, sha256_of
from nops_train._checkpoint_folder import BEST, CheckpointFolder
from nops_train._checkpoint_weights import WEIGHTS
from nops_train._command_line_help import console
from nops_train._errors import CheckFailed, InputError
from nops_train._events import read_record
from nops_train._tool_runs import describe, spell

Row = tuple[str, tuple[int, ...], str]
"""Name, shape, type."""


def inspect_path(path: Path) -> None:
    """Print what a checkpoint, a safetensors file, an export's folder or a run folder holds.

    Raises:
        InputError: If there is nothing of the kind, or a file is damaged or refused.
        CheckFailed: If a checkpoint of a run is damaged.
    """
    if (path / WEIGHTS).is_file():
        path = path / WEIGHTS
    if path.suffix == ".safetensors":
        _inspect_safetensors(path)
    elif path.is_file():
        _inspect_checkpoint(path)
    elif (path / "config.yaml").is_file():
        _inspect_run(path)
    else:
        found = "a folder without config.yaml" if path.is_dir() else "nothing"
        raise InputError(f"{path}: found {found}, expected a checkpoint, an export or a run folder")


def _inspect_run(path: Path) -> None:
    out = console()
    run = describe(path, path)
    out.print(
        f"{path}: {run.state}, epoch {run.epochs}, step {run.step}, {spell(run.age)} ago",
        soft_wrap=True,
    )
    folder = CheckpointFolder(path / "checkpoints")
    for problem in folder.problems:
        out.print(problem, soft_wrap=True)
    bad = []
    for name, entry in folder.entries.items():
        verdict = _verdict(folder, name)
        bad += [name] if verdict.startswith("damaged") else []
        where = f"epoch {entry.epoch}, batch {entry.batch}, step {entry.step}"
        past = ", left behind" if entry.superseded else ""
        out.print(f"  {name:<16}  {where}, {entry.bytes:,} bytes, {verdict}{past}", soft_wrap=True)
    good = [name for name in folder.entries if name not in bad]
    if good:
        _inspect_checkpoint(folder.path / (BEST if BEST in good else good[-1]))
    if bad:
        raise CheckFailed(f"{path}: damaged: {', '.join(bad)}")


def _verdict(folder: CheckpointFolder, name: str) -> str:
    try:
        folder.load(name)
    except CheckpointError as error:
        return f"damaged: {error}"
    return "sum agrees" if folder.entries[name].sha256 else "CRC-32 sums inside agree"


def _inspect_checkpoint(path: Path) -> None:
    folder = CheckpointFolder(path.parent)
    state = folder.load(path.name)
    entry = folder.entries.get(path.name)
    listed = entry is not None and entry.sha256 is not None
    sums = "SHA-256 agrees with manifest.json" if listed else "CRC-32 sums inside agree"
    facts = {"file": f"{path}, {path.stat().st_size:,} bytes", "sums": sums, **_facts(state)}
    _print_facts(facts)
    if isinstance(config := state.get("config"), Mapping):
        _print_config(config)
    has_model = "schema" in state and isinstance(state.get("model"), Mapping)
    _print_tensors("model" if has_model else "tensors", state["model"] if has_model else state)


def _facts(state: Mapping[str, Any]) -> dict[str, str]:
    if "schema" not in state:
        return {"layout": "no checkpoint of the engine", "keys": ", ".join(map(str, state))}
    best = state["train"]["best"] if "train" in state else None
    parts = {k: sum(1 for _ in _tensors(v)) for k, v in state.items() if isinstance(v, Mapping)}
    return {
        "layout": f"schema {state['schema']} (this version writes {SCHEMA})",
        "position": _words(state.get("position", {})),
        "versions": _words(state.get("versions", {})),
        "data": _words(state.get("fingerprint", {})) or "no fingerprint",
        "best": f"{best['metric']} {best['value']:.6g}, epoch {best['epoch']}" if best else "none",
        "tensors": ", ".join(f"{name} {count}" for name, count in parts.items() if count),
    }


def _inspect_safetensors(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            rows = [(n, tuple(s.get_shape()), s.get_dtype()) for n, s in slices.items()]
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged, or no safetensors file: {error}") from error
    about = read_record(path.with_name("config.json"))
    facts = {"file": f"{path}, {path.stat().st_size:,} bytes", "sums": _check_sum(path, about)}
    for key in ("checkpoint", "position", "metrics", "versions"):
        if value := about.get(key):
            facts[key] = _words(value) if isinstance(value, Mapping) else str(value)
    _print_facts(facts)
    if isinstance(config := about.get("config"), Mapping):
        _print_config(config)
    _print_rows("model", rows)


def _check_sum(path: Path, about: Mapping[str, Any]) -> str:
    expected = about.get("sha256")
    if expected is None:
        return "none to compare with"
    found = sha256_of(path)
    if found != expected:
        raise CheckpointError(
            f"{path}: damaged: SHA-256 is {found[:12]}…, config.json says {expected[:12]}…"
        )
    return "SHA-256 agrees with config.json"


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _print_facts(facts: Mapping[str, str]) -> None:
    out = console()
    for name, text in facts.items():
        out.print(f"{name:<10}  {text}", soft_wrap=True)


def _print_config(config: Mapping[str, Any]) -> None:
    """A line per section of the configuration."""
    out = console()
    out.print("config")
    for name, value in config.items():
        text = _words(value) if isinstance(value, Mapping) else str(value)
        out.print(f"  {name}: {text}", soft_wrap=True)


def _print_tensors(title: str, values: Any) -> None:
    rows = [(n, tuple(t.shape), str(t.dtype).removeprefix("torch.")) for n, t in _tensors(values)]
    _print_rows(title, rows)


def _print_rows(title: str, rows: list[Row]) -> None:
    out = console()
    out.print(f"{title}: {sum(map(_numel, rows)):,} numbers in {len(rows)} tensors")
    for name, shape, kind in rows:
        size = " × ".join(map(str, shape)) or "scalar"
        out.print(f"  {name}  {size}  {kind}", soft_wrap=True)


def _numel(row: Row) -> int:
    count = 1
    for length in row[1]:
        count *= length
    return count


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors in nested containers with dotted names."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _tensors(item, f"{name}[{index}]")
