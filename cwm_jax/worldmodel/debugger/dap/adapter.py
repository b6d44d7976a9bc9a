"""One client's requests, turned into commands of a session and its stops into events."""

import io
from collections.abc import Callable, Iterator
from typing import Any

from cwm_jax.report.figures import percent
from cwm_jax.worldmodel.debugger import telling
from cwm_jax.worldmodel.debugger.dap.conversation import Conversation, Request
from cwm_jax.worldmodel.debugger.dap.places import Places
from cwm_jax.worldmodel.debugger.dap.variables import Variables
from cwm_jax.worldmodel.debugger.outcomes import Refused, Stop
from cwm_jax.worldmodel.debugger.program import Program
from cwm_jax.worldmodel.debugger.session import Session
from cwm_jax.worldmodel.debugger.terminal import Terminal
from cwm_jax.worldmodel.predictors import Predictor
from cwm_jax.worldmodel.real import RealRun

THREAD = 1  # a trace has one

CAPABILITIES = dict.fromkeys(
    [
        "supportsConfigurationDoneRequest",
        "supportsConditionalBreakpoints",
        "supportsFunctionBreakpoints",
        "supportsEvaluateForHovers",
        "supportsGotoTargetsRequest",
        "supportsRestartRequest",
        "supportsSetVariable",
        "supportsStepBack",
        "supportsTerminateRequest",
    ],
    True,
)


