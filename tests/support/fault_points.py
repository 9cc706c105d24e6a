"""The operator's write points, read from its source: every call that changes something on the API server or on S3.

A point is what a proxy sees of it, e.g. ``create jobs`` or ``put plan``. A write that is new in the code is a new
point by itself; one that cannot be read from the code is an error, so that none goes untested.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pdfjob_operator

SOURCE: Final = Path(pdfjob_operator.__file__).parent
ELSEWHERE: Final = frozenset({"uninstall.py", "lease.py", "storage/kubernetes.py", "storage/s3.py"})
"""Not writes of the work on PdfJobs: the uninstall hook is a process of its own, the Lease has its own tests
(tests/e2e/test_leadership.py), and storage/ defines the verbs."""
_CLUSTER: Final = {
    "create": "create {}",
    "replace": "replace {}",
    "replace_status": "patch {}/status",
    "set_finalizers": "patch {}",
    "delete": "delete {}",
    "delete_all": "deletecollection {}",
    "create_event": "create events",
}
"""Writing methods of `storage.kubernetes.Cluster`, as seen on the wire; the first argument is the kind."""
_STORE: Final[dict[str, tuple[int | None, str | None]]] = {
    "put": (0, "put {}"),
    "upload": (1, "put {}"),
    "copy": (1, "put {}"),
    "delete": (0, "delete {}"),
    "delete_prefix": (0, "delete {}"),
    "create_bucket": (None, "create_bucket bucket"),
    "delete_older": (None, None),
}
"""Writing methods of `storage.s3.ObjectStore`: which argument is the key, and how it is seen on the wire. The sweep of
the cache by age is no work on a PdfJob: what it leaves, the next one takes."""


_Function = ast.FunctionDef | ast.AsyncFunctionDef


class UnreadableWriteError(Exception):
    """A write is in the code of which one cannot say what it writes."""


@dataclass
class _Reader:
    """The functions of all modules, to follow arguments through them."""

    modules: dict[str, ast.Module]
    functions: dict[str, list[_Function]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, module in self.modules.items():
            self.functions[name] = [node for node in ast.walk(module) if isinstance(node, _Function)]
        self._calls = {
            function: [node for node in ast.walk(function) if isinstance(node, ast.Call)]
            for functions in self.functions.values()
            for function in functions
        }

    def points(self) -> Iterator[tuple[str, str]]:
        """Yield each write point and where it is."""
        for name, functions in self.functions.items():
            for function in functions:
                for call in self._calls[function]:
                    where = f"{name}:{call.lineno}"
                    for point in self._points_of(call, function, where):
                        yield point, where

    def _points_of(self, call: ast.Call, function: _Function, where: str) -> Iterator[str]:
        target = call.func
        if not isinstance(target, ast.Attribute):
            return
        owner = _last_name(target.value)
        if owner == "cluster" and target.attr in _CLUSTER:
            form = _CLUSTER[target.attr]
            kinds = self._values(call.args[0], function, where) if "{}" in form else {""}
            yield from (form.format(kind.lower()) for kind in kinds)
        elif owner == "store" and target.attr in _STORE:
            place, seen = _STORE[target.attr]
            if seen is not None:
                keys = {""} if place is None else self._values(call.args[place], function, where)
                yield from (seen.format(key) for key in keys)

    def _values(self, node: ast.expr, function: _Function, where: str) -> set[str]:
        """Return what an argument can be: a constant's name, a key's name, or whatever a variable was given."""
        if isinstance(node, ast.Call):
            return self._values(node.func, function, where)
        if isinstance(node, ast.Attribute):
            return {node.attr}
        if isinstance(node, ast.Name) and node.id.isupper():
            return {node.id}
        if isinstance(node, ast.IfExp):
            return self._values(node.body, function, where) | self._values(node.orelse, function, where)
        if not isinstance(node, ast.Name):
            raise UnreadableWriteError(f"{where}: {ast.unparse(node)}")
        given = list(_assigned(function, node.id))
        if given:
            return {value for expression in given for value in self._values(expression, function, where)}
        parameters = [argument.arg for argument in function.args.args if argument.arg != "self"]
        if node.id not in parameters:
            raise UnreadableWriteError(f"{where}: {node.id}")
        return self._from_callers(function.name, node.id, parameters.index(node.id), where)

    def _from_callers(self, name: str, parameter: str, place: int, where: str) -> set[str]:
        found: set[str] = set()
        for caller, calls in self._calls.items():
            for call in calls:
                if _last_name(call.func) == name:
                    named = [word.value for word in call.keywords if word.arg == parameter]
                    found |= self._values(named[0] if named else call.args[place], caller, where)
        if not found:
            raise UnreadableWriteError(f"{where}: nobody calls {name}")
        return found


def _calls(function: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(function) if isinstance(node, ast.Call))


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _assigned(function: ast.AST, name: str) -> Iterator[ast.expr]:
    """Yield what a variable of a function is given."""
    for node in ast.walk(function):
        pairs: list[tuple[ast.expr, ast.expr]] = []
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                pairs = list(zip(targets, values, strict=True))
            case ast.Assign(targets=targets, value=value):
                pairs = [(target, value) for target in targets]
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                pairs = [(target, value)]
            case ast.For(target=target, iter=ast.Tuple(elts=values)):
                pairs = [(target, value) for value in values]
        yield from (value for target, value in pairs if isinstance(target, ast.Name) and target.id == name)


def write_points(source: Path = SOURCE) -> dict[str, list[str]]:
    """Return the write points of the operator, each with the places in the code.

    Raises
    ------
    UnreadableWriteError
    """
    names = [path.relative_to(source).as_posix() for path in sorted(source.rglob("*.py"))]
    modules = {name: ast.parse((source / name).read_text()) for name in names if name not in ELSEWHERE}
    found: dict[str, list[str]] = {}
    for point, where in _Reader(modules).points():
        if where not in found.setdefault(point, []):
            found[point].append(where)
    return dict(sorted(found.items()))


def writing_methods(module: str, receiver: str, reads: frozenset[str], source: Path = SOURCE) -> set[str]:
    """Return the public methods of a storage module that write, as its own code tells.

    Parameters
    ----------
    receiver
        Name of the private method that makes the requests; its first argument says what is done.
    reads
        First arguments that change nothing.
    """
    tree = ast.parse((source / module).read_text())
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, _Function)}
    writing = {
        name
        for name, function in functions.items()
        for call in _calls(function)
        if _last_name(call.func) == receiver
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and call.args[0].value not in reads
    }
    while more := {
        name
        for name, function in functions.items()
        if name not in writing
        and any(_last_name(call.func) in writing & _private(functions) for call in _calls(function))
    }:
        writing |= more
    return {name for name in writing if not name.startswith("_")}


def _private(functions: dict[str, _Function]) -> set[str]:
    return {name for name in functions if name.startswith("_")}


CLUSTER_VERBS: Final = frozenset(_CLUSTER)
STORE_VERBS: Final = frozenset(_STORE)
