"""The debugger in a terminal: pdb's commands and habits over a session."""

import inspect
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from cwm_jax.report.figures import percent
from cwm_jax.report.progress import progress
from cwm_jax.sandbox import SandboxError, SandboxMissing
from cwm_jax.worldmodel.debugger import telling
from cwm_jax.worldmodel.debugger.evaluate import CannotEvaluate
from cwm_jax.worldmodel.debugger.looking import Looking, number
from cwm_jax.worldmodel.debugger.outcomes import Refused, Stop
from cwm_jax.worldmodel.debugger.session import Session

_ASSIGNMENT = re.compile(r"\s*(\w+)\s*=(?!=)\s*(.+)", re.DOTALL)
_PATIENCE = 2.0  # seconds before a command shows its progress
_TOLD = (ValueError, OSError, SandboxMissing, SandboxError)  # errors whose message says it all
_STARTS = {"call": "--Call--", "return": "--Return--"}


class Terminal(Looking):
    """Reads commands and shows where they lead. `cmdloop()` runs it; `onecmd(line)` gives it one command."""

    prompt = "(cwm) "
    doc_header = "Commands (h COMMAND tells more; an empty line repeats the last one):"

    def __init__(
        self,
        session: Session,
        stdin: IO[str] | None = None,
        stdout: IO[str] | None = None,
        greet: bool = True,
        watch: Callable[[int], bool] | None = None,
    ):
        """Takes over a session.

        Args:
          watch: what the session's `watch` is; None: a bar for commands that take long.
        """
        super().__init__(session, stdin, stdout)
        self._displayed: dict[str, str] = {}  # by expression what was shown last
        session.watch = watch or self._watch
        if greet:
            self._show()

    # Forwards.

    def do_step(self, argument: str) -> None:
        """s(tep): one frame on, into calls."""
        self._after(self._session.step())

    def do_next(self, argument: str) -> None:
        """n(ext): on to the next line of this function; calls are stepped over, each in one prediction."""
        self._after(self._session.next())

    def do_return(self, argument: str) -> None:
        """r(eturn): on to where this function returns."""
        self._after(self._session.return_())

    def do_out(self, argument: str) -> None:
        """o(ut): as return, and one frame on, in the caller."""
        self._after(self._session.out())

    def do_finish(self, argument: str) -> None:
        """fin(ish): on to where this function returns, in one prediction."""
        self._after(self._session.finish())

    def do_until(self, argument: str) -> None:
        """unt(il) [LINE]: on to a line with a greater number (or from LINE on) of this function, or its return."""
        self._after(self._session.until(self._line(argument) if argument else None))

    def do_continue(self, argument: str) -> None:
        """c(ontinue): on to the next breakpoint or the end."""
        self._after(self._session.continue_())

    # Backwards.

    def do_back(self, argument: str) -> None:
        """back [COUNT]: undo the last command that moved or changed something (or COUNT of them)."""
        self._session.back(number(argument) if argument else 1)
        self._after(None)

    def do_rstep(self, argument: str) -> None:
        """rs, rstep: one frame back."""
        self._after(self._session.reverse_step())

    def do_rcontinue(self, argument: str) -> None:
        """rc, rcontinue: back to the last breakpoint before, or to the start."""
        self._after(self._session.reverse_continue())

    def do_reset(self, argument: str) -> None:
        """reset, restart, run: back to the first frame; breakpoints stay."""
        self._after(self._session.reset())

    # What if.

    def do_jump(self, argument: str) -> None:
        """j(ump) LINE: have this line run next."""
        self._after(self._session.jump(self._line(argument)))

    def do_set(self, argument: str) -> None:
        """set NAME REPR, or !NAME = EXPRESSION: change a local, or __return__, and go on from there.

        `!x = y + 1` works the expression out; `set p Point(1, 2)` takes the text as the repr.
        """
        name, _, value = argument.partition(" ")
        if not value:
            raise Refused("set takes a name and a repr, such as: set xs [1, 2]")
        self._after(self._session.assign(name, value.strip()))

    def do_futures(self, argument: str) -> None:
        """futures [COUNT [TEMPERATURE [SEED]]]: draw ways in which this function may go on until it returns."""
        count, temperature, seed = [*argument.split(), "", "", ""][:3]
        drawn = self._session.futures(
            number(count) if count else 5,
            number(temperature, float) if temperature else 1.0,
            number(seed or "0", int),
        )
        for index, future in enumerate(drawn, start=1):
            self._say(f"{index:>3}  {percent(future.probability):>7}  {telling.future(future)}")
        self._say("take NUMBER goes along one")

    def do_take(self, argument: str) -> None:
        """take NUMBER: go along one of the futures drawn last."""
        self._after(self._session.take(number(argument) - 1))

    def do_verify(self, argument: str) -> None:
        """verify: run the program in the sandbox and mark the first frame where prediction and run part."""
        parting = self._session.verify()
        if parting.index is None:
            self._say(f"✓ all {parting.frames} frames so far are those of the real run; {parting.run}")
            return
        self._say(f"✗ frame {parting.index + 1} of {parting.frames} parts from the real run; {parting.run}")
        shown = self._session.frames[parting.index].frame
        self._say(f"  here  {telling.frame(self._session.program, shown)}")
        real = "the run had ended" if parting.real is None else telling.frame(self._session.program, parting.real)
        self._say(f"  real  {real}")
        if parting.changed:
            self._say("  (you had changed something by then, which the real run cannot do)")

    # Breakpoints.

    def do_break(self, argument: str, temporary: bool = False) -> None:
        """b(reak) [LINE|FUNCTION][, CONDITION], or b if CONDITION: stop there, or when it becomes true; alone: list."""
        session = self._session
        if not argument:
            for each in session.breakpoints.by_number.values():
                self._say(telling.breakpoint_(session.program, each))
            return
        line = None
        condition = argument[3:] if argument.startswith("if ") else ""
        if not condition:
            place, _, condition = argument.partition(",")
            file, _, place = place.strip().rpartition(":")
            if file and Path(file).name != Path(session.program.path).name:
                raise Refused(f"{file} is not the program that is debugged; name a line of {session.program.path}")
            line = session.program.function_line(place.strip()) or self._line(place)
            if not session.program.stops(line):
                raise Refused(f"no code stands at line {place}; name a line of a function")
        added = session.breakpoints.add(line, condition, temporary)
        self._say(f"Breakpoint {telling.breakpoint_(session.program, added)}")

    def do_tbreak(self, argument: str) -> None:
        """tbreak: as break, gone once it was hit."""
        self.do_break(argument, temporary=True)

    def do_condition(self, argument: str) -> None:
        """condition NUMBER [CONDITION]: have a breakpoint stop only if this holds; without one, always."""
        which, _, condition = argument.partition(" ")
        self._changed(which, condition=condition.strip())

    def do_enable(self, argument: str) -> None:
        """enable NUMBER ...: have these breakpoints stop again."""
        self._changed(argument, enabled=True)

    def do_disable(self, argument: str) -> None:
        """disable NUMBER ...: have these breakpoints not stop, and keep them."""
        self._changed(argument, enabled=False)

    def do_clear(self, argument: str) -> None:
        """cl(ear) [NUMBER ...]: remove these breakpoints, or all."""
        numbers = [number(word) for word in argument.split()] or list(self._session.breakpoints.by_number)
        for each in numbers:
            self._session.breakpoints.remove(each)
            self._say(f"Deleted breakpoint {each}")

    def do_display(self, argument: str) -> None:
        """display [EXPRESSION]: show its value at every stop where it is another than before; alone: those shown."""
        if argument:
            self._displayed[argument] = ""
        self._display(always=True)

    def do_undisplay(self, argument: str) -> None:
        """undisplay [EXPRESSION]: show it no longer; alone: none."""
        for expression in [argument] if argument else list(self._displayed):
            if self._displayed.pop(expression, None) is None:
                raise Refused(f"{expression!r} is not displayed")

    def do_quit(self, argument: str) -> bool:
        """q(uit), exit: leave."""
        return True

    # The habits of pdb.

    do_s, do_n, do_r, do_o, do_unt, do_c = do_step, do_next, do_return, do_out, do_until, do_continue
    do_cont, do_fin, do_rs, do_rc, do_restart, do_run = (
        do_continue,
        do_finish,
        do_rstep,
        do_rcontinue,
        do_reset,
        do_reset,
    )
    do_j, do_b, do_cl, do_q, do_exit = do_jump, do_break, do_clear, do_quit, do_quit

    def do_EOF(self, argument: str) -> bool:
        """End of input: leave."""
        self._say("")
        return True

    def onecmd(self, line: str) -> bool | None:
        """Runs one command; what goes wrong is told, and leaves the session as it was."""
        self._began, self._bar = time.monotonic(), None
        with ExitStack() as self._stack:
            try:
                return super().onecmd(line)
            except Exception as error:  # whatever it is, the session stays
                self._say(f"*** {error}" if isinstance(error, _TOLD) else f"*** {type(error).__name__}: {error}")
            except KeyboardInterrupt:
                self._say("*** interrupted; nothing has changed")
        return None

    def default(self, line: str) -> None:
        """`!NAME = EXPRESSION`, or an expression to print; `!` may be left out where no command has that name."""
        statement = line.removeprefix("!").strip()
        if assignment := _ASSIGNMENT.fullmatch(statement):
            name, expression = assignment.groups()
            self._after(self._session.assign(name, repr(self._session.evaluate(expression))))
        else:
            self.do_print(statement)

    def do_help(self, argument: str) -> None:
        """h(elp) [COMMAND]: what there is, or what COMMAND does."""
        if found := getattr(self, f"do_{argument}", None) if argument else None:
            self._say(inspect.getdoc(found))
        else:
            super().do_help(argument)

    do_h = do_help

    def get_names(self) -> list[str]:
        """As `cmd` has it, without the short forms."""
        return [name for name in dir(type(self)) if getattr(getattr(type(self), name), "__name__", name) == name]

    def parseline(self, line: str) -> tuple[str | None, str | None, str]:
        """As `cmd` has it, but `!` begins a statement, not a shell command."""
        return (None, None, line) if line.lstrip().startswith("!") else super().parseline(line)

    def _after(self, stop: Stop | None) -> None:
        self._level, self._listed = -1, None
        if stop is not None and stop.why == "breakpoint":
            self._say(f"Breakpoint {stop.breakpoint}{f' ({stop.note})' if stop.note else ''}")
        elif stop is not None and stop.note:
            self._say(f"*** the prediction breaks off: {stop.note}" if stop.why == "broken" else f"({stop.note})")
        self._show()
        self._display()
        if stop is not None and stop.why == "end":
            self._say("The program has returned.")

    def _changed(self, numbers: str, **fields: str | bool) -> None:
        for each in numbers.split():
            changed = self._session.breakpoints.change(number(each), **fields)
            self._say(f"Breakpoint {telling.breakpoint_(self._session.program, changed)}")

    def _display(self, always: bool = False) -> None:
        for expression, before in self._displayed.items():
            try:
                now = repr(self._session.evaluate(expression))
            except CannotEvaluate:
                now = "unknown here"
            if always or now != before:
                self._say(f"display {expression}: {now}")
            self._displayed[expression] = now

    def _show(self) -> None:
        frame, last = self._session.at, self._session.frames[-1]
        if frame.event == "exception":
            self._say(frame.value)
        elif frame.event in _STARTS:
            self._say(_STARTS[frame.event])
        value = f"->{frame.value}" if frame.event == "return" else ""
        self._say(f"> {telling.place(self._session, -1)}{value}")
        self._say(f"-> {frame.source.strip()}{self._percent(last.sure)}")

    def _watch(self, count: int) -> bool:
        if self._bar is None and time.monotonic() - self._began > _PATIENCE:
            self._bar = self._stack.enter_context(progress("predicting", None, unit="frames"))
        if self._bar is not None:
            self._bar.update(count)
        return False
