"""The debugger in a terminal: pdb's commands and habits over a session."""

import cmd
import inspect
import re
import time
from contextlib import ExitStack
from typing import IO

from cwm_jax.report.figures import percent
from cwm_jax.report.progress import progress
from cwm_jax.sandbox import SandboxError, SandboxMissing
from cwm_jax.worldmodel.debugger import telling
from cwm_jax.worldmodel.debugger.outcomes import RETURN, Refused, Stop
from cwm_jax.worldmodel.debugger.session import Session

_ASSIGNMENT = re.compile(r"\s*(\w+)\s*=(?!=)\s*(.+)", re.DOTALL)
_AROUND = 5  # lines that `list` shows on either side
_PATIENCE = 2.0  # seconds before a command shows its progress
_STARTS = {"call": "--Call--", "return": "--Return--"}


class Terminal(cmd.Cmd):
    """Reads commands and shows where they lead. `cmdloop()` runs it; `onecmd(line)` gives it one command."""

    prompt = "(cwm) "
    doc_header = "Commands (h COMMAND tells more; an empty line repeats the last one):"

    def __init__(
        self, session: Session, stdin: IO[str] | None = None, stdout: IO[str] | None = None, greet: bool = True
    ):
        super().__init__(stdin=stdin, stdout=stdout)
        self.use_rawinput = stdin is None
        self._session = session
        self._level = -1  # of the scope that is looked at; the innermost is -1
        self._listed: int | None = None
        session.watch = self._watch
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
        self._session.back(_number(argument) if argument else 1)
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
            _number(count) if count else 5,
            _number(temperature, float) if temperature else 1.0,
            _number(seed or "0", int),
        )
        for number, future in enumerate(drawn, start=1):
            self._say(f"{number:>3}  {percent(future.probability):>7}  {telling.future(future)}")
        self._say("take NUMBER goes along one")

    def do_take(self, argument: str) -> None:
        """take NUMBER: go along one of the futures drawn last."""
        self._after(self._session.take(_number(argument) - 1))

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
            line = session.program.function_line(place.strip()) or self._line(place)
            if not session.program.stops(line):
                raise Refused(f"no code stands at line {place.strip()}; name a line of a function")
        added = session.breakpoints.add(line, condition, temporary)
        self._say(f"Breakpoint {telling.breakpoint_(session.program, added)}")

    def do_tbreak(self, argument: str) -> None:
        """tbreak: as break, gone once it was hit."""
        self.do_break(argument, temporary=True)

    def do_clear(self, argument: str) -> None:
        """cl(ear) [NUMBER ...]: remove these breakpoints, or all."""
        numbers = [_number(word) for word in argument.split()] or list(self._session.breakpoints.by_number)
        for number in numbers:
            self._session.breakpoints.remove(number)
            self._say(f"Deleted breakpoint {number}")

    # Looking around.

    def do_where(self, argument: str) -> None:
        """w(here), bt: the open calls, the innermost last; > marks the one that is looked at."""
        scopes = self._session.scopes
        for level in range(-len(scopes), 0):
            self._say(f"{'> ' if level == self._level else '  '}{telling.place(self._session, level)}")
            self._say(f"-> {self._session.program.lines[scopes[level].line - 1].strip()}")

    def do_up(self, argument: str) -> None:
        """u(p): look at the call's caller."""
        self._look(self._level - 1)

    def do_down(self, argument: str) -> None:
        """d(own): look at what it called."""
        self._look(self._level + 1)

    def do_list(self, argument: str) -> None:
        """l(ist) [LINE | .]: the program around the present line, or LINE; again: what follows."""
        program = self._session.program
        present = self._session.scopes[self._level].line
        if argument and argument != ".":
            first = self._line(argument) - _AROUND
        else:
            first = present - _AROUND if argument or self._listed is None else self._listed
        self._lines(range(max(1, first), min(first + 2 * _AROUND, program.last) + 1))
        self._listed = first + 2 * _AROUND + 1

    def do_longlist(self, argument: str) -> None:
        """ll: the whole program."""
        self._lines(range(1, self._session.program.last + 1))

    def do_args(self, argument: str) -> None:
        """a(rgs): the arguments of this call."""
        scope = self._session.scopes[self._level]
        for name, value in self._session.frames[scope.call].frame.locals:
            self._say(f"{name} = {value}")

    def do_print(self, argument: str) -> None:
        """p EXPRESSION: its value over the predicted locals; p alone: all locals. In percent how sure a value was."""
        state = self._session.state(self._level)
        if argument and argument not in state:
            self._say(repr(self._session.evaluate(argument, self._level)))
            return
        for name in [argument] if argument else state:
            self._say(f"{'' if argument else f'{name} = '}{state[name]}{self._sure(name)}")

    def do_retval(self, argument: str) -> None:
        """rv, retval: what this function returns, where it does."""
        self.do_print(RETURN)

    def do_frames(self, argument: str) -> None:
        """frames [COUNT]: the trace so far, or its last COUNT frames; ! marks what was changed."""
        frames = self._session.frames
        for number in range(max(0, len(frames) - (_number(argument) if argument else len(frames))), len(frames)):
            mark = "!" if frames[number].changed else " "
            self._say(f"{number + 1:>4}{mark} {telling.frame(self._session.program, frames[number].frame)}")

    def do_quit(self, argument: str) -> bool:
        """q(uit), exit: leave."""
        return True

    # The habits of pdb.

    do_s, do_n, do_r, do_o, do_unt, do_c, do_cont = (
        do_step,
        do_next,
        do_return,
        do_out,
        do_until,
        do_continue,
        do_continue,
    )
    do_fin, do_rs, do_rc, do_restart, do_run, do_j = do_finish, do_rstep, do_rcontinue, do_reset, do_reset, do_jump
    do_b, do_cl, do_w, do_bt, do_u, do_d = do_break, do_clear, do_where, do_where, do_up, do_down
    do_l, do_ll, do_a, do_p, do_pp, do_rv, do_q, do_exit = (
        do_list, do_longlist, do_args, do_print, do_print, do_retval, do_quit, do_quit
    )  # fmt: skip
    do_locals = do_print

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
            except (ValueError, SandboxMissing, SandboxError) as error:
                self._say(f"*** {error}")
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
        if stop is not None and stop.why == "end":
            self._say("The program has returned.")

    def _show(self) -> None:
        frame, last = self._session.at, self._session.frames[-1]
        if frame.event == "exception":
            self._say(frame.value)
        elif frame.event in _STARTS:
            self._say(_STARTS[frame.event])
        value = f"->{frame.value}" if frame.event == "return" else ""
        self._say(f"> {telling.place(self._session, -1)}{value}")
        self._say(f"-> {frame.source.strip()}{self._percent(last.sure)}")

    def _look(self, level: int) -> None:
        count = len(self._session.scopes)
        if not -count <= level <= -1:
            raise Refused("this is the newest call" if level > -1 else "this is the oldest call")
        self._level, self._listed = level, None
        self._say(f"> {telling.place(self._session, level)}")

    def _lines(self, numbers: range) -> None:
        session = self._session
        stops = {each.line for each in session.breakpoints.by_number.values()}
        for number in numbers:
            marks = ("B" if number in stops else " ") + ("->" if number == session.scopes[self._level].line else "  ")
            self._say(f"{session.program.place(number):>5} {marks} {session.program.lines[number - 1].rstrip()}")

    def _sure(self, name: str) -> str:
        sure = self._session.sure(self._level).get(name)
        return "" if sure is None else self._percent(sure)

    def _percent(self, sure: float) -> str:
        return f"   ({percent(sure)})" if self._session.predictor.what_if else ""

    def _line(self, argument: str) -> int:
        return self._session.program.line(_number(argument))

    def _watch(self, count: int) -> bool:
        if self._bar is None and time.monotonic() - self._began > _PATIENCE:
            self._bar = self._stack.enter_context(progress("predicting", None, unit="frames"))
        if self._bar is not None:
            self._bar.update(count)
        return False

    def _say(self, text: str) -> None:
        print(text, file=self.stdout)


def _number(text: str, kind: type = int) -> int | float:
    try:
        return kind(text.strip())
    except ValueError:
        raise Refused(f"{text.strip()!r} is no number") from None
