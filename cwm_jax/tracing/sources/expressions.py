"""Typed expressions of built-in types, drawn at random: calls of their methods, comprehensions, slices, conditions.

Kinds are `int`, `str`, `list` (of integers), `words` (a list of strings) and `dict` (strings to integers).
"""

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from cwm_jax.tracing.sources import values

KINDS = ("int", "str", "list", "words", "dict")
_NAMERS = {"int": "int", "str": "str", "list": "list", "words": "list", "dict": "dict"}
_PUNCTUATION = " ,.-_!:"


@dataclass
class Scope:
    """The variables that are bound at this point of the function, each with its kind."""

    rng: Random
    name: values.Namer
    kinds: dict[str, str] = field(default_factory=dict)

    def names(self, kind: str) -> list[str]:
        return [name for name, its in self.kinds.items() if its == kind]

    def bind(self, kind: str, namer: str = "") -> str:
        name = self.name(namer or _NAMERS[kind])
        self.kinds[name] = kind
        return name

    def inner(self) -> "Scope":
        return Scope(self.rng, self.name, dict(self.kinds))


def _text(rng: Random) -> str:
    """A word, or a few with something between, in any case, perhaps with digits."""
    parts = [values.word(rng, 6) for _ in range(rng.choice((1, 1, 2, 3)))]
    text = rng.choice((" ", " ", ",", "-", "_")).join(parts)
    text = rng.choice((str, str, str, str.title, str.upper, str.capitalize))(text)
    if rng.random() < 0.2:
        text += str(rng.randint(0, 99))
    return f" {text} " if rng.random() < 0.07 else text


def value(rng: Random, kind: str) -> object:
    """A small value of a kind, such as an argument."""
    if kind == "int":
        return rng.randint(-3, 12)
    if kind == "str":
        return _text(rng)
    if kind == "list":
        return [rng.randint(-5, 20) for _ in range(rng.randint(0 if rng.random() < 0.1 else 1, 6))]
    words = [values.word(rng, 4) for _ in range(rng.randint(1, 4))]
    return words if kind == "words" else {word: rng.randint(0, 9) for word in words}


def _letter(scope: Scope) -> str:
    """A short literal, or a text that is at hand."""
    rng = scope.rng
    texts = scope.names("str")
    if texts and rng.random() < 0.2:
        return rng.choice(texts)
    return repr(rng.choice(values.LETTERS) if rng.random() < 0.6 else rng.choice(_PUNCTUATION))


def atom(scope: Scope, kind: str) -> str:
    """A variable of a kind, or a literal where there is none, now and then where there is."""
    rng, names = scope.rng, scope.names(kind)
    if names and rng.random() < 0.85:
        return rng.choice(names)
    if kind in ("str", "int"):
        return repr(values.word(rng, 3)) if kind == "str" else str(rng.randint(0, 5))
    return repr(value(rng, kind))


def expression(scope: Scope, kind: str, depth: int = 0) -> str:
    """An expression of a kind, of at most two calls one in the other; of a few the first that reads a variable."""
    for _ in range(4):
        choices = _EXPRESSIONS[kind](scope, lambda other: operand(scope, other, depth))
        text = scope.rng.choice(choices)()
        if not scope.kinds.keys().isdisjoint(re.findall(r"\w+", text)):
            break
    return text


def operand(scope: Scope, kind: str, depth: int = 0) -> str:
    """A variable, a literal or an expression, in brackets where something may follow."""
    if depth or scope.rng.random() < 0.75:
        return atom(scope, kind)
    text = expression(scope, kind, depth + 1)
    return f"({text})" if isinstance(ast.parse(text, mode="eval").body, ast.BinOp) else text


def _loop_names(scope: Scope) -> list[str]:
    """Two names for the loop of a comprehension, which bind nothing outside it."""
    return scope.rng.sample([name for name in values.NAMES["loop"] if name not in scope.kinds], 2)


_Of = Callable[[str], str]  # an operand of a kind
_Choices = tuple[Callable[[], str], ...]  # ways to write an expression, of which one is drawn


