"""The methods family: short functions that put the methods of strings, lists and dictionaries to use.

What the composed family is to control flow, this is to built-in types: most of what short functions of real code do is
call a few of their methods on an argument, often in a loop that builds a result. Expressions are typed and nested at
most twice. Some runs raise, as a value may be missing; those are dropped like any.
"""

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from cwm_jax.tracing.sources import values
from cwm_jax.tracing.sources.program import Program, double_quoted

FAMILY = "methods"

_KINDS = ("int", "str", "list", "words", "dict")  # list: of integers; words: of strings; dict: strings to integers
_NAMERS = {"int": "int", "str": "str", "list": "list", "words": "list", "dict": "dict"}
_DOUBLED = re.compile(r"\((\([^()]*\))\)")  # brackets around an operand that is all there is
_PUNCTUATION = " ,.-_!:"


@dataclass
class _Scope:
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

    def inner(self) -> "_Scope":
        return _Scope(self.rng, self.name, dict(self.kinds))


def generate(rng: Random, inputs: int) -> Program:
    """One program of the family with up to `inputs` different argument lists."""
    scope = _Scope(rng, values.Namer(rng))
    parameters = [
        (scope.bind(kind), kind) for kind in rng.choices(_KINDS, (2, 5, 3, 2, 2), k=rng.choice((1, 1, 2, 2, 3)))
    ]
    lines: list[str] = []
    for _ in range(rng.randint(1, 4)):
        lines += rng.choices((_assign, _mutate, _if, _loop, _early), (4, 3, 2, 4, 1))[0](scope)
    lines.append(f"return {_result(scope)}")
    lines = [_DOUBLED.sub(r"\1", line) for line in lines]
    name = rng.choice(values.NAMES["function"])
    code = "\n".join([f"def {name}({', '.join(one for one, _ in parameters)}):", *("    " + line for line in lines)])
    arguments = {", ".join(repr(_value(rng, kind)) for _, kind in parameters) for _ in range(inputs)}
    quoted = double_quoted if rng.random() < 0.3 else str
    return Program(FAMILY, quoted(code), name, tuple(quoted(one) for one in sorted(arguments)))


def _text(rng: Random) -> str:
    """A word, or a few with something between, in any case, perhaps with digits."""
    parts = [values.word(rng, 6) for _ in range(rng.choice((1, 1, 2, 3)))]
    text = rng.choice((" ", " ", ",", "-", "_")).join(parts)
    text = rng.choice((str, str, str, str.title, str.upper, str.capitalize))(text)
    if rng.random() < 0.2:
        text += str(rng.randint(0, 99))
    return f" {text} " if rng.random() < 0.07 else text


def _value(rng: Random, kind: str) -> object:
    if kind == "int":
        return rng.randint(-3, 12)
    if kind == "str":
        return _text(rng)
    if kind == "list":
        return [rng.randint(-5, 20) for _ in range(rng.randint(0 if rng.random() < 0.1 else 1, 6))]
    words = [values.word(rng, 4) for _ in range(rng.randint(1, 4))]
    return words if kind == "words" else {word: rng.randint(0, 9) for word in words}


def _letter(scope: _Scope) -> str:
    """A short literal, or a text that is at hand."""
    rng = scope.rng
    texts = scope.names("str")
    if texts and rng.random() < 0.2:
        return rng.choice(texts)
    return repr(rng.choice(values.LETTERS) if rng.random() < 0.6 else rng.choice(_PUNCTUATION))


def _atom(scope: _Scope, kind: str) -> str:
    """A variable of a kind, or a literal where there is none, now and then where there is."""
    rng, names = scope.rng, scope.names(kind)
    if names and rng.random() < 0.85:
        return rng.choice(names)
    if kind in ("str", "int"):
        return repr(values.word(rng, 3)) if kind == "str" else str(rng.randint(0, 5))
    return repr(_value(rng, kind))