class Adapter(Conversation):
    """One client's debugger.

    Args:
      predictor: loads whoever predicts, from the arguments of a launch.
      real: runs programs for `verify`.
      program: what is debugged unless a launch names another.

    Attributes:
      paused: set from any thread to stop a command that is under way.
    """

    def __init__(self, predictor: Callable[[dict], Predictor], real: RealRun, program: Program | None):
        super().__init__()
        self.paused = False
        self._predictor, self._real, self._program = predictor, real, program
        self._session: Session | None = None
        self._variables = Variables()
        self._settable = 0  # reference of the locals of the innermost call
        self._first_line = 1
        self._refused = 0
        self._launched: dict = {}
        self._by_source: dict[bool, list[int]] = {}  # breakpoints that `setBreakpoints` replaces, of the file and not
        self._by_function: list[int] = []

    def _initialize(self, arguments: dict) -> Iterator[Any]:
        self._first_line = 1 if arguments.get("linesStartAt1", True) else 0
        yield dict(CAPABILITIES)

    def _launch(self, arguments: dict) -> Iterator[Any]:
        self._begin(arguments)
        yield {}
        yield "initialized", {}

    def _begin(self, arguments: dict) -> None:
        program = self._program
        if target := arguments.get("program"):
            function = arguments.get("function")
            program = Program.of(f"{target}:{function}" if function else str(target), arguments.get("args") or None)
        if program is None:
            raise Refused("name a program: launch with `program`, and `function` and `args` or a start marker in it")
        self._session = Session(program, self._predictor(arguments), self._real)
        self._session.watch = lambda count: self.paused
        self._places = Places(program, self._first_line)
        self._launched = arguments

    def _configuration_done(self, arguments: dict) -> Iterator[Any]:
        self._open()
        yield {}
        if self._launched.get("stopOnEntry", True):
            yield from self._stopped(Stop("step"), "entry")
        else:
            yield from self._run(lambda session: session.continue_())

    def _set_breakpoints(self, arguments: dict) -> Iterator[Any]:
        self._open()
        wanted = arguments.get("breakpoints") or [{"line": line} for line in arguments.get("lines") or ()]
        ours = self._places.ours(arguments["source"])
        mine = self._by_source.setdefault(bool(arguments["source"].get("sourceReference")), [])
        if ours:
            self._forget(mine)
        answers = []
        for each in wanted:
            stop = self._places.line(arguments["source"], each["line"])
            if stop is None:
                message = "no code stands there" if ours else "not the program that is debugged"
                answers.append(self._unset(message, each["line"]))
            else:
                answers.append(self._set(mine, stop, str(each.get("condition") or "")))
        yield {"breakpoints": answers}

    def _set_function_breakpoints(self, arguments: dict) -> Iterator[Any]:
        session = self._open()
        self._forget(self._by_function)
        answers = []
        for each in arguments.get("breakpoints") or ():
            line = session.program.function_line(str(each["name"]))
            if line is None:
                answers.append(self._unset(f"the program has no function {each['name']!r}"))
            else:
                answers.append(self._set(self._by_function, line, str(each.get("condition") or "")))
        yield {"breakpoints": answers}

    def _set(self, kind: list[int], line: int, condition: str) -> dict:
        try:
            added = self._session.breakpoints.add(line, condition)
        except ValueError as error:
            return self._unset(str(error))
        kind.append(added.number)
        return {"verified": True, "id": added.number, **self._places.place(line)}

    def _unset(self, message: str, line: int | None = None) -> dict:
        self._refused -= 1  # some clients want a number even for these
        place = {} if line is None else {"line": line}
        return {"verified": False, "id": self._refused, "message": message, **place}

    def _forget(self, kind: list[int]) -> None:
        for number in kind:
            self._session.breakpoints.by_number.pop(number, None)
        kind.clear()

    def _set_exception_breakpoints(self, arguments: dict) -> Iterator[Any]:
        yield {"breakpoints": []}

    def _threads(self, arguments: dict) -> Iterator[Any]:
        predicted = self._session is None or self._session.predictor.what_if
        yield {"threads": [{"id": THREAD, "name": "predicted run" if predicted else "real run"}]}

    def _stack_trace(self, arguments: dict) -> Iterator[Any]:
        session = self._open()
        scopes = session.scopes
        frames = [
            {
                "id": level + 1,
                "name": telling.function(session, level),
                "column": 1,
                **self._places.place(scopes[level].line),
            }
            for level in reversed(range(len(scopes)))
        ]
        first, count = arguments.get("startFrame") or 0, arguments.get("levels") or len(frames)
        yield {"stackFrames": frames[first : first + count], "totalFrames": len(frames)}

    def _scopes(self, arguments: dict) -> Iterator[Any]:
        session, level = self._open(), self._level(arguments["frameId"])
        innermost = level == len(session.scopes) - 1
        sure = session.sure(level) if session.predictor.what_if else {}
        locals_ = self._variables.of(session.state(level), sure)
        scopes = [{"name": "Locals", "presentationHint": "locals", "variablesReference": locals_, "expensive": False}]
        if sure:
            next_ = {"(this line comes next)": session.frames[-1].sure} if innermost else {}
            told = {name: percent(share) for name, share in (next_ | sure).items()}
            reference = self._variables.plain(told)
            scopes.append({"name": "Confidence", "variablesReference": reference, "expensive": False})
        if innermost:
            self._settable = locals_
        yield {"scopes": scopes}

    def _variables_of(self, arguments: dict) -> Iterator[Any]:
        start = arguments.get("start") or 0
        found = self._variables[arguments["variablesReference"]]
        yield {"variables": found[start : start + (arguments.get("count") or len(found))]}

    def _set_variable(self, arguments: dict) -> Iterator[Any]:
        session, name = self._open(), arguments["name"]
        if arguments["variablesReference"] != self._settable:
            raise Refused("only the locals of the innermost call can be set, each as a whole")
        session.assign(name, repr(session.evaluate(arguments["value"])))
        shown = self._variables.shown(name, session.state()[name], name)
        yield {"value": shown["value"], "type": shown["type"], "variablesReference": shown["variablesReference"]}

    def _evaluate(self, arguments: dict) -> Iterator[Any]:
        session, expression = self._open(), arguments["expression"].strip()
        level = self._level(arguments["frameId"]) if arguments.get("frameId") else len(session.scopes) - 1
        word = expression.split(" ")[0]
        if arguments.get("context") == "repl" and word in _CONSOLE and word not in session.state(level):
            before = session.frames
            yield {"result": self._console(expression), "variablesReference": 0}
            if session.frames is not before:
                yield from self._stopped(Stop("step"), "goto")
            return
        shown = self._variables.shown("", repr(session.evaluate(expression, level)), expression)
        yield {"result": shown["value"], "type": shown["type"], "variablesReference": shown["variablesReference"]}

    def _console(self, line: str) -> str:
        """What the terminal's debugger says to a command."""
        out = io.StringIO()
        Terminal(self._session, stdin=io.StringIO(), stdout=out, greet=False, watch=self._session.watch).onecmd(line)
        return out.getvalue().rstrip()

    def _goto_targets(self, arguments: dict) -> Iterator[Any]:
        session = self._open()
        line = self._places.line(arguments["source"], arguments["line"])
        targets = []
        if line is not None:
            place = self._places.place(line)["line"]
            targets = [{"id": line, "label": session.program.lines[line - 1].strip(), "line": place}]
        yield {"targets": targets}

    def _goto(self, arguments: dict) -> Iterator[Any]:
        stop = self._open().jump(arguments["targetId"])
        yield {}
        yield from self._stopped(stop, "goto")

    def _restart(self, arguments: dict) -> Iterator[Any]:
        kept, again = self._open().breakpoints, arguments.get("arguments")
        self._begin(again if isinstance(again, dict) and again.get("program") else self._launched)  # the file anew
        self._session.breakpoints = kept
        yield {}
        yield from self._stopped(Stop("step"), "entry")

    def _disconnect(self, arguments: dict) -> Iterator[Any]:
        yield {}

    def _terminate(self, arguments: dict) -> Iterator[Any]:
        self.paused = False
        yield {}
        yield "terminated", {}

    def _pause(self, arguments: dict) -> Iterator[Any]:
        self._open()
        self.paused = False  # it has stopped what was under way
        yield {}

    def _source(self, arguments: dict) -> Iterator[Any]:
        yield {"content": "".join(self._open().program.lines), "mimeType": "text/x-python"}

    def _run(self, command: Callable[[Session], Stop]) -> Iterator[Any]:
        """Events of a command that moves."""
        try:
            stop = command(self._open())
        except Exception as error:  # whatever it is, nothing has changed, and the client waits for a stop
            if self._session.ended:
                yield "exited", {"exitCode": 0}
                yield "terminated", {}
                return
            yield from self._told(str(error))
            stop = Stop("step")
        yield from self._stopped(stop)

    def _stopped(self, stop: Stop, reason: str = "") -> Iterator[Any]:
        self._variables.clear()
        reason = reason or (stop.why if stop.why in ("breakpoint", "pause") else "step")  # clients know few others
        body = {"reason": reason, "threadId": THREAD, "allThreadsStopped": True}
        if stop.breakpoint is not None:
            body["hitBreakpointIds"] = [stop.breakpoint]
        if stop.why == "end":
            body["description"] = f"the program has returned {self._session.at.value}; it can still be stepped back"
        if stop.note:
            body["text"] = stop.note
            yield from self._told(stop.note)
        yield "stopped", body

    def _open(self) -> Session:
        if self._session is None:
            raise Refused("no program is launched yet")
        return self._session

    def _level(self, frame_id: int) -> int:
        if not 1 <= frame_id <= len(self._session.scopes):
            raise Refused(f"there is no stack frame {frame_id}; it is of an earlier stop")
        return frame_id - 1


