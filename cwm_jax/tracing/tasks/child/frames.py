"""The function for `sys.settrace` where there are several tasks: each has its own frames, as if it ran alone."""

from _json import encode_basestring_ascii as to_json

from tracer import CALL, EXCEPTION, FILE_NAME, LINE, RETURN, Snapshots, how_left, verdict_of


class _Task:
    """What is kept for a task: its baseline, its open calls, whether its last event was an exception."""

    __slots__ = ("depth", "raised", "snapshots")

    def __init__(self, render):
        self.snapshots, self.depth, self.raised = Snapshots(render), 0, False


class Frames:
    """Records frames of the context's code.

    Args:
      entry: code of the marked function; None: recording is on.
      baton: takes the records.
      render: turns a value into its text.
      max_depth: calls of one task open at once.
      run: `enter()` is called when the entry is entered, `leave(verdict, error)` when it is left, and
        `finish(verdict, detail)` ends the run.
    """

    def __init__(self, entry, baton, render, max_depth: int, run):
        self._entry, self._baton, self._render, self._max_depth, self._run = entry, baton, render, max_depth, run
        self._tasks: dict[int, _Task] = {}
        self._entered = self._error = None

    def on_call(self, frame, event: str, arg: object):
        if frame.f_code.co_filename != FILE_NAME:
            return None
        if not self._baton.recording:
            if frame.f_code is not self._entry:
                return None
            self._entered = frame
            self._run.enter()
        number = self._baton.task()
        if number < 0:
            return None
        task = self._tasks.get(number)
        if task is None:
            task = self._tasks[number] = _Task(self._render)
        task.depth += 1
        if task.depth > self._max_depth:
            self._run.finish("depth_limit", "")
        try:
            task.snapshots.forget()
            self._emit(CALL, frame, task.snapshots.take(frame))
        except BaseException as fault:
            self._give_up(fault)
        return self.on_event

    def on_event(self, frame, event: str, arg: object):
        number = self._baton.task()
        task = self._tasks.get(number)
        if task is None:  # a copy made by a fork goes on in frames of the original, as another task
            task = self._tasks[number] = _Task(self._render)
        name = frame.f_code.co_name
        try:
            if event == "line":
                task.raised = False
                self._emit(LINE, frame, task.snapshots.take(frame))
                self._baton.spend()
            elif event == "return":
                task.snapshots.forget()
                task.depth -= 1
                self._emit(RETURN, frame, to_json(self._render(arg, name, "the return value of")))
                if frame is self._entered and number == 0 and (verdict := how_left(frame, task.raised)):
                    self._run.leave(verdict, self._error)
                    return None
                task.raised = False
            elif event == "exception":
                task.snapshots.forget()
                self._emit(EXCEPTION, frame, to_json(self._render(arg[1], name, "the exception in")))
                task.raised, self._error = True, arg[0]
        except BaseException as fault:
            self._give_up(fault)
        return self.on_event

    def _emit(self, event: int, frame, payload: str) -> None:
        if (number := self._baton.task()) >= 0:
            self._baton.say(f'["frame",{number},{event},{frame.f_lineno or 0},{payload}]')

    def _give_up(self, fault: BaseException) -> None:
        self._run.finish(*verdict_of(fault))
