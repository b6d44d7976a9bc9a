"""How well a predicted trace matches the real one: the nine metrics of CWM paper Table 9, and what went wrong first.

Frames are aligned by position, frame i against frame i. A prediction that could not be
read to its end is a `Trace` of the frames before the break with `complete=False`.
"""

import ast
import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence, Set

from cwm_jax.tracing.language import resolve, to_json
from cwm_jax.tracing.trace import Frame, Trace

_STATES = ("call", "line")  # frames that show locals, the others show a value
METRICS = (
    "output_match",
    "valid_format",
    "state_exact",
    "action_exact",
    "valid_json",
    "state_key_match",
    "state_key_value_match",
    "state_tokens",
    "action_tokens",
)
CATEGORIES = (
    "branch after if/while",
    "for: loop over or not",
    "next line",
    "loop variable",
    "arithmetic value",
    "number value",
    "string value",
    "list value",
    "dict value",
    "comparison/bool value",
    "return value",
    "call arguments",
    "order of locals",
    "format",
    "stopped early",
    "ran on",
    "other",
)


def trace_metrics(predicted: Trace, actual: Trace, count_tokens: Callable[[str], int]) -> dict[str, float]:
    """The nine metrics for one trace, keyed by `METRICS`; shares from 0 to 1, the last two in tokens.

    Definitions as in the independent reproduction of CWM paper Table 9: surplus predicted frames
    cost nothing; a missing frame, or one with a value in place of locals or the reverse, counts 0, and one whose
    locals cannot be read (None) as a wrong state;
    `".."` is compared as written; the order of locals does not matter. `exact` is stricter.

    Raises:
      ValueError: `actual` is not a whole run, so that there is nothing to hold a prediction against.
    """
    if not actual.frames or not actual.complete:
        raise ValueError(
            f"the actual trace has {len(actual.frames)} frames, complete={actual.complete}, "
            f"verdict={actual.verdict!r}; measure on programs that return or raise"
        )
    pairs = [(_same_kind(_at(predicted, index), frame), frame) for index, frame in enumerate(actual.frames)]
    states = [(_state(guess), _state(frame)) for guess, frame in pairs if frame.locals is not None]
    both = [(guess, real) for guess, real in states if guess is not None]
    missed = [0.0] * (len(states) - len(both))
    return {
        "output_match": float(_same_outcome(predicted, actual)),
        "valid_format": float(predicted.complete),
        "state_exact": _mean([guess == real for guess, real in states]),
        "action_exact": _mean([guess is not None and guess.source == frame.source for guess, frame in pairs]),
        "valid_json": _mean([guess is not None for guess, _ in states]),
        "state_key_match": _mean([*missed, *(_jaccard(guess.keys(), real.keys()) for guess, real in both)]),
        "state_key_value_match": _mean([*missed, *(_jaccard(guess.items(), real.items()) for guess, real in both)]),
        "state_tokens": _mean([count_tokens(to_json(real)) for _, real in states]),
        "action_tokens": _mean([count_tokens(frame.source) for frame in actual.frames]),
    }


def macro_average(scores: Iterable[dict[str, float]]) -> dict[str, float]:
    """The mean of each metric over traces, every trace with the same weight.

    Raises:
      ValueError: there is no trace to average over.
    """
    scores = list(scores)
    if not scores:
        raise ValueError("no traces to average over: the test set is empty")
    return {name: _mean([score[name] for score in scores]) for name in scores[0]}


def frames_exact(predicted: Trace, actual: Trace) -> tuple[int, int]:
    """How many frames of `actual` the prediction has, exact in every part and in place, and how many there are."""
    return sum(map(Frame.__eq__, predicted.frames, actual.frames)), len(actual.frames)


def exact(predicted: Trace, actual: Trace) -> bool:
    """Whether every frame is exact, none is surplus, and both end alike."""
    return first_mismatch(predicted, actual) is None


def first_mismatch(predicted: Trace, actual: Trace) -> int | None:
    """Index of the first frame that is wrong, missing or surplus; None for an exact prediction.

    Where all frames are right but the prediction does not end there, it is the number of frames.
    """
    for index, (guess, frame) in enumerate(zip(predicted.frames, actual.frames)):
        if guess != frame:
            return index
    if len(predicted.frames) == len(actual.frames) and predicted.complete == actual.complete:
        return None
    return min(len(predicted.frames), len(actual.frames))


def failure_category(predicted: Trace, actual: Trace) -> str:
    """What went wrong first, one of `CATEGORIES`; our own grouping, read off the line whose effect was mispredicted.

    "format" means that the prediction cannot be read past its last right frame or breaks off there.

    Raises:
      ValueError: the prediction is exact.
    """
    index = first_mismatch(predicted, actual)
    if index is None:
        raise ValueError("the prediction is exact; ask for the category of failures only")
    guess, frame = _at(predicted, index), _at(actual, index)
    if guess is None:
        return "stopped early" if predicted.complete else "format"
    if guess.locals is None and guess.value is None:
        return "format"
    if frame is None:
        return "ran on"
    statement = _statement(_pending_source(actual.frames[:index]))
    if (guess.event, guess.source) != (frame.event, frame.source):
        return _flow_category(statement, guess, frame)
    if frame.event == "call":
        return "call arguments"
    if frame.event == "line":
        return _state_category(statement, _state(guess), _state(frame), resolve(actual)[index])
    return "return value" if frame.event == "return" else "other"