def _moves(name: str) -> Request:
    """A request that is a moving command of the session."""

    def request(adapter: Adapter, arguments: dict) -> Iterator[Any]:
        adapter._open()
        yield {"allThreadsContinued": True} if name == "continue_" else {}
        yield from adapter._run(lambda session: getattr(session, name)())

    return request


_CONSOLE = {"back", "finish", "frames", "futures", "help", "reset", "set", "take", "tbreak", "until", "verify", "where"}
Adapter.requests = {
    "initialize": Adapter._initialize,
    "launch": Adapter._launch,
    "attach": Adapter._launch,
    "configurationDone": Adapter._configuration_done,
    "setBreakpoints": Adapter._set_breakpoints,
    "setFunctionBreakpoints": Adapter._set_function_breakpoints,
    "setExceptionBreakpoints": Adapter._set_exception_breakpoints,
    "threads": Adapter._threads,
    "stackTrace": Adapter._stack_trace,
    "scopes": Adapter._scopes,
    "variables": Adapter._variables_of,
    "setVariable": Adapter._set_variable,
    "evaluate": Adapter._evaluate,
    "gotoTargets": Adapter._goto_targets,
    "goto": Adapter._goto,
    "restart": Adapter._restart,
    "disconnect": Adapter._disconnect,
    "terminate": Adapter._terminate,
    "pause": Adapter._pause,
    "source": Adapter._source,
    "next": _moves("next"),
    "stepIn": _moves("step"),
    "stepOut": _moves("out"),
    "stepBack": _moves("reverse_step"),
    "continue": _moves("continue_"),
    "reverseContinue": _moves("reverse_continue"),
}
