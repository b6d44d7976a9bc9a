"""What the compact form reads off the source of a context: lines of code, labels, flow of control, workings."""

import ast
import io
import tokenize
import warnings
from functools import cached_property, lru_cache

from cwm_jax.tracing.compact.symbols import LINE_LABELS, MAX_LINES
from cwm_jax.tracing.compact.workings import Workings
from cwm_jax.tracing.compact.writes import Writes
from cwm_jax.tracing.flow import Flow
from cwm_jax.tracing.language import marked_line, source_lines


class Source:
    """A context, parsed.

    Attributes:
      code: the physical lines that a frame may show, by number, without indentation and comments. Docstrings of
        functions do not run, and no event stops at `else:`.
      labels: the label of each of these lines.
      start: the number of the marked line.
      shown: every physical line as frames show it; the first is number 1.
    """

    def __init__(self, context: str):
        """Parses `context`.

        Raises:
          ValueError: it does not parse, marks no function, or has more lines of code than there are labels.
        """
        self.shown = source_lines(context)
        self._lines = "".join(self.shown).removeprefix("\ufeff").split("\n")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python's opinions on the code of others
                self._tree = ast.parse("\n".join(self._lines))
            self.code = _code(self._lines, self._tree)
        except (SyntaxError, tokenize.TokenError, RecursionError, MemoryError) as error:
            raise ValueError(f"the program does not parse: {error}") from None
        if len(self.code) > MAX_LINES:
            raise ValueError(f"the program has {len(self.code)} lines of code; the model knows {MAX_LINES} labels")
        self.labels = dict(zip(self.code, LINE_LABELS))
        self.start = marked_line(context)
        if self.start not in self.code:
            raise ValueError("no line of code carries the start marker `# << START_OF_TRACE`")

    @cached_property
    def flow(self) -> Flow:
        return Flow(self._tree)

    @cached_property
    def workings(self) -> Workings:
        return Workings(self._tree, self._lines)

    @cached_property
    def writes(self) -> Writes:
        return Writes(self._tree)


@lru_cache(maxsize=16)
def read_source(context: str) -> Source:
    """The `Source` of a context; the last few are kept, as a context is asked for by each of its episodes."""
    return Source(context)


def _code(lines: list[str], tree: ast.Module) -> dict[int, str]:
    lines = list(lines)
    for token in tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(tree):
        # A docstring alone in a body is a line that runs, as is one in a class.
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and len(node.body) > 1:
            docstring, after = node.body[0], node.body[1]
            first, last = docstring.lineno, docstring.end_lineno
            alone = lines[first - 1].strip()[:1] in "rRuU'\"" and lines[last - 1].rstrip()[-1:] in "'\""
            if ast.get_docstring(node) is not None and alone and last < after.lineno:
                lines[first - 1 : last] = [""] * (last + 1 - first)
    codes = enumerate(map(str.strip, lines), start=1)
    return {number: code for number, code in codes if code and code != "else:"}
