"""The composed family: typed statements composed freely, with nested conditions and loops.

Variables of three kinds (small integers, short strings, short lists) are read and
written by assignments, conditions, `for` and `while` loops up to two deep. Every
`while` counts towards its end, so every program halts.
"""

from dataclasses import dataclass, field
from random import Random

from cwm_jax.tracing.sources import values
from cwm_jax.tracing.sources.program import Program, double_quoted

FAMILY = "composed"


@dataclass
class _Scope:
    """The variables that are bound at this point of the function, by kind."""

    rng: Random
    name: values.Namer
    ints: list[str] = field(default_factory=list)
    strs: list[str] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)
    frozen: set[str] = field(default_factory=set)  # loop variables and bounds that the body must not write

    def copy(self) -> "_Scope":
        return _Scope(self.rng, self.name, list(self.ints), list(self.strs), list(self.lists), set(self.frozen))

    def writable(self, kind: str) -> list[str]:
        return [name for name in getattr(self, kind) if name not in self.frozen]


def generate(rng: Random, inputs: int) -> Program:
    """One program of the family with up to `inputs` different argument lists."""
    scope = _Scope(rng, values.Namer(rng))
    parameters = [_parameter(scope) for _ in range(rng.randint(1, 3))]
    lines = [_declare(scope)]
    for _ in range(rng.randint(2, 4)):
        lines += _statement(scope, depth=0)
    lines.append("return " + _result(scope))
    name = rng.choice(values.NAMES["function"])
    code = "\n".join([f"def {name}({', '.join(name for name, _ in parameters)}):", *("    " + line for line in lines)])
    arguments = {", ".join(_argument(rng, kind) for _, kind in parameters) for _ in range(inputs)}
    quoted = double_quoted if rng.random() < 0.3 else str
    return Program(FAMILY, quoted(code), name, tuple(quoted(one) for one in sorted(arguments)))


def _parameter(scope: _Scope) -> tuple[str, str]:
    kind = scope.rng.choice(["ints", "ints", "ints", "strs", "lists"])
    name = scope.name({"ints": "int", "strs": "str", "lists": "list"}[kind])
    getattr(scope, kind).append(name)
    return name, kind


def _argument(rng: Random, kind: str) -> str:
    if kind == "ints":
        return str(rng.randint(0, 9))
    return repr(values.word(rng, 5)) if kind == "strs" else repr(values.int_list(rng, 5, high=9))


def _declare(scope: _Scope) -> str:
    """Binds a new variable."""
    rng = scope.rng
    kind = rng.choice(["int", "int", "int", "str", "list"])
    if kind == "int":
        line = f"{(name := scope.name('counter'))} = {rng.choice([str(rng.randint(0, 5)), _int(scope)])}"
        scope.ints.append(name)
    elif kind == "str":
        line = f"{(name := scope.name('built'))} = {rng.choice([repr(''), repr(values.word(rng, 3)), *scope.strs])}"
        scope.strs.append(name)
    else:
        line = f"{(name := scope.name('built'))} = {rng.choice(['[]', str(values.int_list(rng, 3))])}"
        scope.lists.append(name)
    return line


def _statement(scope: _Scope, depth: int) -> list[str]:
    rng = scope.rng
    kinds = ["assign"] * 4
    if depth == 0:
        kinds += ["declare", "if", "if", "for", "for", "while"]
    elif depth == 1:
        kinds += ["if", "if", "for"]
    kind = rng.choice(kinds)
    if kind == "assign":
        return [_assign(scope)]
    if kind == "declare":
        return [_declare(scope)]
    if kind == "if":
        return _if(scope, depth)
    return _for(scope, depth) if kind == "for" else _while(scope, depth)


def _block(scope: _Scope, depth: int, most: int = 2) -> list[str]:
    """An indented block; what it binds is not visible after it."""
    inner = scope.copy()
    lines: list[str] = []
    for _ in range(scope.rng.randint(1, most)):
        lines += _statement(inner, depth + 1)
    return ["    " + line for line in lines]


def _if(scope: _Scope, depth: int) -> list[str]:
    rng = scope.rng
    lines = [f"if {_condition(scope)}:", *_block(scope, depth)]
    if rng.random() < 0.2:
        lines += [f"elif {_condition(scope)}:", *_block(scope, depth, 1)]
    if rng.random() < 0.4:
        lines += ["else:", *_block(scope, depth, 1)]
    return lines