def _flow_category(statement: ast.stmt | None, guess: Frame, frame: Frame) -> str:
    events = {guess.event, frame.event}
    if events <= {"line", "return"}:  # a call or an exception is no matter of which way a header goes
        if isinstance(statement, ast.If | ast.While):
            return "branch after if/while"
        in_comprehension = len(events) == 2 and guess.source == frame.source and _loop_targets(statement)
        if isinstance(statement, ast.For | ast.AsyncFor) or in_comprehension:
            return "for: loop over or not"
    return "next line"


def _state_category(
    statement: ast.stmt | None, guess: dict[str, str], real: dict[str, str], full: dict[str, str]
) -> str:
    """The category of a wrong state at the right line; `full` is `real` with every `".."` resolved."""
    if guess == real:
        return "order of locals"
    name = next(name for name in [*real, *guess] if guess.get(name) != real.get(name))
    if name in _loop_targets(statement):
        return "loop variable"
    kind = _kind(full.get(name, guess.get(name)))
    if kind != "number":
        return kind
    return "arithmetic value" if _has_arithmetic(statement) else "number value"


def _kind(value: str) -> str:
    """The category of a value by its `repr`; "number" where the statement has to decide."""
    try:
        node = parsed(value, "eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return "other"
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    if isinstance(node, ast.List | ast.Tuple):
        return "list value"
    if isinstance(node, ast.Dict | ast.Set):
        return "dict value"
    if not isinstance(node, ast.Constant):
        return "other"
    kinds = {bool: "comparison/bool value", int: "number", float: "number", str: "string value", bytes: "string value"}
    return kinds.get(type(node.value), "other")


def _has_arithmetic(statement: ast.stmt | None) -> bool:
    return statement is not None and any(isinstance(node, ast.BinOp | ast.AugAssign) for node in ast.walk(statement))


def _loop_targets(statement: ast.stmt | None) -> set[str]:
    """Names that a `for` in the statement binds, comprehensions included."""
    loops = (ast.For, ast.AsyncFor, ast.comprehension)
    targets = [node.target for node in ast.walk(statement or ast.Pass()) if isinstance(node, loops)]
    return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}


def _pending_source(frames: Sequence[Frame]) -> str:
    """The line under way when the next frame comes; after a callee returned, its caller's line."""
    scopes = [""]
    for frame in frames:
        if frame.event == "call":
            scopes.append(frame.source)
        elif frame.event == "return" and len(scopes) > 1:
            scopes.pop()
        else:
            scopes[-1] = frame.source
    return scopes[-1]


def _statement(source: str) -> ast.stmt | None:
    """The statement on one line, a header given an empty body; None where the line is part of a longer statement."""
    text = source.strip()
    if text.startswith("elif"):
        text = text.removeprefix("el")
    for candidate in (text, f"{text} pass"):
        try:
            return next(iter(parsed(candidate, "exec").body), None)
        except (SyntaxError, ValueError):
            continue
    return None


def _same_outcome(predicted: Trace, actual: Trace) -> bool:
    """Whether the entry ends alike: returned with an equal value, or raised the same."""
    if not predicted.complete or not predicted.frames:
        return False
    (guess_event, guess), (real_event, real) = _outcome(predicted), _outcome(actual)
    return guess_event == real_event and (guess == real or equal_values(guess, real))


def _outcome(trace: Trace) -> tuple[str, str | None]:
    """How the entry was left: an exception that the last return frame only passes on counts as raised."""
    last = trace.frames[-1]
    if last.event == "return" and len(trace.frames) > 1 and trace.frames[-2].event == "exception":
        last = trace.frames[-2]
    return last.event, last.value


def equal_values(left: str, right: str) -> bool:
    """Whether two texts are literals of equal values; nothing is run."""
    try:
        return ast.literal_eval(parsed(left, "eval")) == ast.literal_eval(parsed(right, "eval"))
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return False


def parsed(text: str, mode: str) -> ast.AST:
    """`ast.parse` without the warnings that odd predicted literals would print."""
    with warnings.catch_warnings(action="ignore"):
        return ast.parse(text, mode=mode)


def _at(trace: Trace, index: int) -> Frame | None:
    return trace.frames[index] if index < len(trace.frames) else None


def _same_kind(guess: Frame | None, frame: Frame) -> Frame | None:
    return guess if guess is not None and (guess.event in _STATES) == (frame.event in _STATES) else None


def _state(frame: Frame | None) -> dict[str, str] | None:
    return None if frame is None or frame.locals is None else dict(frame.locals)


def _jaccard(left: Set[Hashable], right: Set[Hashable]) -> float:
    return len(left & right) / len(left | right) if left or right else 1.0


def _mean(values: Sequence[float]) -> float:
    """Their mean, as a float; 1 for none, so that a trace without states cannot fail on them."""
    return sum(values) / len(values) if values else 1.0
