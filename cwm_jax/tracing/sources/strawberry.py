"""The strawberry family: one loop over a string, a list or a range that counts, sums, builds or searches.

Its best-known member counts the r's in *strawberry*. Every program is drawn from
a grammar of loops, conditions and updates; helpers, early exits, f-strings and
dicts included.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from cwm_jax.tracing.sources import values
from cwm_jax.tracing.sources.program import Program, double_quoted

FAMILY = "strawberry"


@dataclass
class _Draft:
    """A function being written: its lines and what its expressions may refer to."""

    rng: Random
    name: Callable[[str], str]
    over: str  # "letters", "numbers" or "range"
    element: str
    iterable: str
    index: str | None
    letter: str | None  # a parameter that holds one letter
    number: str | None  # a parameter that holds a small number
    counter: str = ""
    built: str = ""
    built_is_text: bool = False
    table: str = ""
    word: str = ""  # the word that the argument list being made passes


def generate(rng: Random, inputs: int) -> Program:
    """One program of the family with `inputs` different argument lists (fewer if it has fewer)."""
    draft, parameters = _start(rng)
    lines = _accumulators(draft)
    lines += _loop(draft)
    helper, closing = _closing(draft)
    name = rng.choice(values.NAMES["function"])
    body = [f"def {name}({', '.join(parameters)}):", *("    " + line for line in lines + closing)]
    if draft.letter and rng.random() < 0.35:
        name, driver = _driver(draft, name, joins=closing == [f"return {draft.counter}"])
        body, parameters = body + driver, [draft.letter]
    arguments = {", ".join(_argument(rng, draft, parameter) for parameter in parameters) for _ in range(inputs)}
    quoted = double_quoted if rng.random() < 0.3 else str
    return Program(FAMILY, quoted("\n".join(helper + body)), name, tuple(quoted(one) for one in sorted(arguments)))


def _driver(draft: _Draft, inner: str, joins: bool) -> tuple[str, list[str]]:
    """A function of one letter that holds its own word and hands both to `inner`; it may join word and answer."""
    rng = draft.rng
    outer = rng.choice([name for name in values.NAMES["function"] if name != inner])
    name = values.Namer(rng)
    letter, word, answer = name("letter"), name("str"), name("counter")
    draft.word = values.word(rng, 10)
    lines = [f"def {outer}({letter}):", f"    {word} = {draft.word!r}", f"    {answer} = {inner}({word}, {letter})"]
    if joins and rng.random() < 0.7:
        helper = rng.choice([name for name in values.NAMES["helper"] if name not in (outer, inner)])
        return outer, [*_joiner(rng, helper), *lines, f"    return {helper}({word}, {answer})"]
    result = rng.choice([f"return {answer}", f'return f"{{{word}}}: {{{answer}}}"', f"return {word}, {answer}"])
    return outer, [*lines, "    " + result]


def _joiner(rng: Random, helper: str) -> list[str]:
    """A helper that joins a text and a number."""
    name = values.Namer(rng)
    text, number, parts = name("str"), name("int"), name("built")
    return [
        f"def {helper}({text}, {number}):",
        f'    {parts} = [{text}, f"{{{number}:0{rng.randint(2, 4)}d}}"]',
        f"    return {rng.choice([repr(' '), repr('-'), repr(': ')])}.join({parts})",
    ]


def _start(rng: Random) -> tuple[_Draft, list[str]]:
    name = values.Namer(rng)
    over = rng.choice(["letters", "letters", "numbers", "numbers", "range"])
    iterable = name({"letters": "str", "numbers": "list", "range": "int"}[over])
    parameters = [iterable]
    letter = name("letter") if over == "letters" and rng.random() < 0.6 else None
    number = name("int") if over != "letters" and rng.random() < 0.5 else None
    parameters += [parameter for parameter in (letter, number) if parameter]
    element = name("loop")
    index = name("loop") if over != "range" and rng.random() < 0.12 else None
    return _Draft(rng, name, over, element, iterable, index, letter, number), parameters


def _accumulators(draft: _Draft) -> list[str]:
    rng, lines = draft.rng, []
    kind = rng.choice(["counter", "counter", "counter", "built", "both", "table"])
    if kind in ("counter", "both"):
        draft.counter = draft.name("counter")
        lines.append(f"{draft.counter} = {rng.choice([0, 0, 0, 0, 1, 2, 10])}")
    if kind in ("built", "both"):
        draft.built = draft.name("built")
        draft.built_is_text = draft.over == "letters" and rng.random() < 0.7
        lines.append(f"{draft.built} = " + ('""' if draft.built_is_text else "[]"))
    if kind == "table":
        draft.table = draft.name("dict")
        lines.append(f"{draft.table} = {{}}")
    rng.shuffle(lines)
    return lines


def _loop(draft: _Draft) -> list[str]:
    rng = draft.rng
    if draft.over == "range":
        header = f"for {draft.element} in range({rng.choice(['', '', '1, '])}{draft.iterable}):"
    elif draft.index:
        header = f"for {draft.index}, {draft.element} in enumerate({draft.iterable}):"
    else:
        header = f"for {draft.element} in {draft.iterable}:"
    shape = rng.choice(["if", "if", "if", "if-else", "plain", "exit", "if-elif", "two"])
    body: list[str]
    if shape == "if":
        body = [f"if {_condition(draft)}:", "    " + _update(draft)]
        if rng.random() < 0.25:
            body.append("    " + _update(draft))
    elif shape == "if-else":
        body = [f"if {_condition(draft)}:", "    " + _update(draft), "else:", "    " + _update(draft)]
    elif shape == "if-elif":
        body = [
            f"if {_condition(draft)}:",
            "    " + _update(draft),
            f"elif {_condition(draft)}:",
            "    " + _update(draft),
        ]
    elif shape == "plain":
        body = [_update(draft)]
    elif shape == "two":
        body = [_update(draft), f"if {_condition(draft)}:", "    " + _update(draft)]
    else:
        exit_line = rng.choice(["break", "continue", f"return {_result(draft)}"])
        body = [f"if {_condition(draft)}:", "    " + exit_line, _update(draft)]
    return [header, *("    " + line for line in body)]


def _condition(draft: _Draft) -> str:
    rng, element = draft.rng, draft.element
    if draft.over == "letters":
        letter = draft.letter if draft.letter and rng.random() < 0.8 else repr(rng.choice(values.LETTERS))
        choices = [f"{element} == {letter}"] * 3 + [
            f"{element} != {letter}",
            f"{element} in {rng.choice(_GROUPS)!r}",
            f"{element} not in {rng.choice(_GROUPS)!r}",
            f"{element} < {letter}",
        ]
        if draft.built and draft.built_is_text:
            choices += [f"{element} not in {draft.built}", f"len({draft.built}) < {rng.randint(2, 5)}"]
    else:
        bound = draft.number if draft.number and rng.random() < 0.8 else str(rng.randint(1, 8))
        operator = rng.choice(["<", ">", "==", "<=", ">=", "!="])
        divisor = rng.choice([2, 2, 3])
        choices = [f"{element} {operator} {bound}"] * 3 + [f"{element} % {divisor} == {rng.randrange(divisor)}"] * 2
    if draft.counter:
        choices.append(f"{draft.counter} {rng.choice(['<', '>', '>='])} {rng.randint(1, 9)}")
    if draft.index:
        choices.append(f"{draft.index} {rng.choice(['<', '>', '=='])} {rng.randint(1, 4)}")
    if draft.table:
        choices.append(f"{element} {rng.choice(['in', 'not in'])} {draft.table}")
    return rng.choice(choices)


_GROUPS = ("aeiou", "abc", "xyz", "rst", "aei", "lmn")


def _update(draft: _Draft) -> str:
    rng, element, choices = draft.rng, draft.element, []
    numeric = draft.over != "letters"
    if draft.counter:
        counter = draft.counter
        choices += [f"{counter} += 1"] * 3 + [f"{counter} += {rng.randint(2, 5)}", f"{counter} -= 1"]
        if numeric:
            choices += [f"{counter} += {element}"] * 3 + [
                f"{counter} += {element} * {rng.randint(2, 3)}",
                f"{counter} = max({counter}, {element})",
                f"{counter} = {counter} + {element}",
                f"{counter} = {element}",
            ]
        if draft.index:
            choices += [f"{counter} += {draft.index}", f"{counter} = {draft.index}"]
    if draft.built and draft.built_is_text:
        built = draft.built
        choices += [f"{built} += {element}"] * 3 + [
            f"{built} = {element} + {built}",
            f"{built} += {element}.upper()",
            f"{built} += {rng.choice('-*_')!r}",
            f'{built} += f"{{{element}}}-"',
        ]
    elif draft.built:
        built = draft.built
        choices += [f"{built}.append({element})"] * 3
        if numeric:
            choices += [f"{built}.append({element} + {rng.randint(1, 5)})", f"{built}.append({element} * 2)"]
        if draft.counter:
            choices.append(f"{built}.append({draft.counter})")
    if draft.table:
        table = draft.table
        choices += [f"{table}[{element}] = {table}.get({element}, 0) + 1"] * 2 + [
            f"{table}[{element}] = {rng.randint(1, 3)}"
        ]
        if draft.index:
            choices.append(f"{table}[{element}] = {draft.index}")
    return rng.choice(choices)


def _result(draft: _Draft) -> str:
    names = [name for name in (draft.counter, draft.built, draft.table) if name]
    return draft.rng.choice([*names, *names, draft.element])


def _closing(draft: _Draft) -> tuple[list[str], list[str]]:
    """Lines of a helper function (or none), and the lines that end the entry."""
    rng = draft.rng
    names = [name for name in (draft.counter, draft.built, draft.table) if name]
    main = rng.choice(names)
    style = rng.choice(["plain", "plain", "plain", "f-string", "helper", "expression", "pair"])
    if style == "helper":
        helper = rng.choice(values.NAMES["helper"])
        return _helper(draft, helper, main)
    if style == "f-string":
        if main == draft.counter and rng.random() < 0.5:
            return [], [f'return f"{{{main}:0{rng.randint(2, 4)}d}}"']
        return [], [f'return f"{main}={{{main}}}"']
    if style == "pair" and len(names) > 1:
        return [], [f"return {names[0]}, {names[1]}"]
    if style == "expression":
        expression = f"{main} + {rng.randint(1, 5)}" if main == draft.counter else f"len({main})"
        if rng.random() < 0.5:
            return [], [f"return {expression}"]
        extra = draft.name("counter")
        return [], [f"{extra} = {expression}", f"return {extra}"]
    return [], [f"return {main}"]


def _helper(draft: _Draft, helper: str, main: str) -> tuple[list[str], list[str]]:
    """A helper that formats or changes the result, in one to three lines."""
    rng = draft.rng
    name = values.Namer(rng)
    if main == draft.counter:
        a, b = name("int"), name("built")
        choices = [
            [f"def {helper}({a}):", f"    return {a} * 2"],
            [
                f"def {helper}({a}):",
                f"    if {a} > {rng.randint(1, 6)}:",
                f"        return {rng.choice(['True', repr('many'), '1'])}",
                f"    return {rng.choice(['False', repr('few'), '0'])}",
            ],
            [f"def {helper}({a}):", f'    {b} = f"{{{a}:0{rng.randint(2, 4)}d}}"', f"    return {b}"],
        ]
        if draft.over == "letters" and rng.random() < 0.5:
            return _joiner(rng, helper), [f"return {helper}({draft.iterable}, {main})"]
    else:
        a = name("built")
        choices = [
            [f"def {helper}({a}):", f"    return len({a})"],
            [
                f"def {helper}({a}):",
                f"    if len({a}) > {rng.randint(1, 4)}:",
                "        return True",
                "    return False",
            ],
        ]
    return rng.choice(choices), [f"return {helper}({main})"]


def _argument(rng: Random, draft: _Draft, parameter: str) -> str:
    if parameter == draft.iterable:
        if draft.over == "letters":
            draft.word = values.word(rng, 10)
            return repr(draft.word)
        return repr(values.int_list(rng)) if draft.over == "numbers" else str(rng.randint(1, 7))
    if parameter == draft.letter:
        return repr(values.letter_for(rng, draft.word))
    return str(rng.randint(0, 9))