def _expression(scope: _Scope, kind: str, depth: int = 0) -> str:
    """An expression of a kind, of at most two calls one in the other; of a few the first that reads a variable."""
    for _ in range(4):
        text = _EXPRESSIONS[kind](scope, lambda other: _operand(scope, other, depth))
        if not scope.kinds.keys().isdisjoint(re.findall(r"\w+", text)):
            break
    return text


def _operand(scope: _Scope, kind: str, depth: int = 0) -> str:
    """A variable, a literal or an expression, in brackets where something may follow."""
    if depth or scope.rng.random() < 0.75:
        return _atom(scope, kind)
    text = _expression(scope, kind, depth + 1)
    return f"({text})" if isinstance(ast.parse(text, mode="eval").body, ast.BinOp) else text


def _loop_names(scope: _Scope) -> list[str]:
    """Two names for the loop of a comprehension, which bind nothing outside it."""
    return scope.rng.sample([name for name in values.NAMES["loop"] if name not in scope.kinds], 2)


_Of = Callable[[str], str]


def _int(scope: _Scope, of: _Of) -> str:
    rng, sized = scope.rng, scope.rng.choice(("str", "list", "words", "dict"))
    one, _ = _loop_names(scope)
    return rng.choice(
        (
            lambda: f"len({of(sized)})",
            lambda: f"{_atom(scope, 'str')}.count({_letter(scope)})",
            lambda: f"{_atom(scope, 'str')}.{rng.choice(('find', 'rfind'))}({_letter(scope)})",
            lambda: f"{_atom(scope, 'list')}.count({of('int')})",
            lambda: f"sum({of('list')})",
            lambda: f"{rng.choice(('max', 'min'))}({of('int')}, {of('int')})",
            lambda: f"{_atom(scope, 'dict')}.get({_atom(scope, 'str')}, {rng.randint(-1, 1)})",
            lambda: f"sum({_atom(scope, 'dict')}.values())",
            lambda: f"{of('int')} {rng.choice(('+', '-', '*'))} {_atom(scope, 'int')}",
            lambda: f"{of('int')} {rng.choice(('%', '//'))} {rng.randint(2, 5)}",
            lambda: f"abs({of('int')})",
            lambda: f"ord({_atom(scope, 'str')}[0])",
            lambda: f"{_atom(scope, 'list')}[{rng.choice((0, -1, 1))}]",
            lambda: f"sum(1 for {one} in {_atom(scope, 'str')} if {one}.{rng.choice(_TESTS)}())",
        )
    )()


_PADDING = ("ljust", "rjust", "center")
_TESTS = ("isdigit", "isalpha", "isupper", "islower", "isspace", "isalnum")
_CASES = ("upper", "lower", "title", "capitalize", "swapcase", "strip", "lstrip", "rstrip")


def _str(scope: _Scope, of: _Of) -> str:
    rng = scope.rng
    one, _ = _loop_names(scope)
    return rng.choice(
        (
            lambda: f"{of('str')}.{rng.choice(_CASES)}()",
            lambda: f"{of('str')}.{rng.choice(_CASES)}()",
            lambda: f"{of('str')}.replace({_letter(scope)}, {_letter(scope)})",
            lambda: f"{of('str')}.replace({_letter(scope)}, '')",
            lambda: f"{_letter(scope)}.join({of('words')})",
            lambda: f"''.join({of('words')})",
            lambda: f"{of('str')} + {of('str')}",
            lambda: f"{_atom(scope, 'str')}[{_slice(rng)}]",
            lambda: f"{_atom(scope, 'str')}[{_slice(rng)}]",
            lambda: f"str({of('int')})",
            lambda: f"{_atom(scope, 'str')} * {rng.randint(2, 3)}",
            lambda: f"{of('str')}.{rng.choice(_PADDING)}({rng.randint(4, 10)}, {rng.choice(_PUNCTUATION)!r})",
            lambda: f"{_atom(scope, 'str')}.zfill({rng.randint(3, 8)})",
            lambda: f"{_atom(scope, 'str')}.{rng.choice(('removeprefix', 'removesuffix', 'strip'))}({_letter(scope)})",
            lambda: f"{_atom(scope, 'words')}[{rng.choice((0, -1))}]",
            lambda: f"{_atom(scope, 'str')}.partition({_letter(scope)})[{rng.choice((0, 2))}]",
            lambda: f"''.join(sorted({of('str')}))",
            lambda: f"''.join(reversed({of('str')}))",
            lambda: _formatted(scope),
            lambda: f"''.join({one} for {one} in {of('str')} if {_test(scope, one)})",
            lambda: f"''.join({one}.upper() if {_test(scope, one)} else {one} for {one} in {of('str')})",
        )
    )()