def _for(scope: _Scope, depth: int) -> list[str]:
    rng = scope.rng
    inner = scope.copy()
    element = scope.name("loop")
    choice = rng.random()
    if choice < 0.5 or not (scope.strs or scope.lists):
        bound = rng.choice(
            [str(rng.randint(2, 4 - depth)), f"{rng.choice(scope.ints)} % {rng.randint(2, 4)}" if scope.ints else "3"]
        )
        iterable = f"range({bound})"
        inner.ints.append(element)
    elif scope.strs and (choice < 0.75 or not scope.lists):
        iterable = rng.choice(scope.strs)
        inner.strs.append(element)
        inner.frozen.add(iterable)
    else:
        iterable = rng.choice(scope.lists)
        inner.ints.append(element)
        inner.frozen.add(iterable)
    inner.frozen.add(element)
    lines = [f"for {element} in {iterable}:", *_block(inner, depth)]
    if rng.random() < 0.12:
        lines += [f"    if {_condition(inner)}:", "        break"]
    return lines


def _while(scope: _Scope, depth: int) -> list[str]:
    rng = scope.rng
    inner = scope.copy()
    if scope.writable("ints") and rng.random() < 0.5:
        counter = rng.choice(scope.writable("ints"))
        inner.frozen.add(counter)
        step = rng.choice([f"{counter} -= {rng.randint(1, 3)}", f"{counter} -= 2", f"{counter} //= 2"])
        return [f"while {counter} > {rng.randint(0, 4)}:", *_block(inner, depth, 1), "    " + step]
    counter = scope.name("loop")
    inner.ints.append(counter)
    inner.frozen.add(counter)
    limit = rng.choice([str(rng.randint(2, 5)), *(f"len({name})" for name in scope.strs + scope.lists)])
    inner.frozen |= set(scope.strs + scope.lists) if limit.startswith("len") else set()
    scope.ints.append(counter)
    return [
        f"{counter} = 0",
        f"while {counter} < {limit}:",
        *_block(inner, depth, 1),
        f"    {counter} += {rng.choice([1, 1, 2])}",
    ]


def _assign(scope: _Scope) -> str:
    """Writes a variable that exists, or binds one where none may be written."""
    rng = scope.rng
    targets = [(name, kind) for kind in ("ints", "strs", "lists") for name in scope.writable(kind)]
    if not targets:
        return _declare(scope)
    name, kind = rng.choice(targets)
    if kind == "ints":
        operator = rng.choice(["+=", "+=", "+=", "-=", "="])
        return f"{name} {operator} {_int(scope)}"
    if kind == "strs":
        piece = rng.choice([repr(values.word(rng, 2)), *scope.strs])
        other = rng.choice([piece, f"str({rng.choice(scope.ints)})"] if scope.ints else [piece])
        return rng.choice(
            [
                f"{name} += {other}",
                f"{name} = {other} + {name}",
                f"{name} = {name}.upper()",
                f"{name} = {name}[{rng.choice(['1:', '::-1', ':2'])}]",
            ]
        )
    return rng.choice(
        [
            f"{name}.append({_int(scope)})",
            f"{name}.append({_int(scope)})",
            f"{name} = {name} + [{rng.randint(0, 9)}]",
            f"{name} = {name}[{rng.choice(['1:', '::-1', ':2'])}]",
        ]
    )


def _int(scope: _Scope) -> str:
    """An integer expression of at most one operator."""
    rng = scope.rng
    atoms = [str(rng.randint(0, 5)), *scope.ints, *scope.ints]
    left = rng.choice(atoms)
    choice = rng.random()
    if choice < 0.4:
        return left
    if choice < 0.6 and (scope.strs or scope.lists):
        return rng.choice([f"len({name})" for name in scope.strs + scope.lists])
    if choice < 0.7 and len(scope.ints) > 1:
        return f"{rng.choice(['max', 'min'])}({left}, {rng.choice(scope.ints)})"
    operator = rng.choice(["+", "+", "-", "*", "%"])
    right = str(rng.randint(2, 4)) if operator in "%*" else rng.choice([str(rng.randint(1, 5)), *scope.ints])
    return f"{left} {operator} {right}"


def _condition(scope: _Scope) -> str:
    rng = scope.rng
    choices = []
    if scope.ints:
        left = rng.choice(scope.ints)
        right = rng.choice([str(rng.randint(0, 9)), *(name for name in scope.ints if name != left)])
        choices += [f"{left} {rng.choice(['<', '>', '==', '<=', '>=', '!='])} {right}"] * 4
        choices.append(f"{left} % {(divisor := rng.randint(2, 3))} == {rng.randrange(divisor)}")
    choices += [f"len({name}) {rng.choice(['<', '>'])} {rng.randint(1, 4)}" for name in scope.strs + scope.lists]
    choices += [f"{rng.choice(values.LETTERS)!r} in {name}" for name in scope.strs]
    if scope.lists and scope.ints:
        choices.append(f"{rng.choice(scope.ints)} in {rng.choice(scope.lists)}")
    return rng.choice(choices or ["True"])


def _result(scope: _Scope) -> str:
    rng = scope.rng
    names = scope.ints + scope.strs + scope.lists
    one = rng.choice(names)
    return rng.choice([one, one, one, f"{one}, {rng.choice(names)}", f'f"{{{one}}}!"'])
