"""The programs of the halting benchmark: families whose members halt or loop by one number, and some written by hand.

Of each family as many members halt as loop, and they look alike: no word of the text tells which. Whether a member
halts is settled as it is made, by a few lines of arithmetic; what is stored beside each in `experiments/halting` is the
machine-checked reason, from `worldmodel.halting`. CWM's HaltEval (paper §7, 115 + 115 programs) is not published.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from cwm_jax.tracing.wrap import wrap

WRITTEN = Path("experiments/halting/written")
_OF_EACH = 9  # halting and looping members of a family
_SEED = 20251


@dataclass(frozen=True)
class HaltingProgram:
    """One program.

    Attributes:
      name: the family and a number, or the file it is written in.
      context: source with a marked entry.
      verdict: `terminates` or `loops`.
    """

    name: str
    context: str
    verdict: str


def programs() -> list[HaltingProgram]:
    """All of them, always the same; of each family first those that halt, then those that loop."""
    found = []
    for family, make in FAMILIES.items():
        members: dict[str, dict[str, None]] = {"terminates": {}, "loops": {}}
        rng = Random(f"{_SEED} {family}")
        while min(map(len, members.values())) < _OF_EACH:
            code, arguments, ends = make(rng)
            kind = members["terminates" if ends else "loops"]
            if len(kind) < _OF_EACH:
                kind[wrap(code, "f", arguments)] = None
        for verdict, contexts in members.items():
            found += [HaltingProgram(f"{family}_{verdict}_{n}", text, verdict) for n, text in enumerate(contexts)]
    return found + list(_written())


def _written() -> Iterator[HaltingProgram]:
    for path in sorted(WRITTEN.glob("*.py")):
        yield HaltingProgram(path.stem, path.read_text(), path.stem.partition("_")[0])


Member = tuple[str, str, bool]  # code, arguments of its function f, whether it halts


def _step_over(rng: Random) -> Member:
    """Counts down in steps to a number that it may step over."""
    step, goal, start = rng.randint(2, 5), rng.randint(0, 3), rng.randint(8, 25)
    code = f"def f(n):\n    while n != {goal}:\n        n -= {step}\n    return n"
    return code, f"{start}", (start - goal) % step == 0


def _towards(rng: Random) -> Member:
    """Counts up or down, to or away from a bound."""
    step = rng.choice([-3, -2, -1, 1, 2, 3])
    bound, start = rng.randint(5, 9), rng.randint(0, 4)
    code = (
        f"def f(n):\n    turns = 0\n    while n < {bound}:\n        n += {step}\n        turns += 1\n    return turns"
    )
    return code, f"{start}", step > 0


def _residue(rng: Random) -> Member:
    """Looks for a number with a remainder that its steps may never reach."""
    modulus, step = rng.choice([4, 6, 8, 9, 10]), rng.choice([2, 3, 4, 5, 6])
    start, wanted = rng.randint(0, 9), rng.randrange(4)
    code = f"def f(n):\n    while n % {modulus} != {wanted}:\n        n += {step}\n    return n"
    return code, f"{start}", any((start + step * turn) % modulus == wanted for turn in range(modulus))


def _generator(rng: Random) -> Member:
    """A linear congruential generator that is to hit a value."""
    a, b, modulus = rng.randint(1, 7), rng.randint(0, 9), rng.randint(7, 16)
    start, wanted = rng.randrange(modulus), rng.randrange(modulus)
    code = (
        f"def f(x):\n    seen = 0\n    while x != {wanted}:\n        x = ({a} * x + {b}) % {modulus}\n"
        "        seen += 1\n        seen %= 2\n    return x"
    )
    return code, f"{start}", _reaches(start, lambda x: (a * x + b) % modulus, wanted)


def _collatz(rng: Random) -> Member:
    """The Collatz rule, or one with 3n - 1 that has other cycles."""
    by, start = rng.choice([1, -1]), rng.randint(2, 30)
    code = (
        "def f(n):\n    while n != 1:\n        if n % 2 == 0:\n            n = n // 2\n        else:\n"
        f"            n = 3 * n {'+' if by > 0 else '-'} 1\n    return n"
    )
    return code, f"{start}", _reaches(start, lambda n: n // 2 if n % 2 == 0 else 3 * n + by, 1)


def _happy(rng: Random) -> Member:
    """Sums of squared digits: happy numbers come to 1."""
    start = rng.randint(2, 99)
    code = (
        "def squares(n):\n    total = 0\n    while n > 0:\n        total += (n % 10) ** 2\n        n //= 10\n"
        "    return total\n\ndef f(n):\n    while n != 1:\n        n = squares(n)\n    return n"
    )
    return code, f"{start}", _reaches(start, lambda n: sum(int(digit) ** 2 for digit in str(n)), 1)


def _links(rng: Random) -> Member:
    """Follows links from place to place until one leads nowhere."""
    size = rng.randint(3, 7)
    links = [rng.choice([-1, *range(size)]) for _ in range(size)]
    code = "def f(links, at):\n    while at >= 0:\n        at = links[at]\n    return at"
    start = rng.randrange(size)
    return code, f"{links}, {start}", _reaches(start, lambda at: links[at] if at >= 0 else -1, -1)


def _rotation(rng: Random) -> Member:
    """Turns a list round until a value is first."""
    values = [rng.randint(0, 6) for _ in range(rng.randint(2, 5))]
    wanted = rng.randint(0, 6)
    code = f"def f(xs):\n    while xs[0] != {wanted}:\n        xs.append(xs.pop(0))\n    return xs"
    return code, f"{values}", wanted in values


def _meeting(rng: Random) -> Member:
    """Two walkers on one line that meet, or pass by."""
    a, b, p, q = rng.randint(0, 5), rng.randint(10, 30), rng.randint(2, 6), rng.randint(1, 4)
    code = f"def f(a, b):\n    while a != b:\n        a += {p}\n        b += {q}\n    return a"
    return code, f"{a}, {b}", p > q and (b - a) % (p - q) == 0


def _subtraction(rng: Random) -> Member:
    """The greatest common divisor by subtraction, which a zero spoils."""
    a, b = rng.randint(1, 20), rng.choice([0, rng.randint(1, 20)])
    code = (
        "def f(a, b):\n    while a != b:\n        if a > b:\n            a -= b\n        else:\n"
        "            b -= a\n    return a"
    )
    return code, rng.choice([f"{a}, {b}", f"{b}, {a}"]), b > 0


def _search(rng: Random) -> Member:
    """A binary search that may forget to step past the middle."""
    values = sorted(rng.sample(range(1, 30), rng.randint(4, 7)))
    wanted, past = rng.randint(1, 30), rng.choice(["mid + 1", "mid"])
    code = (
        "def f(xs, x):\n    lo, hi = 0, len(xs)\n    while lo < hi:\n        mid = (lo + hi) // 2\n"
        f"        if xs[mid] < x:\n            lo = {past}\n        else:\n            hi = mid\n    return lo"
    )
    low, high, turns = 0, len(values), 0
    while low < high and turns < 20:
        middle, turns = (low + high) // 2, turns + 1
        low, high = (middle + (past != "mid"), high) if values[middle] < wanted else (low, middle)
    return code, f"{values}, {wanted}", low >= high


def _machine(rng: Random) -> Member:
    """A machine of two instructions: add to the register, or jump while it is not zero; the register wraps round."""
    size = rng.randint(2, 4)
    code = [rng.choice([("add", rng.choice([-1, 1, 2])), ("jump", rng.randrange(size))]) for _ in range(size)]
    text = (
        "def f(code):\n    at, r = 0, 3\n    while at < len(code):\n        op, n = code[at]\n        at += 1\n"
        "        if op == 'add':\n            r = (r + n) % 8\n        elif r != 0:\n            at = n\n    return r"
    )

    def step(state):
        at, register = state
        op, number = code[at]
        if op == "add":
            return at + 1, (register + number) % 8
        return (number if register else at + 1), register

    state, seen = (0, 3), set()
    while state[0] < size and state not in seen:
        seen.add(state)
        state = step(state)
    return text, f"{code}", state[0] >= size


def _reaches(state: int, step: Callable[[int], int], wanted: int) -> bool:
    """Whether the steps come to a value before they come back to an earlier one."""
    seen = set()
    while state != wanted and state not in seen:
        seen.add(state)
        state = step(state)
    return state == wanted


FAMILIES: dict[str, Callable[[Random], Member]] = {
    "step_over": _step_over,
    "towards": _towards,
    "residue": _residue,
    "generator": _generator,
    "collatz": _collatz,
    "happy": _happy,
    "links": _links,
    "rotation": _rotation,
    "meeting": _meeting,
    "subtraction": _subtraction,
    "search": _search,
    "machine": _machine,
}
