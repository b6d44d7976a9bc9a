"""A program with holes: Python in which `??` stands for an expression, and the examples that it has to fulfil.

    def area(w, h):
        \"\"\"The area.

        >>> area(2, 3)
        6
        \"\"\"
        return ??

    assert area(1, 5) == 5

Examples are `assert` statements of the module and the doctests of its docstrings.
"""

import ast
import doctest
import io
import re
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from cwm_jax.tracing.source import bound_names
from cwm_jax.tracing.trace import START_MARKER, START_MARKER_PATTERN
from cwm_jax.tracing.wrap import start_name, wrap_call

HOLE = "??"


@dataclass(frozen=True)
class Check:
    """One example.

    Attributes:
      test: an expression that has to be true.
      call: what to evaluate to see whether it is, such as `area(2, 3)`.
      expected: the `repr` that this should have.
    """

    test: str
    call: str
    expected: str


class Shape:
    """A program with holes, taken apart.

    Attributes:
      text: the source with a name in place of every hole.
      holes: these names, in the order of the text.
      tree: its syntax.
      checks: its examples.
    """

    def __init__(self, source: str):
        """Raises ValueError: no hole, no example, a hole that is no expression, or no Python around the holes."""
        source = START_MARKER_PATTERN.sub("", re.sub("\r\n?", "\n", source.removeprefix("\ufeff")))
        places = _places(source)
        if not places:
            raise ValueError(f"the program has no hole; write {HOLE} where an expression is missing")
        stem = next(name for number in range(10**6) if (name := f"hole{number}_") not in source)
        self.holes = tuple(f"{stem}{index}_" for index in range(len(places)))
        self.text = _replaced(source, places, self.holes)
        try:
            self.tree = ast.parse(self.text)
        except (SyntaxError, RecursionError, MemoryError) as error:
            line = getattr(error, "lineno", None)
            raise ValueError(f"the program does not parse, {HOLE} taken as expressions: line {line}: {error}") from None
        loaded = {node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name) and _is_load(node)}
        for name, (row, _) in zip(self.holes, places):
            if name not in loaded:
                raise ValueError(f"line {row}: {HOLE} can stand for an expression only")
        self.checks = (*_asserts(self.tree), *_doctests(self.tree))
        if not self.checks:
            raise ValueError("the program has no example; add a doctest, or `assert f(2) == 4` at its end")
        if any(name in check.test for check in self.checks for name in self.holes):
            raise ValueError(f"an example has a hole itself; write {HOLE} in functions only")

    def filled(self, expressions: Sequence[str]) -> str:
        """The source with these expressions in its holes."""
        return self._with(expressions, self.text)

    def example(self, expressions: Sequence[str], check: Check) -> str:
        """The context that traces the evaluation of one example."""
        return wrap_call(self._with(expressions, self._code), check.call, start=self._start)

    def test(self, expressions: Sequence[str]) -> str:
        """The context whose marked function returns if all examples are fulfilled, and raises if not."""
        body = "".join(f"    assert {check.test}\n" for check in self.checks)
        return f"{self._with(expressions, self._code)}\ndef {self._start}():{START_MARKER}\n{body}"

    def parts(self) -> "list[tuple[tuple[int, ...], Shape]]":
        """The holes in groups that no example connects, as their places and a shape with these holes alone.

        An example depends on the holes of all functions that it may reach; in the others there stands None meanwhile.
        """
        places = [frozenset(self._reached(ast.parse(check.test))) for check in self.checks]
        groups: list[frozenset[int]] = [frozenset({hole}) for hole in range(len(self.holes))]
        for reached in places:
            apart = [group for group in groups if group.isdisjoint(reached)]
            groups = [*apart, reached.union(*(group for group in groups if group not in apart))] if reached else groups
        if len(groups) == 1:
            return [(tuple(range(len(self.holes))), self)]
        return [(tuple(sorted(group)), self._part(group, places)) for group in sorted(groups, key=min)]

    def _part(self, group: frozenset[int], places: list[frozenset[int]]) -> "Shape":
        put = {name: HOLE if hole in group else "None" for hole, name in enumerate(self.holes)}
        part = Shape(_put(self.text, put))
        part.checks = tuple(check for check, reached in zip(self.checks, places) if not reached.isdisjoint(group))
        return part

    def _reached(self, code: ast.AST) -> set[int]:
        """The holes that may matter to what this code does: those of the module, and of what it names in turn."""
        named = {node.name: node for node in self.tree.body if hasattr(node, "body") and hasattr(node, "name")}
        other = [node for node in self.tree.body if node not in named.values() and not isinstance(node, ast.Assert)]
        found, reached, pending = set(), set(), [code, *other]
        while pending:
            names = {part.id for part in ast.walk(pending.pop()) if isinstance(part, ast.Name)}
            found |= {hole for hole, name in enumerate(self.holes) if name in names}
            new = names & set(named) - reached
            reached |= new
            pending += [named[name] for name in new]
        return found

    def _with(self, expressions: Sequence[str], text: str) -> str:
        """The text with these expressions, in brackets where without them it would mean something else."""
        put = {name: f"({expression})" for name, expression in zip(self.holes, expressions)}
        expected = _dump(_put(text, put))
        for name, expression in zip(self.holes, expressions):
            bare = put | {name: expression}
            put = bare if _dump(_put(text, bare)) == expected else put
        return _put(text, put)

    @cached_property
    def _code(self) -> str:
        """The source without the asserts of the module, which would run as it is loaded."""
        lines = self.text.split("\n")
        for node in self.tree.body:
            if isinstance(node, ast.Assert):
                lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
        return "\n".join(lines).rstrip() + "\n"

    @cached_property
    def _start(self) -> str:
        return start_name(bound_names(self.tree.body))


