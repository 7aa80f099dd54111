"""Small wrong changes of a formula, found in the syntax tree of a source file.

Left alone is what computes nothing that a user gets: annotations, decorators, messages, checks that
end in an error, assertions and texts.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
}
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
}
PAIRS = ("mean sum", "min max", "amin amax", "argmin argmax", "minimum maximum", "sin cos")
PAIRS += ("sinh cosh", "exp expm1", "log log1p", "floor ceil", "any all", "square abs", "std var")
PAIRS += ("zeros_like ones_like", "cumsum cumprod", "rfft ihfft", "argsort sort")
NAMES = {a: b for pair in PAIRS for a, b in (pair.split(), reversed(pair.split()))}
# Either order is one value, or an order of words rather than of a formula.
UNORDERED = (
    *("add", "cast", "enumerate", "gcd", "getattr", "hasattr", "hypot", "isclose", "isinstance"),
    *("issubclass", "lcm", "max", "maximum", "min", "minimum", "mul", "replace", "setattr", "zip"),
)
SILENT = ("print", "warn")


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One change: the bytes from `start` to `end` of the file `path` become `after`."""

    path: str
    line: int
    text: str  # of that line, without its indentation
    kind: str
    before: str
    after: str
    start: int
    end: int

    def apply(self, source: bytes) -> bytes:
        """The file's content with the change in it."""
        return source[: self.start] + self.after.encode() + source[self.end :]


def find_mutations(path: str, source: bytes) -> list[Mutation]:
    """All changes that we know for a file, in its order; each leaves a file that compiles."""
    lines = source.split(b"\n")
    starts = [0, *accumulate(len(line) + 1 for line in lines)]
    found = []
    for node in _formulas(ast.parse(source)):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        before = source[start:end].decode()
        for kind, changed in _changes(node):
            text = ast.unparse(changed)
            after = f"({text})" if isinstance(changed, ast.expr) else text
            line = lines[node.lineno - 1].decode().strip()
            place = {"path": path, "line": node.lineno, "text": line, "start": start, "end": end}
            found.append(Mutation(kind=kind, before=before, after=after, **place))
    return found


def _formulas(node: ast.AST) -> Iterator[ast.expr | ast.AugAssign]:
    """The nodes below that may be part of a formula."""
    for child in _children(node):
        if isinstance(child, ast.expr | ast.AugAssign):
            yield child
        yield from _formulas(child)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Raise() | ast.Assert() | ast.JoinedStr():
            return
        case ast.FunctionDef(name=name) if "check" in name:
            return
        case ast.FunctionDef():
            yield from (value for value in node.args.defaults + node.args.kw_defaults if value)
            yield from node.body
        case ast.ClassDef():
            yield from node.body
        case ast.AnnAssign():
            yield from () if node.value is None else (node.value,)
        case ast.If(body=[ast.Raise(), *_]):
            yield from node.orelse
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in SILENT:
            return
        case _:
            yield from ast.iter_child_nodes(node)


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            if not (_is_sequence(left) or _is_sequence(right)):
                yield "operator", ast.BinOp(left, OPERATORS[type(op)](), right)
        case ast.AugAssign(target=target, op=op, value=value) if type(op) in OPERATORS:
            if not _is_sequence(value):
                yield "operator", ast.AugAssign(target, OPERATORS[type(op)](), value)
        case ast.Constant(value=bool()):
            return
        case ast.Constant(value=int() | float() as value):
            changed = value + 1 if isinstance(value, int) else 2 * value or 1.0
            yield "constant", ast.Constant(changed)
        case ast.Compare(left=left, ops=[op, *ops], comparators=comparators):
            for other in COMPARISONS.get(type(op), ()):
                yield "comparison", ast.Compare(left, [other(), *ops], comparators)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield "sign", operand
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "logic", operand
        case ast.BoolOp(op=op, values=values):
            yield "logic", ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
        case ast.Call():
            yield from _changes_of_call(node)


def _changes_of_call(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    func, args = node.func, node.args
    name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
    if isinstance(func, ast.Attribute) and name in NAMES:
        other = ast.Attribute(func.value, NAMES[name], ast.Load())
        yield "function", ast.Call(other, args, node.keywords)
    elif name in ("min", "max", "any", "all"):
        yield "function", ast.Call(ast.Name(NAMES[name], ast.Load()), args, node.keywords)
    plain = len(args) > 1 and not any(isinstance(a, ast.Starred) for a in args[:2])
    if plain and name not in UNORDERED and ast.dump(args[0]) != ast.dump(args[1]):
        yield "order", ast.Call(func, [args[1], args[0], *args[2:]], node.keywords)


def _is_sequence(node: ast.AST) -> bool:
    """Whether it is a text, a list or a tuple: their sums join."""
    text = isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    return text or isinstance(node, ast.JoinedStr | ast.List | ast.Tuple | ast.ListComp)
