"""Commands of the terminal that look around and change nothing."""

import cmd
from typing import IO

from cwm_jax.report.figures import percent
from cwm_jax.worldmodel.debugger import telling
from cwm_jax.worldmodel.debugger.outcomes import RETURN, Refused
from cwm_jax.worldmodel.debugger.session import Session

_AROUND = 5  # lines that `list` shows on either side


class Looking(cmd.Cmd):
    """Shows where a session stands: calls, source, locals, frames."""

    def __init__(self, session: Session, stdin: IO[str] | None, stdout: IO[str] | None):
        super().__init__(stdin=stdin, stdout=stdout)
        self.use_rawinput = stdin is None
        self._session = session
        self._level = -1  # of the scope that is looked at; the innermost is -1
        self._listed: int | None = None

    def do_where(self, argument: str) -> None:
        """w(here), bt: the open calls, the innermost last; > marks the one that is looked at."""
        scopes = self._session.scopes
        for level in range(-len(scopes), 0):
            self._say(f"{'> ' if level == self._level else '  '}{telling.place(self._session, level)}")
            self._say(f"-> {self._session.program.lines[scopes[level].line - 1].strip()}")

    def do_up(self, argument: str) -> None:
        """u(p) [COUNT]: look at the call's caller."""
        self._look(self._level - (number(argument) if argument else 1))

    def do_down(self, argument: str) -> None:
        """d(own) [COUNT]: look at what it called."""
        self._look(self._level + (number(argument) if argument else 1))

    def do_list(self, argument: str) -> None:
        """l(ist) [LINE | FIRST, LAST | .]: the program around the present line, or LINE; again: what follows."""
        program = self._session.program
        present = self._session.scopes[self._level].line
        if "," in argument:
            first, last = map(self._line, argument.split(",", 1))
            last = last if last >= first else first + number(argument.split(",", 1)[1])  # as pdb: then it is a count
            self._lines(range(max(1, first), min(last, program.last) + 1))
            self._listed = last + 1
            return
        if argument and argument != ".":
            first = self._line(argument) - _AROUND
        else:
            first = present - _AROUND if argument or self._listed is None else self._listed
        self._lines(range(max(1, first), min(first + 2 * _AROUND, program.last) + 1))
        self._listed = first + 2 * _AROUND + 1

    def do_longlist(self, argument: str) -> None:
        """ll: the function that is looked at."""
        scope = self._session.scopes[self._level]
        code = self._session.program.function(self._session.frames[scope.call].frame.line, tuple(scope.locals))
        inside = self._session.program.lines_of(code) if code else {scope.line}
        self._lines(range(min(inside), max(inside) + 1))

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
        count = number(argument) if argument else len(frames)
        for index in range(max(0, len(frames) - count), len(frames)):
            mark = "!" if frames[index].changed else " "
            self._say(f"{index + 1:>4}{mark} {telling.frame(self._session.program, frames[index].frame)}")

    do_w, do_bt, do_u, do_d, do_l, do_ll = do_where, do_where, do_up, do_down, do_list, do_longlist
    do_a, do_p, do_pp, do_locals, do_rv = do_args, do_print, do_print, do_print, do_retval

    def _look(self, level: int) -> None:
        count = len(self._session.scopes)
        if not -count <= level <= -1:
            raise Refused("this is the newest call" if level > -1 else "this is the oldest call")
        self._level, self._listed = level, None
        self._say(f"> {telling.place(self._session, level)}")

    def _lines(self, numbers: range) -> None:
        session = self._session
        stops = {each.line for each in session.breakpoints.by_number.values()}
        for line in numbers:
            marks = ("B" if line in stops else " ") + ("->" if line == session.scopes[self._level].line else "  ")
            self._say(f"{session.program.place(line):>5} {marks} {session.program.lines[line - 1].rstrip()}")

    def _sure(self, name: str) -> str:
        sure = self._session.sure(self._level).get(name)
        return "" if sure is None else self._percent(sure)

    def _percent(self, sure: float) -> str:
        return f"   ({percent(sure)})" if self._session.predictor.what_if else ""

    def _line(self, argument: str) -> int:
        return self._session.program.line(number(argument))

    def _say(self, text: str) -> None:
        print(text, file=self.stdout)


def number(text: str, kind: type = int) -> int | float:
    try:
        return kind(text.strip())
    except ValueError:
        raise Refused(f"{text.strip()!r} is no number") from None
