"""Duplicates: exact ones by the normal form of code and inputs, near ones by MinHash over the tree's shingles.

Both are found by names that a program carries: one for its exact form, one for each band of its MinHash signature.
Of all programs that share a name the one with the smallest key stays, and a program stays if it is the smallest under
every name it carries. That rule looks at the set alone: the smallest key under a name may be gathered in any order, on
any number of workers, and two gatherings merge by `min`. No two programs that stay share a name, and each group
of duplicates keeps at least its smallest. We chose it over connected components, which join programs that are nothing
alike over a chain of neighbours and need a global pass, and over first come, first kept, which needs an order.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cwm_jax.tracing.sources.normal import is_numbered, normalise, parse_unmarked


def exact_name(code: str, inputs: Sequence[str] = ()) -> str:
    """A hash that equal programs with equal inputs share: names, layout, comments and docstrings do not count.

    Args:
      code: a program or a whole trace context; the call that a context's `main` makes counts as its input.
      inputs: in order, what else decides what the program does: argument lists as Python text, or stdin.

    Raises:
      SyntaxError, ValueError, RecursionError: what `ast.parse` raises for text that is no program.
    """
    parts = [ast.dump(normalise(ast.parse(code))), *map(_input, inputs)]
    return _hash(_bytes("".join(f"{len(part)}:{part}" for part in parts)))


@dataclass(frozen=True)
class NearDuplicates:
    """Names that near duplicates share, by MinHash with bands (Broder 1997; Leskovec et al., "Mining of Massive
    Datasets", 3.4). A pair with Jaccard similarity s shares one with probability 1 - (1 - s**rows)**bands.

    Attributes:
      bands, rows: of the signature. Our choice: a pair at 0.5 shares one with 6 %, at 0.6 with 24 %, at 0.7 with
        61 %, at 0.8 with 95 %, at 0.9 with 99.99 %. The Stack's cleaning aims at 0.85 (Kocetkov et al. 2022).
      shingle: nodes of the tree, in the order of the text, that make one shingle; our choice, about one statement.
    """

    bands: int = 16
    rows: int = 8
    shingle: int = 7

    def __post_init__(self):
        for field in ("bands", "rows", "shingle"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}={getattr(self, field)} must be at least 1")

    def names(self, code: str, inputs: Sequence[str] = ()) -> tuple[str, ...]:
        """The program's name in each band.

        Ask for a program with all its inputs at once: one program on two inputs is near itself.

        Args, Raises: as for `exact_name`, but for a trace context its `main` does not count.
        """
        from datasketch import MinHash  # brings scipy: 0.5 s that only this needs

        sketch = MinHash(self.bands * self.rows, seed=1, scheme="affine32")
        sketch.update_batch([_bytes(shingle) for shingle in self.shingles(code, inputs)])
        rows = sketch.hashvalues.astype("<u4").reshape(self.bands, self.rows)
        return tuple(f"{band}:{_hash(row.tobytes())}" for band, row in enumerate(rows))

    def shingles(self, code: str, inputs: Sequence[str] = ()) -> set[str]:
        """Runs of `shingle` nodes of the normal form, all names of the program's own alike, and each input as one.

        Our choice: an input is one shingle however long, lest programs be alike because their data are.
        """
        labels = list(_labels(normalise(parse_unmarked(code))))
        last = max(1, len(labels) - self.shingle + 1)
        runs = {" ".join(labels[start : start + self.shingle]) for start in range(last)}
        return runs | {f"input {_input(text)}" for text in inputs}


def smallest_keys(programs: Iterable[tuple[str, Iterable[str]]]) -> dict[str, str]:
    """The smallest key under each name, from `(key, names)` of programs; keys must be unique.

    Gatherings merge: `smallest_keys((key, [name]) for part in parts for name, key in part.items())`.
    """
    smallest: dict[str, str] = {}
    for key, names in programs:
        for name in names:
            smallest[name] = min(key, smallest.get(name, key))
    return smallest


def stays(key: str, names: Iterable[str], smallest: dict[str, str]) -> bool:
    """Whether this program is the one to keep, given `smallest_keys` of all programs.

    Raises:
      KeyError: a name that was not gathered.
    """
    return all(smallest[name] == key for name in names)


def _labels(tree: ast.AST) -> Iterator[str]:
    """One label for each node, in the order of the text: its kind and the plain values in it."""
    pending = [tree]
    while pending:
        node = pending.pop()
        values = [value for _, value in ast.iter_fields(node)]
        plain = ["#" if is_numbered(value) else repr(value) for value in values if _is_plain(value)]
        yield f"{type(node).__name__}({','.join(plain)})"
        pending += [child for child in reversed(list(ast.iter_child_nodes(node))) if _tells(child)]


def _is_plain(value: object) -> bool:
    return value is not None and not isinstance(value, (ast.AST, list))


def _tells(node: ast.AST) -> bool:
    return not isinstance(node, (ast.expr_context, ast.Module))


def _input(text: str) -> str:
    """An argument list without its layout; any other text, such as stdin, as it is."""
    try:
        return ast.dump(ast.parse(f"_({text}\n)", mode="eval"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # half a surrogate pair is no UTF-8


def _hash(data: bytes) -> str:
    """64 bits: among 200 million programs two share one by chance with probability 0.1 %."""
    return hashlib.sha256(data).hexdigest()[:16]
