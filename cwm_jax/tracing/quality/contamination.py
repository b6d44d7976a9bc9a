"""Decontamination: programs that a named benchmark holds stay out of training data. Only hashes are kept.

A program counts as seen if one of its functions is a benchmark's, name for name or renamed (hash of the normal form),
or if most of a benchmark item's n-grams stand in it: of its source, or of one of its asserts. Repositories are
judged by name, since SWE-bench asks about whole repositories.
"""

import ast
import builtins
import copy
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from cwm_jax.tracing.sources.normal import bare, normalise

# All repositories of SWE-bench's test split, which are those of SWE-bench Verified, and then of its dev split
# (Jimenez et al. 2024). CWM leaves out these and their forks (paper §2.3).
SWE_BENCH = (
    "astropy/astropy", "django/django", "matplotlib/matplotlib", "mwaskom/seaborn", "pallets/flask", "psf/requests",
    "pydata/xarray", "pylint-dev/pylint", "pytest-dev/pytest", "scikit-learn/scikit-learn", "sphinx-doc/sphinx",
    "sympy/sympy",
    "marshmallow-code/marshmallow", "pvlib/pvlib-python", "pydicom/pydicom", "pylint-dev/astroid", "pyvista/pyvista",
    "sqlfluff/sqlfluff",
)  # fmt: skip
_TELLING = 20  # nodes of a function that few would write alike; our choice: `return a + b` of two arguments has 9
_DISTRIBUTIONS = {"pvlib"}  # on PyPI under another name than on GitHub


def is_swe_bench(repository: str) -> bool:
    """Whether a repository is one of SWE-bench's, by its last name alone: forks and sdists keep that.

    Args:
      repository: `owner/name`, an address, or a distribution's name, in any spelling that PyPI takes for one (PEP 503).
    """
    return _project(repository) in {*map(_project, SWE_BENCH), *_DISTRIBUTIONS}


def _project(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.rstrip("/").removesuffix(".git").rpartition("/")[2].lower())


@dataclass(frozen=True)
class Item:
    """What a benchmark's item shows.

    Attributes:
      code: its solution.
      asserts: what is said of the solution, as Python text.
    """

    code: str
    asserts: tuple[str, ...]


def _cruxeval(row: dict) -> Item:
    return Item(row["code"], (f"assert f({row['input']}) == {row['output']}",))


def _humaneval(row: dict) -> Item:
    return Item(row["prompt"] + row["canonical_solution"], tuple(_asserts_of(_parsed(row["test"]))))


def _mbpp(row: dict) -> Item:
    return Item(row["code"], (*row["test_list"], *row.get("challenge_test_list", ())))


_BENCHMARKS: dict[str, Callable[[dict], Item]] = {"cruxeval": _cruxeval, "humaneval": _humaneval, "mbpp": _mbpp}


