"""Where a session stops: lines, conditions over the predicted locals, or both."""

from dataclasses import dataclass, field, replace

from cwm_jax.tracing import Frame
from cwm_jax.worldmodel.debugger.evaluate import CannotEvaluate, check, evaluate


@dataclass(frozen=True)
class Breakpoint:
    """A place or a condition to stop at.

    Attributes:
      number: counts from 1, as pdb's do.
      line: of the context; None stops at any line where the condition becomes true.
      condition: an expression over the locals; "" for none.
      temporary: whether it goes away when it was hit.
      enabled: whether it stops at all.
    """

    number: int
    line: int | None = None
    condition: str = ""
    temporary: bool = False
    enabled: bool = True


@dataclass
class Breakpoints:
    """All breakpoints of a session, by number."""

    by_number: dict[int, Breakpoint] = field(default_factory=dict)
    _last: int = 0

    def add(self, line: int | None = None, condition: str = "", temporary: bool = False) -> Breakpoint:
        """A new one.

        Raises:
          CannotEvaluate: the condition is no expression.
          ValueError: it has neither a line nor a condition.
        """
        if line is None and not condition:
            raise ValueError("a breakpoint needs a line or a condition")
        self._last += 1
        number = self._last
        self.by_number[number] = Breakpoint(number, line, check(condition) if condition else "", temporary)
        return self.by_number[number]

    def change(self, number: int, **fields: str | bool) -> Breakpoint:
        """Has it another condition, or be enabled or not; raises as `add`, and ValueError where there is none."""
        line, condition = self._known(number).line, fields.get("condition")
        if condition == "" and line is None:
            raise ValueError(f"breakpoint {number} has no line, so it needs a condition")
        if condition:
            check(condition)
        self.by_number[number] = replace(self.by_number[number], **fields)
        return self.by_number[number]

    def remove(self, number: int) -> Breakpoint:
        """Raises ValueError where there is none of that number."""
        self._known(number)
        return self.by_number.pop(number)

    def _known(self, number: int) -> Breakpoint:
        if number not in self.by_number:
            known = ", ".join(map(str, self.by_number)) or "none"
            raise ValueError(f"there is no breakpoint {number}; there are: {known}")
        return self.by_number[number]

    def hit(self, frame: Frame, before: dict[str, str], state: dict[str, str]) -> tuple[Breakpoint, str] | None:
        """The first one that a frame hits, and a note where its condition has no value.

        As in pdb, a condition that cannot be evaluated stops at its line; one without a line does not. A
        condition without a line stops where it was not true one frame before.

        Args:
          frame: a call or line; others hit none.
          before: the locals of the scope one frame before; empty where it begins.
          state: its locals now.
        """
        if frame.event not in ("call", "line"):
            return None
        for breakpoint_ in self.by_number.values():
            if not breakpoint_.enabled or breakpoint_.line not in (None, frame.line):
                continue
            holds, note = _holds(breakpoint_.condition, state)
            if breakpoint_.line is None:
                holds = holds and not note and _holds(breakpoint_.condition, before) != (True, "")
            if holds:
                return breakpoint_, note
        return None


def _holds(condition: str, state: dict[str, str]) -> tuple[bool, str]:
    """Whether a condition is true, and why that is unknown; an unknown one counts as true."""
    if not condition:
        return True, ""
    try:
        return bool(evaluate(condition, state)), ""
    except CannotEvaluate as error:
        return True, str(error)
