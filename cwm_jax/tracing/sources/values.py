"""Random names, literals and inputs that the generated programs are made of.

Values are small on purpose: what a tiny model has to learn is how programs run,
not long arithmetic. All draws go through the `random.Random` that is passed in.
"""

from random import Random

LETTERS = "abcdefghijklmnopqrstuvwxyz"
# fmt: off
WORDS = [
    "apple", "banana", "cherry", "letter", "hello", "mirror", "coffee", "summer", "winter", "python", "tracer",
    "parrot", "kitten", "pepper", "bottle", "rabbit", "carrot", "butter", "yellow", "purple", "orange", "silver",
    "garden", "planet", "rocket", "button", "dinner", "puzzle", "balloon", "mississippi", "raspberry",
    "blueberry", "gooseberry", "cranberry", "committee", "bookkeeper", "tomorrow", "addresses",
]
# fmt: on

NAMES = {
    "int": ["n", "k", "x", "y", "limit", "start", "step", "size", "a", "b", "num", "value"],
    "str": ["s", "word", "text", "name", "line", "phrase"],
    "letter": ["letter", "ch", "c", "char", "target"],
    "list": ["items", "nums", "values", "xs", "data", "numbers"],
    "counter": ["count", "total", "result", "acc", "score", "hits", "found", "m", "t"],
    "built": ["out", "res", "built", "answer", "joined", "parts"],
    "dict": ["counts", "seen", "table", "freq"],
    "loop": ["i", "j", "ch", "c", "x", "item", "v", "num", "char", "letter"],
    "function": ["f", "count_letters", "solve", "process", "compute", "scan", "check", "collect", "summarize", "walk"],
    "helper": ["helper", "is_match", "g", "apply", "combine", "transform", "format_answer", "score_of", "test"],
}


class Namer:
    """Hands out names that are not yet taken in one function."""

    def __init__(self, rng: Random, taken: set[str] = frozenset()):
        self._rng = rng
        self._taken = set(taken)

    def __call__(self, kind: str) -> str:
        free = [name for name in NAMES[kind] if name not in self._taken]
        name = self._rng.choice(free) if free else f"{NAMES[kind][0]}{len(self._taken)}"
        self._taken.add(name)
        return name


def word(rng: Random, longest: int = 8) -> str:
    """A word with repeated letters more often than not, so that counting has something to count."""
    if rng.random() < 0.25:
        chosen = rng.choice(WORDS)
        if len(chosen) <= longest:
            return chosen
    alphabet = rng.sample(LETTERS, rng.randint(2, 6))
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(1, longest)))


def letter_for(rng: Random, text: str) -> str:
    """A letter, mostly one that occurs in `text`."""
    return rng.choice(text) if text and rng.random() < 0.8 else rng.choice(LETTERS)


def int_list(rng: Random, longest: int = 6, low: int = 0, high: int = 12) -> list[int]:
    return [rng.randint(low, high) for _ in range(rng.randint(1, longest))]