def read_benchmark(name: str, path: Path) -> list[Item]:
    """The items of a benchmark's own JSON lines file.

    Args:
      name: `cruxeval`, `humaneval` or `mbpp`.

    Raises:
      ValueError: no such benchmark; a line that is not JSON or lacks a field.
    """
    if name not in _BENCHMARKS:
        raise ValueError(f"benchmark {name!r} is unknown; choose from {', '.join(_BENCHMARKS)}")
    items = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        try:
            if line.strip():
                items.append(_BENCHMARKS[name](json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number} is no item of {name} ({error!r}); give its own file") from None
    return items


@dataclass(frozen=True)
class Benchmark:
    """A benchmark whose programs stay out of training data.

    Attributes:
      name: `cruxeval`, `humaneval` or `mbpp`.
      path: its own JSON lines file.
    """

    name: str
    path: str


@lru_cache(1)
def decontamination(benchmarks: tuple[Benchmark, ...]) -> "Decontamination":
    """The filter against these; made once in a process. Raises as `Decontamination.against`."""
    return Decontamination.against({one.name: Path(one.path) for one in benchmarks})


@dataclass(frozen=True)
class Decontamination:
    """The filter; by itself against nothing. `Decontamination.against(...)` makes one, and it pickles.

    Attributes:
      functions: hash of each benchmark function's normal form, and its benchmark.
      grams: hash of each n-gram, and the entries that hold it. An entry is one item's source or one assert.
      entries: benchmark and number of n-grams of each entry.
      words: tokens of an n-gram; 13 is GPT-3's (Brown et al. 2020, App. C). An entry with fewer is not looked for.
      share: of an entry's n-grams that must be there; our choice, so that no single idiom drops a program.
    """

    functions: Mapping[str, str] = field(default_factory=dict)
    grams: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    entries: tuple[tuple[str, int], ...] = ()
    words: int = 13
    share: float = 0.6

    @classmethod
    def against(cls, paths: Mapping[str, Path], words: int = 13, share: float = 0.6) -> "Decontamination":
        """From benchmark files, by name.

        Raises:
          ValueError: as `read_benchmark`; no n-gram or no share.
          OSError: a file that cannot be read.
        """
        if words < 1 or not 0 < share <= 1:
            raise ValueError(f"words={words} must be at least 1 and share={share} in (0, 1]")
        functions: dict[str, str] = {}
        grams: dict[str, tuple[int, ...]] = {}
        entries: list[tuple[str, int]] = []
        for benchmark, path in paths.items():
            for item in read_benchmark(benchmark, path):
                tree = _parsed(item.code)
                functions |= {mark: benchmark for mark in _functions(tree)}
                for found in _entries(tree, item.code, item.asserts, words):
                    for gram in found:
                        grams[gram] = (*grams.get(gram, ()), len(entries))
                    entries.append((benchmark, len(found)))
        return cls(functions, grams, tuple(entries), words, share)

    def benchmark_in(self, code: str, asserts: Iterable[str] = ()) -> str:
        """The benchmark that the program holds an item of; empty if none.

        Args:
          code: a program or a trace context.
          asserts: what else is known of it, as Python text, such as a traced call: `"assert f(1) == 2"`.
        """
        if not self.functions and not self.grams:
            return ""
        tree = _parsed(code)
        for mark in _functions(tree):
            if mark in self.functions:
                return self.functions[mark]
        held = set().union(*_entries(tree, code, (*_asserts_of(tree), *asserts), self.words))
        counts = Counter(entry for gram in held for entry in self.grams.get(gram, ()))
        found = [entry for entry, count in counts.items() if count >= self.share * self.entries[entry][1]]
        return self.entries[min(found)][0] if found else ""


def _functions(tree: ast.Module) -> Iterator[str]:
    """A hash for each function, by itself; functions that many would write alike are left out."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            alone = copy.deepcopy(node)
            alone.decorator_list = []
            form = normalise(ast.Module([alone], []))
            if sum(not isinstance(part, ast.expr_context) for part in ast.walk(form)) >= _TELLING:
                yield _hash(ast.dump(form))


def _entries(tree: ast.Module, code: str, asserts: Iterable[str], words: int) -> Iterator[set[str]]:
    """The hashed n-grams of the source, then of each assert; one of fewer than `words` tokens has none."""
    text = ast.unparse(bare(tree)) if tree.body else code
    for kind, piece in [("source", text), *(("assert", _claim(text)) for text in asserts)]:
        tokens = re.findall(r"\w+|[^\w\s]", piece)
        if len(tokens) >= words:
            yield {_hash(" ".join((kind, *tokens[at : at + words]))) for at in range(len(tokens) - words + 1)}


def _asserts_of(tree: ast.Module) -> Iterator[str]:
    return (ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Assert))


def _claim(text: str) -> str:
    """An assert in one layout, with its message gone and the function that it calls unnamed."""
    tree = _parsed(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not hasattr(builtins, node.func.id):
            node.func.id = "_"
        elif isinstance(node, ast.Assert):
            node.msg = None
    return ast.unparse(tree) if tree.body else text


def _parsed(code: str) -> ast.Module:
    """The tree; an empty one for text that is no Python."""
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]