def _int(scope: Scope, of: _Of) -> _Choices:
    rng, sized = scope.rng, scope.rng.choice(("str", "list", "words", "dict"))
    one, _ = _loop_names(scope)
    return (
        lambda: f"len({of(sized)})",
        lambda: f"{atom(scope, 'str')}.count({_letter(scope)})",
        lambda: f"{atom(scope, 'str')}.{rng.choice(('find', 'rfind'))}({_letter(scope)})",
        lambda: f"{atom(scope, 'list')}.count({of('int')})",
        lambda: f"sum({of('list')})",
        lambda: f"{rng.choice(('max', 'min'))}({of('int')}, {of('int')})",
        lambda: f"{atom(scope, 'dict')}.get({atom(scope, 'str')}, {rng.randint(-1, 1)})",
        lambda: f"sum({atom(scope, 'dict')}.values())",
        lambda: f"{of('int')} {rng.choice(('+', '-', '*'))} {atom(scope, 'int')}",
        lambda: f"{of('int')} {rng.choice(('%', '//'))} {rng.randint(2, 5)}",
        lambda: f"abs({of('int')})",
        lambda: f"ord({atom(scope, 'str')}[0])",
        lambda: f"{atom(scope, 'list')}[{rng.choice((0, -1, 1))}]",
        lambda: f"sum(1 for {one} in {atom(scope, 'str')} if {one}.{rng.choice(_TESTS)}())",
    )


_PADDING = ("ljust", "rjust", "center")
_TESTS = ("isdigit", "isalpha", "isupper", "islower", "isspace", "isalnum")
_CASES = ("upper", "lower", "title", "capitalize", "swapcase", "strip", "lstrip", "rstrip")


def _str(scope: Scope, of: _Of) -> _Choices:
    rng = scope.rng
    one, _ = _loop_names(scope)
    return (
        lambda: f"{of('str')}.{rng.choice(_CASES)}()",
        lambda: f"{of('str')}.{rng.choice(_CASES)}()",
        lambda: f"{of('str')}.replace({_letter(scope)}, {_letter(scope)})",
        lambda: f"{of('str')}.replace({_letter(scope)}, '')",
        lambda: f"{_letter(scope)}.join({of('words')})",
        lambda: f"''.join({of('words')})",
        lambda: f"{of('str')} + {of('str')}",
        lambda: f"{atom(scope, 'str')}[{_slice(rng)}]",
        lambda: f"{atom(scope, 'str')}[{_slice(rng)}]",
        lambda: f"str({of('int')})",
        lambda: f"{atom(scope, 'str')} * {rng.randint(2, 3)}",
        lambda: f"{of('str')}.{rng.choice(_PADDING)}({rng.randint(4, 10)}, {rng.choice(_PUNCTUATION)!r})",
        lambda: f"{atom(scope, 'str')}.zfill({rng.randint(3, 8)})",
        lambda: f"{atom(scope, 'str')}.{rng.choice(('removeprefix', 'removesuffix', 'strip'))}({_letter(scope)})",
        lambda: f"{atom(scope, 'words')}[{rng.choice((0, -1))}]",
        lambda: f"{atom(scope, 'str')}.partition({_letter(scope)})[{rng.choice((0, 2))}]",
        lambda: f"''.join(sorted({of('str')}))",
        lambda: f"''.join(reversed({of('str')}))",
        lambda: _formatted(scope),
        lambda: f"''.join({one} for {one} in {of('str')} if {_test(scope, one)})",
        lambda: f"''.join({one}.upper() if {_test(scope, one)} else {one} for {one} in {of('str')})",
    )


def _formatted(scope: Scope) -> str:
    """An f-string of one or two variables."""
    rng = scope.rng
    parts = [f"{{{name}}}" for name in rng.sample(list(scope.kinds), min(len(scope.kinds), rng.randint(1, 2)))]
    return 'f"' + rng.choice(_PUNCTUATION).join((rng.choice(("", "", values.word(rng, 3))), *parts)) + '"'


def _test(scope: Scope, name: str) -> str:
    """A condition on one letter."""
    rng = scope.rng
    if rng.random() < 0.5:
        return f"{'not ' if rng.random() < 0.3 else ''}{name}.{rng.choice(_TESTS)}()"
    return rng.choice((f"{name} != {_letter(scope)}", f"{name} in {atom(scope, 'str')}", f"{name} not in 'aeiou'"))


def _slice(rng: Random) -> str:
    return rng.choice(
        ("::-1", "::2", "1:", ":-1", "1:-1", f":{rng.randint(1, 4)}", f"{rng.randint(1, 3)}:", "-2:", "1::2")
    )


