"""One Python file as the closure digest sees it: its meaning, what it imports, what data it reads."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from policylens.errors import UserError

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
WITHOUT_MEANING = {"kind", "type_comment", "type_ignores"}
IMPORTING = (ast.Import, ast.ImportFrom, ast.Call)


@dataclass(frozen=True)
class Import:
    """A module that may be imported: dotted parts, and how many dots stood before them."""

    level: int
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A file's digest (comments, formatting and docstrings aside), its imports and its DATA_FILES."""

    digest: str
    imports: tuple[Import, ...]
    data_files: tuple[str, ...]


@cache
def read(path: str, mtime_ns: int, size: int) -> Source:
    """Return what a Python file means; parsed once per process as long as its time and size stay.

    Raises UserError when the file is no valid Python, or its DATA_FILES is not a literal.
    """
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{path}: not valid Python: {error}") from error
    imports = [found for node in ast.walk(tree) if isinstance(node, IMPORTING) for found in _imports(node)]
    meaning = hashlib.sha256("\n".join(_words(tree)).encode("utf-8", "surrogatepass"))
    return Source(meaning.hexdigest(), tuple(dict.fromkeys(imports)), _data_files(tree, path))


def _words(tree: ast.Module) -> Iterator[str]:
    """Spell a syntax tree out in words, without its docstrings.

    Not `ast.dump`: what that prints differs between versions of Python. Fields that are None or empty are
    left out, so that a field which a later version adds changes nothing.
    """
    pending: list[ast.AST | str] = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
            continue
        yield type(item).__name__
        pending.append(")")
        for name in reversed(item._fields):
            pending.extend(reversed(_field(item, name)))


def _field(node: ast.AST, name: str) -> list[ast.AST | str]:
    """Return a node's field as words and the nodes in it; nothing for a field without meaning."""
    value = getattr(node, name, None)
    if name in WITHOUT_MEANING or value is None and not isinstance(node, ast.Constant):
        return []
    if isinstance(value, ast.AST):
        return [name, value]
    if not isinstance(value, list):
        return [f"{name}={value!r}"]
    if name == "body" and isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
        value = value[1:]
    items = [item if isinstance(item, ast.AST) else repr(item) for item in value]
    return [f"{name}[", *items] if items else []


def _imports(node: ast.AST) -> list[Import]:
    """Return the modules that a statement or a call of `import_module("literal")` may import."""
    if isinstance(node, ast.Import):
        return [Import(0, tuple(alias.name.split("."))) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        module = tuple(node.module.split(".")) if node.module else ()
        names = [(alias.name,) for alias in node.names if alias.name != "*"]
        return [Import(node.level, module + name) for name in [(), *names] if module + name or node.level]
    function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    if function == "import_module" and node.args and isinstance(node.args[0], ast.Constant):
        return [Import(0, tuple(str(node.args[0].value).split(".")))]
    return []


def _data_files(tree: ast.Module, path: str) -> tuple[str, ...]:
    """Return the literal value of the module-level DATA_FILES, relative to the module's folder."""
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "DATA_FILES" for target in targets):
            try:
                value = ast.literal_eval(statement.value)
            except (ValueError, TypeError):
                value = None
            if not isinstance(value, tuple) or not all(isinstance(name, str) for name in value):
                raise UserError(f"{path}: DATA_FILES must be a literal tuple of file names")
            return value
    return ()
