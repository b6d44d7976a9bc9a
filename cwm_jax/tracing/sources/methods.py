"""The methods family: short functions that put the methods of strings, lists and dictionaries to use.

What the composed family is to control flow, this is to built-in types: most of what short functions of real code do is
call a few of their methods on an argument, often in a loop that builds a result. Expressions are typed and nested at
most twice. Some runs raise, as a value may be missing; those are dropped like any.
"""

import re
from random import Random

from cwm_jax.tracing.sources import values
from cwm_jax.tracing.sources.expressions import KINDS, Scope, atom, condition, expression, operand, value
from cwm_jax.tracing.sources.program import Program, double_quoted

FAMILY = "methods"

_DOUBLED = re.compile(r"\((\([^()]*\))\)")  # brackets around an operand that is all there is


def generate(rng: Random, inputs: int) -> Program:
    """One program of the family with up to `inputs` different argument lists."""
    scope = Scope(rng, values.Namer(rng))
    parameters = [
        (scope.bind(kind), kind) for kind in rng.choices(KINDS, (2, 5, 3, 2, 2), k=rng.choice((1, 1, 2, 2, 3)))
    ]
    lines: list[str] = []
    for _ in range(rng.randint(1, 4)):
        lines += rng.choices((_assign, _mutate, _if, _loop, _early), (4, 3, 2, 4, 1))[0](scope)
    lines.append(f"return {_result(scope)}")
    lines = [_DOUBLED.sub(r"\1", line) for line in lines]
    name = rng.choice(values.NAMES["function"])
    code = "\n".join([f"def {name}({', '.join(one for one, _ in parameters)}):", *("    " + line for line in lines)])
    arguments = {", ".join(repr(value(rng, kind)) for _, kind in parameters) for _ in range(inputs)}
    quoted = double_quoted if rng.random() < 0.3 else str
    return Program(FAMILY, quoted(code), name, tuple(quoted(one) for one in sorted(arguments)))


def _assign(scope: Scope) -> list[str]:
    """Binds a name, new or not, to an expression."""
    rng = scope.rng
    kind = rng.choices(KINDS, (3, 5, 4, 3, 2))[0]
    text = expression(scope, kind)
    names = scope.names(kind)
    if names and rng.random() < 0.4:
        return [f"{rng.choice(names)} = {text}"]
    return [f"{scope.bind(kind, 'counter' if kind == 'int' else 'built')} = {text}"]


def _mutate(scope: Scope) -> list[str]:
    """Changes a variable in place."""
    rng = scope.rng
    name, kind = rng.choice(list(scope.kinds.items()))
    of = lambda other: operand(scope, other)  # noqa: E731
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
                    f"{name}.pop({atom(scope, 'str')}, None)",
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


def _if(scope: Scope) -> list[str]:
    rng, lines = scope.rng, [f"if {condition(scope)}:"]
    inner = scope.inner()
    lines += ["    " + line for line in rng.choice((_assign, _mutate, _mutate))(inner)]
    if rng.random() < 0.35:
        lines += ["else:", *("    " + line for line in rng.choice((_assign, _mutate))(scope.inner()))]
    return lines


def _early(scope: Scope) -> list[str]:
    return [f"if {condition(scope)}:", f"    return {_result(scope)}"]


def _loop(scope: Scope) -> list[str]:
    """A loop over something that builds something, bound right before it."""
    rng = scope.rng
    kind = rng.choices(KINDS, (3, 4, 3, 3, 3))[0]
    empty = {"int": "0", "str": "''", "list": "[]", "words": "[]", "dict": "{}"}[kind]
    inner = scope.inner()
    over = rng.choice(("range", *(one for one in scope.kinds.values() if one != "int")))
    if over == "range":
        end = rng.choice(
            (str(rng.randint(2, 4)), *(f"len({name})" for name in scope.names("str") + scope.names("list")))
        )
        head = f"for {inner.bind('int', 'loop')} in range({end}):"
    elif over in ("str", "words") and rng.random() < 0.3:
        head = f"for {inner.bind('int', 'loop')}, {inner.bind('str', 'loop')} in enumerate({atom(scope, over)}):"
    elif over == "dict":
        head = f"for {inner.bind('str', 'loop')}, {inner.bind('int', 'loop')} in {atom(scope, 'dict')}.items():"
    else:
        source = operand(scope, over)
        head = f"for {inner.bind('int' if over == 'list' else 'str', 'loop')} in {source}:"
    built = scope.bind(kind, {"int": "counter", "dict": "dict"}.get(kind, "built"))
    inner.kinds[built] = kind
    of = lambda other: operand(inner, other)  # noqa: E731
    body = {
        "int": lambda: f"{built} {rng.choice(('+=', '+=', '-='))} {rng.choice(('1', of('int')))}",
        "str": lambda: f"{built} += {of('str')}",
        "list": lambda: f"{built}.append({of('int')})",
        "words": lambda: f"{built}.append({of('str')})",
        "dict": lambda: rng.choice(
            (
                f"{built}[{(key := atom(inner, 'str'))}] = {built}.get({key}, 0) + 1",
                f"{built}[{atom(inner, 'str')}] = {of('int')}",
            )
        ),
    }[kind]
    lines = [f"{built} = {empty}", head]
    if rng.random() < 0.45:
        lines += [f"    if {condition(inner)}:", f"        {body()}"]
        if rng.random() < 0.3:
            lines += ["    else:", f"        {body()}"]
        elif rng.random() < 0.15:
            lines += [f"    elif {condition(inner)}:", f"        {rng.choice(('break', 'continue'))}"]
    else:
        lines.append(f"    {body()}")
    return lines


def _result(scope: Scope) -> str:
    rng = scope.rng
    newest = list(scope.kinds)[-2:]
    choice = rng.random()
    if choice < 0.55:
        return rng.choice(newest)
    if choice < 0.85:
        return expression(scope, rng.choice(KINDS))
    return rng.choice((f"{rng.choice(newest)}, {rng.choice(list(scope.kinds))}", condition(scope)))