def _places(source: str) -> list[tuple[int, int]]:
    """Line (from 1) and column of each hole, none inside strings and comments."""
    found, before = [], None
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.string == "?" and before == token.start:
                found.append((token.start[0], token.start[1] - 1))
                before = None
            else:
                before = token.end if token.string == "?" else None
    except (tokenize.TokenError, SyntaxError) as error:
        raise ValueError(f"the program does not parse: {error}") from None
    return found


def _replaced(source: str, places: list[tuple[int, int]], names: Sequence[str]) -> str:
    lines = source.split("\n")
    for (row, column), name in reversed(list(zip(places, names))):
        line = lines[row - 1]
        lines[row - 1] = line[:column] + name + line[column + len(HOLE) :]
    return "\n".join(lines)


def _put(text: str, put: dict[str, str]) -> str:
    for name, expression in put.items():
        text = re.sub(rf"\b{name}\b", lambda _: expression, text)
    return text


def _dump(text: str) -> str:
    try:
        return ast.dump(ast.parse(text))
    except SyntaxError:
        return ""


def _is_load(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def _asserts(tree: ast.Module) -> list[Check]:
    tests = [node.test for node in tree.body if isinstance(node, ast.Assert)]
    return [_check(one) for test in tests for one in _conjuncts(test)]


def _conjuncts(test: ast.expr) -> list[ast.expr]:
    return test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]


def _check(test: ast.expr) -> Check:
    match test:
        case ast.Compare(left, [ast.Eq()], [right]):
            try:
                return Check(ast.unparse(test), ast.unparse(left), repr(ast.literal_eval(right)))
            except ValueError:
                pass
    return Check(ast.unparse(test), f"bool({ast.unparse(test)})", "True")


def _doctests(tree: ast.Module) -> list[Check]:
    kinds = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    texts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
    found = []
    for text in filter(None, texts):
        try:
            examples = doctest.DocTestParser().get_examples(text)
            calls = [ast.parse(one.source.strip(), mode="eval").body for one in examples if one.want]
        except (ValueError, SyntaxError):  # not meant as examples, or more than one expression
            continue
        for call, want in zip(calls, (one.want.strip() for one in examples if one.want)):
            source = ast.unparse(call)
            found.append(Check(f"repr({source}) == {want!r}", source, want))
    return found