def _formatted(scope: _Scope) -> str:
    """An f-string of one or two variables."""
    rng = scope.rng
    parts = [f"{{{name}}}" for name in rng.sample(list(scope.kinds), min(len(scope.kinds), rng.randint(1, 2)))]
    return 'f"' + rng.choice(_PUNCTUATION).join((rng.choice(("", "", values.word(rng, 3))), *parts)) + '"'


def _test(scope: _Scope, name: str) -> str:
    """A condition on one letter."""
    rng = scope.rng
    if rng.random() < 0.5:
        return f"{'not ' if rng.random() < 0.3 else ''}{name}.{rng.choice(_TESTS)}()"
    return rng.choice((f"{name} != {_letter(scope)}", f"{name} in {_atom(scope, 'str')}", f"{name} not in 'aeiou'"))


def _slice(rng: Random) -> str:
    return rng.choice(
        ("::-1", "::2", "1:", ":-1", "1:-1", f":{rng.randint(1, 4)}", f"{rng.randint(1, 3)}:", "-2:", "1::2")
    )


def _list(scope: _Scope, of: _Of) -> str:
    rng = scope.rng
    one, _ = _loop_names(scope)
    return rng.choice(
        (
            lambda: f"sorted({of('list')}{rng.choice(('', '', ', reverse=True'))})",
            lambda: f"{of('list')} + {of('list')}",
            lambda: f"{_atom(scope, 'list')}[{_slice(rng)}]",
            lambda: f"[{one} {rng.choice(('+', '*', '-'))} {rng.randint(1, 3)} for {one} in {of('list')}]",
            lambda: f"[{one} for {one} in {of('list')} if {one} {rng.choice(('>', '<', '!=', '=='))} {of('int')}]",
            lambda: f"[{one} for {one} in {of('list')} if {one} % 2 == {rng.randrange(2)}]",
            lambda: f"list(range({rng.randint(2, 6)}))",
            lambda: f"[len({one}) for {one} in {of('words')}]",
            lambda: f"list({_atom(scope, 'dict')}.values())",
            lambda: f"[{of('int')}, {of('int')}]",
            lambda: f"sorted(set({of('list')}))",
            lambda: f"list(reversed({of('list')}))",
            lambda: f"[ord({one}) for {one} in {_atom(scope, 'str')}]",
        )
    )()


def _words(scope: _Scope, of: _Of) -> str:
    rng = scope.rng
    one, _ = _loop_names(scope)
    return rng.choice(
        (
            lambda: f"{of('str')}.split()",
            lambda: f"{of('str')}.split({_letter(scope)})",
            lambda: f"{_atom(scope, 'str')}.{rng.choice(('split', 'rsplit'))}({_letter(scope)}, 1)",
            lambda: f"list({of('str')})",
            lambda: f"sorted({of('words')})",
            lambda: f"sorted({of('words')}, key=len)",
            lambda: f"[{one}.{rng.choice(_CASES)}() for {one} in {of('words')}]",
            lambda: f"[{one} for {one} in {of('words')} if {_test(scope, one)}]",
            lambda: f"list({_atom(scope, 'dict')}{rng.choice(('', '.keys()'))})",
            lambda: f"{_atom(scope, 'words')}[{_slice(rng)}]",
            lambda: f"{of('words')} + [{of('str')}]",
            lambda: f"[str({one}) for {one} in {of('list')}]",
            lambda: f"sorted(set({of('str')}))",
        )
    )()