def _list(scope: Scope, of: _Of) -> _Choices:
    rng = scope.rng
    one, _ = _loop_names(scope)
    return (
        lambda: f"sorted({of('list')}{rng.choice(('', '', ', reverse=True'))})",
        lambda: f"{of('list')} + {of('list')}",
        lambda: f"{atom(scope, 'list')}[{_slice(rng)}]",
        lambda: f"[{one} {rng.choice(('+', '*', '-'))} {rng.randint(1, 3)} for {one} in {of('list')}]",
        lambda: f"[{one} for {one} in {of('list')} if {one} {rng.choice(('>', '<', '!=', '=='))} {of('int')}]",
        lambda: f"[{one} for {one} in {of('list')} if {one} % 2 == {rng.randrange(2)}]",
        lambda: f"list(range({rng.randint(2, 6)}))",
        lambda: f"[len({one}) for {one} in {of('words')}]",
        lambda: f"list({atom(scope, 'dict')}.values())",
        lambda: f"[{of('int')}, {of('int')}]",
        lambda: f"sorted(set({of('list')}))",
        lambda: f"list(reversed({of('list')}))",
        lambda: f"[ord({one}) for {one} in {atom(scope, 'str')}]",
    )


def _words(scope: Scope, of: _Of) -> _Choices:
    rng = scope.rng
    one, _ = _loop_names(scope)
    return (
        lambda: f"{of('str')}.split()",
        lambda: f"{of('str')}.split({_letter(scope)})",
        lambda: f"{atom(scope, 'str')}.{rng.choice(('split', 'rsplit'))}({_letter(scope)}, 1)",
        lambda: f"list({of('str')})",
        lambda: f"sorted({of('words')})",
        lambda: f"sorted({of('words')}, key=len)",
        lambda: f"[{one}.{rng.choice(_CASES)}() for {one} in {of('words')}]",
        lambda: f"[{one} for {one} in {of('words')} if {_test(scope, one)}]",
        lambda: f"list({atom(scope, 'dict')}{rng.choice(('', '.keys()'))})",
        lambda: f"{atom(scope, 'words')}[{_slice(rng)}]",
        lambda: f"{of('words')} + [{of('str')}]",
        lambda: f"[str({one}) for {one} in {of('list')}]",
        lambda: f"sorted(set({of('str')}))",
    )


def _dict(scope: Scope, of: _Of) -> _Choices:
    rng = scope.rng
    one, other = _loop_names(scope)
    return (
        lambda: f"{{{one}: {atom(scope, 'str')}.count({one}) for {one} in {atom(scope, 'str')}}}",
        lambda: f"{{{one}: len({one}) for {one} in {of('words')}}}",
        lambda: f"dict(zip({of('words')}, {of('list')}))",
        lambda: f"dict.fromkeys({of('words')}, {rng.randint(0, 2)})",
        lambda: f"{{{one}: {other} for {one}, {other} in {of('dict')}.items() if {other} {rng.choice('<>')} 3}}",
        lambda: f"{{{one}: {other} + {of('int')} for {one}, {other} in {of('dict')}.items()}}",
        lambda: f"{{{one}: {other} for {other}, {one} in enumerate({of('words')})}}",
        lambda: f"dict(sorted({of('dict')}.items()))",
        lambda: f"{atom(scope, 'dict')}.copy()",
        lambda: "{}",
    )


_EXPRESSIONS = {"int": _int, "str": _str, "list": _list, "words": _words, "dict": _dict}


def condition(scope: Scope) -> str:
    """What an `if` asks."""
    rng = scope.rng
    choices = [
        lambda: f"{expression(scope, 'int')} {rng.choice(('<', '>', '==', '>=', '!='))} {atom(scope, 'int')}",
        lambda: f"{_letter(scope)} {rng.choice(('in', 'not in'))} {atom(scope, 'str')}",
        lambda: f"{atom(scope, 'str')}.{rng.choice(_TESTS)}()",
        lambda: f"{atom(scope, 'str')}.{rng.choice(('startswith', 'endswith'))}({_letter(scope)})",
    ]
    if scope.names("list"):
        choices.append(lambda: f"{atom(scope, 'int')} in {rng.choice(scope.names('list'))}")
    if scope.names("dict"):
        choices.append(lambda: f"{atom(scope, 'str')} in {rng.choice(scope.names('dict'))}")
    some = [name for kind in ("str", "list", "words", "dict") for name in scope.names(kind)]
    if some:
        choices.append(lambda: f"{rng.choice(('', 'not '))}{rng.choice(some)}")
    return rng.choice(choices)()