def _dict(scope: _Scope, of: _Of) -> str:
    rng = scope.rng
    one, other = _loop_names(scope)
    return rng.choice(
        (
            lambda: f"{{{one}: {_atom(scope, 'str')}.count({one}) for {one} in {_atom(scope, 'str')}}}",
            lambda: f"{{{one}: len({one}) for {one} in {of('words')}}}",
            lambda: f"dict(zip({of('words')}, {of('list')}))",
            lambda: f"dict.fromkeys({of('words')}, {rng.randint(0, 2)})",
            lambda: f"{{{one}: {other} for {one}, {other} in {of('dict')}.items() if {other} {rng.choice('<>')} 3}}",
            lambda: f"{{{one}: {other} + {of('int')} for {one}, {other} in {of('dict')}.items()}}",
            lambda: f"{{{one}: {other} for {other}, {one} in enumerate({of('words')})}}",
            lambda: f"dict(sorted({of('dict')}.items()))",
            lambda: f"{_atom(scope, 'dict')}.copy()",
            lambda: "{}",
        )
    )()


_EXPRESSIONS = {"int": _int, "str": _str, "list": _list, "words": _words, "dict": _dict}


def _condition(scope: _Scope) -> str:
    rng = scope.rng
    choices = [
        lambda: f"{_expression(scope, 'int')} {rng.choice(('<', '>', '==', '>=', '!='))} {_atom(scope, 'int')}",
        lambda: f"{_letter(scope)} {rng.choice(('in', 'not in'))} {_atom(scope, 'str')}",
        lambda: f"{_atom(scope, 'str')}.{rng.choice(_TESTS)}()",
        lambda: f"{_atom(scope, 'str')}.{rng.choice(('startswith', 'endswith'))}({_letter(scope)})",
    ]
    if scope.names("list"):
        choices.append(lambda: f"{_atom(scope, 'int')} in {rng.choice(scope.names('list'))}")
    if scope.names("dict"):
        choices.append(lambda: f"{_atom(scope, 'str')} in {rng.choice(scope.names('dict'))}")
    some = [name for kind in ("str", "list", "words", "dict") for name in scope.names(kind)]
    if some:
        choices.append(lambda: f"{rng.choice(('', 'not '))}{rng.choice(some)}")
    return rng.choice(choices)()


def _assign(scope: _Scope) -> list[str]:
    """Binds a name, new or not, to an expression."""
    rng = scope.rng
    kind = rng.choices(_KINDS, (3, 5, 4, 3, 2))[0]
    value = _expression(scope, kind)
    names = scope.names(kind)
    if names and rng.random() < 0.4:
        return [f"{rng.choice(names)} = {value}"]
    return [f"{scope.bind(kind, 'counter' if kind == 'int' else 'built')} = {value}"]


def _mutate(scope: _Scope) -> list[str]:
    """Changes a variable in place."""
    rng = scope.rng
    name, kind = rng.choice(list(scope.kinds.items()))
    of = lambda other: _operand(scope, other)  # noqa: E731
    if kind == "int":
        return [f"{name} {rng.choice(('+=', '+=', '-=', '*='))} {of('int')}"]
    if kind == "str":
        return [f"{name} += {of('str')}"]
    if kind == "dict":
        return [
            rng.choice(
                (
                    f"{name}[{of('str')}] = {of('int')}",
                    f"{name}.update({of('dict')})",
                    f"{name}.setdefault({of('str')}, {of('int')})",
                    f"{name}.pop({_atom(scope, 'str')}, None)",
                )
            )
        ]
    element = of("int" if kind == "list" else "str")
    return [
        rng.choice(
            (
                f"{name}.append({element})",
                f"{name}.append({element})",
                f"{name}.insert({rng.choice((0, 1, -1))}, {element})",
                f"{name}.extend({of(kind)})",
                f"{name}.pop({rng.choice(('', '0', '-1'))})",
                f"{name}.sort({rng.choice(('', 'reverse=True'))})",
                f"{name}.reverse()",
                f"{name}[{rng.choice((0, -1))}] = {element}",
                f"del {name}[{rng.choice((0, -1))}]",
                f"{name} += {of(kind)}",
            )
        )
    ]


def _if(scope: _Scope) -> list[str]:
    rng, lines = scope.rng, [f"if {_condition(scope)}:"]
    inner = scope.inner()
    lines += ["    " + line for line in rng.choice((_assign, _mutate, _mutate))(inner)]
    if rng.random() < 0.35:
        lines += ["else:", *("    " + line for line in rng.choice((_assign, _mutate))(scope.inner()))]
    return lines


def _early(scope: _Scope) -> list[str]:
    return [f"if {_condition(scope)}:", f"    return {_result(scope)}"]


def _loop(scope: _Scope) -> list[str]:
    """A loop over something that builds something, bound right before it."""
    rng = scope.rng
    kind = rng.choices(_KINDS, (3, 4, 3, 3, 3))[0]
    empty = {"int": "0", "str": "''", "list": "[]", "words": "[]", "dict": "{}"}[kind]
    inner = scope.inner()
    over = rng.choice(("range", *(one for one in scope.kinds.values() if one != "int")))
    if over == "range":
        end = rng.choice(
            (str(rng.randint(2, 4)), *(f"len({name})" for name in scope.names("str") + scope.names("list")))
        )
        head = f"for {inner.bind('int', 'loop')} in range({end}):"
    elif over in ("str", "words") and rng.random() < 0.3:
        head = f"for {inner.bind('int', 'loop')}, {inner.bind('str', 'loop')} in enumerate({_atom(scope, over)}):"
    elif over == "dict":
        head = f"for {inner.bind('str', 'loop')}, {inner.bind('int', 'loop')} in {_atom(scope, 'dict')}.items():"
    else:
        source = _operand(scope, over)
        head = f"for {inner.bind('int' if over == 'list' else 'str', 'loop')} in {source}:"
    built = scope.bind(kind, {"int": "counter", "dict": "dict"}.get(kind, "built"))
    inner.kinds[built] = kind
    of = lambda other: _operand(inner, other)  # noqa: E731
    body = {
        "int": lambda: f"{built} {rng.choice(('+=', '+=', '-='))} {rng.choice(('1', of('int')))}",
        "str": lambda: f"{built} += {of('str')}",
        "list": lambda: f"{built}.append({of('int')})",
        "words": lambda: f"{built}.append({of('str')})",
        "dict": lambda: rng.choice(
            (
                f"{built}[{(key := _atom(inner, 'str'))}] = {built}.get({key}, 0) + 1",
                f"{built}[{_atom(inner, 'str')}] = {of('int')}",
            )
        ),
    }[kind]
    lines = [f"{built} = {empty}", head]
    if rng.random() < 0.45:
        lines += [f"    if {_condition(inner)}:", f"        {body()}"]
        if rng.random() < 0.3:
            lines += ["    else:", f"        {body()}"]
        elif rng.random() < 0.15:
            lines += [f"    elif {_condition(inner)}:", f"        {rng.choice(('break', 'continue'))}"]
    else:
        lines.append(f"    {body()}")
    return lines


def _result(scope: _Scope) -> str:
    rng = scope.rng
    newest = list(scope.kinds)[-2:]
    choice = rng.random()
    if choice < 0.55:
        return rng.choice(newest)
    if choice < 0.85:
        return _expression(scope, rng.choice(_KINDS))
    return rng.choice((f"{rng.choice(newest)}, {rng.choice(list(scope.kinds))}", _condition(scope)))
