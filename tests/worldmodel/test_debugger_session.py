"""The debugger's session: whatever is done, it shows what the predictor says, and `back` undoes it."""

import pytest
from debugger_variants import Variants
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cwm_jax.sandbox import Isolation
from cwm_jax.tracing import Limits, record, resolve
from cwm_jax.tracing.wrap import wrap
from cwm_jax.worldmodel.debugger import Program, Session
from cwm_jax.worldmodel.debugger.outcomes import Refused
from cwm_jax.worldmodel.real import RealRun, paired

CODE = """def g(n):
    if n == 2:
        raise ValueError("no")
    return [k * n for k in (1, 2)]
def f(xs):
    total = 0
    for x in xs:
        try:
            total += sum(g(x)) + len(g(x + 5))
        except ValueError as e:
            total -= 1
    def h():
        yield total
        yield total + 1
    both = list(h())
    return total, both
"""
REAL = RealRun(Isolation.LIMITS_ONLY)
COUNTDOWN = """def f(n):
    steps = 0
    while n > 1:
        n -= 2
        steps += 1
    return steps
"""


def session_of(code=CODE, arguments="[1, 2, 3]", predictor=REAL):
    return Session(Program.of_context(wrap(code, "f", arguments)), predictor, REAL)


def frames_of(session):
    return tuple(each.frame for each in session.frames)


class Walks(RuleBasedStateMachine):
    """Any commands, over the real run."""

    @initialize(arguments=st.sampled_from(["[1, 2, 3]", "[]", "[2]", "'a'"]))
    def begin(self, arguments):
        self.session = session_of(arguments=arguments)
        self.true = REAL.trace(self.session.program.context).frames
        self.full = resolve(REAL.trace(self.session.program.context))
        self.past = []

    @rule(
        command=st.sampled_from(
            [
                "step",
                "next",
                "return_",
                "out",
                "finish",
                "until",
                "continue_",
                "reset",
                "reverse_step",
                "reverse_continue",
            ]
        )
    )
    def move(self, command):
        before = self.session.frames
        try:
            stop = getattr(self.session, command)()
        except Refused:
            assert self.session.frames is before
            assert self.session.ended or (command.startswith("reverse") and len(before) == 1)
            return
        self.past.append(before)
        assert stop.why != "broken"
        assert (stop.why == "end") <= self.session.ended
        if command == "continue_" and stop.why == "breakpoint":
            assert self.session.at.event in ("call", "line")
        if command == "return_":
            assert self.session.at.event == "return"

    @rule(line=st.integers(2, 17))
    def take_line(self, line):
        if self.session.program.stops(line):
            self.session.breakpoints.add(line)

    @rule()
    def take_condition(self):
        self.session.breakpoints.add(condition="total > 2")

    @rule()
    def forget(self):
        self.session.breakpoints.by_number.clear()

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def back(self, data):
        count = data.draw(st.integers(1, len(self.past)))
        self.session.back(count)
        assert self.session.frames is self.past[-count]
        del self.past[-count:]

    @invariant()
    def shows_the_real_run(self):
        frames = frames_of(self.session)
        places, _ = paired(self.true, frames)
        assert len(places) == len(frames) and places[0] == 0
        assert places == sorted(set(places))
        assert self.session.commands == len(self.past)
        if self.session.at.locals is not None:
            assert self.session.state() == self.full[places[-1]]
        else:
            assert self.session.at.value in self.session.state().values()
        assert self.session.verify().index is None


TestWalks = Walks.TestCase
TestWalks.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


def test_steps_alone_are_the_whole_run():
    session = session_of()
    while not session.ended:
        session.step()
    assert frames_of(session) == REAL.trace(session.program.context).frames
    with pytest.raises(Refused, match="has returned"):
        session.step()


def test_next_never_goes_deeper_and_stops_at_every_line():
    session = session_of()
    session.step(), session.step()  # into f
    depths = []
    while len(session.scopes) > 1 or session.at.event == "call":
        session.next()
        depths.append((len(session.scopes), session.at.event, session.at.line))
        if session.ended:
            break
    true = REAL.trace(session.program.context).frames
    lines = [frame.line for frame in true if frame.event != "call" and "for x in xs" in CODE and 6 < frame.line < 18]
    assert {line for _, _, line in depths} - {19} <= set(lines)
    assert max(depth for depth, _, _ in depths) == 2


def test_a_change_and_what_follows_are_the_run_with_that_change():
    """Setting an argument, then going on, equals recording the program with that argument."""
    contexts = [wrap(COUNTDOWN, "f", str(n)) for n in range(9)]
    variants = Variants(contexts)
    for n in range(9):
        session = Session(Program.of_context(contexts[0]), variants, REAL)
        session.step(), session.step()
        assert session.at.event == "call" and session.state() == {"n": "0"}
        session.assign("n", repr(n))
        session.continue_()
        assert session.ended
        assert frames_of(session) == variants.traces[n].frames
        parting = session.verify()
        assert parting.index == (None if n == 0 else 2) and parting.changed
        session.back(2)
        session.continue_()
        assert frames_of(session) == variants.traces[0].frames


def test_a_local_set_at_a_line_is_the_one_that_the_run_would_have():
    contexts = [wrap(COUNTDOWN.replace("steps = 0", f"steps = {k}"), "f", "4") for k in range(4)]
    session = Session(Program.of_context(contexts[0]), Variants(contexts), REAL)
    for _ in range(4):
        session.step()
    assert session.state() == {"n": "4", "steps": "0"}
    session.assign("steps", "3")
    assert dict(session.at.locals) == {"n": "..", "steps": "3"}
    session.return_()
    assert session.state()["__return__"] == "5"
    session.assign("__return__", "'other'")
    assert session.at.value == "'other'"


def test_jump_has_another_line_run_next():
    session = session_of(COUNTDOWN, "4", Variants([wrap(COUNTDOWN, "f", "4")]))
    session.step(), session.step(), session.step()
    with pytest.raises(Refused, match=r"cannot jump to line 9; the lines of this function are: 3, 4, 5, 6, 7"):
        session.jump(9)
    before = session.frames
    session.jump(7)
    assert session.at.line == 7 and session.at.source == "    return steps\n" and session.state() == {"n": "4"}
    session.back()
    assert session.frames is before


def test_the_real_run_cannot_be_changed():
    session = session_of()
    session.step(), session.step()
    for change in (lambda: session.assign("xs", "[]"), lambda: session.jump(8)):
        with pytest.raises(Refused, match="without --real"):
            change()


def test_breakpoints_with_conditions():
    session = session_of(COUNTDOWN, "8")
    at_line = session.breakpoints.add(5, "n % 4 == 0 and steps")
    seen = []
    while session.continue_().why == "breakpoint":
        seen.append(session.state())
    assert seen == [{"n": "4", "steps": "2"}]
    session.reset()
    session.breakpoints.remove(at_line.number)
    anywhere = session.breakpoints.add(condition="n < 5")
    seen = []
    while (stop := session.continue_()).why == "breakpoint":
        assert stop.breakpoint == anywhere.number
        seen.append(session.state())
    assert seen == [{"n": "4", "steps": "1"}]  # where it becomes true, once
    session.reset()
    session.breakpoints.add(4, "m > 1", temporary=True)
    session.breakpoints.remove(anywhere.number)
    stop = session.continue_()
    assert stop.why == "breakpoint" and "no local 'm'" in stop.note and not session.breakpoints.by_number
    with pytest.raises(ValueError, match="is no expression"):
        session.breakpoints.add(4, "n ==")
    with pytest.raises(ValueError, match="there is no breakpoint 99; there are: none"):
        session.breakpoints.remove(99)


def test_a_condition_that_holds_on_is_met_once_whatever_is_called_meanwhile():
    code = "def g(x):\n    return x\ndef f(xs):\n    total = 0\n    for x in xs:\n        total += g(x)\n    return 0"
    session = session_of(code, "[1, 2, 3, 4]")
    session.breakpoints.add(condition="total > 1")
    seen = []
    while session.continue_().why == "breakpoint":
        seen.append(session.state()["total"])
    assert seen == ["3"]
    session.reverse_continue()
    assert session.state()["total"] == "3"


def test_futures_are_drawn_and_taken():
    session = session_of(COUNTDOWN, "4")
    session.step(), session.step()
    with pytest.raises(Refused, match="draw some first"):
        session.take(0)
    (only,) = session.futures(3)
    assert only.probability == 1 and only.frames[-1].frame.value == "2"
    before = session.frames
    with pytest.raises(Refused, match="there is no future 2"):
        session.take(1)
    session.take(0)
    assert session.at.value == "2" and session.frames[: len(before)] == before
    session.back()
    assert session.frames is before


def test_verify_marks_where_they_part():
    wrong = Variants([wrap(COUNTDOWN, "f", "4"), wrap(COUNTDOWN, "f", "6")])
    wrong.traces = wrong.traces[1:]  # is wrong about every program
    session = session_of(COUNTDOWN, "4", wrong)
    session.step()
    assert session.verify().index is None
    session.continue_()
    parting = session.verify()
    assert (parting.index, dict(parting.real.locals), parting.changed) == (2, {"n": "4"}, False)
    assert dict(session.frames[2].frame.locals) == {"n": "6"} and "returned after" in parting.run


def test_a_step_over_that_leaves_frames_out_is_no_parting_but_a_wrong_value_is():
    wrong = Variants([wrap(COUNTDOWN, "f", "4"), wrap(COUNTDOWN, "f", "6")])
    session = session_of(COUNTDOWN, "4", wrong)
    session.step(), session.step(), session.finish()
    assert session.at.value == "2" and session.verify().index is None
    session.assign("__return__", "7")
    parting = session.verify()
    assert (parting.index, parting.real.value, parting.changed) == (3, "2", True)


def test_a_run_that_is_cut_short_breaks_off_with_its_reason():
    real = RealRun(Isolation.LIMITS_ONLY, Limits(max_frames=12))
    session = Session(Program.of_context(wrap(COUNTDOWN, "f", "80")), real, real)
    stop = session.continue_()
    assert stop.why == "broken" and "max_frames" in stop.note
    frames = session.frames
    with pytest.raises(Refused, match="breaks off here"):
        session.step()
    assert session.frames is frames


def test_scopes_have_the_names_and_lines_of_the_program():
    session = session_of()
    program = session.program
    session.breakpoints.add(program.function_line("g"))
    session.continue_()
    assert [scope.line for scope in session.scopes] == [19, 10, 2]
    names = {program.function(s.frames[-1].frame.line, tuple(s.scopes[-1].locals)).co_name for s in walk_all(session)}
    assert names == {"main", "f", "g", "h", "<listcomp>"}
    assert record(program.context, isolation=Isolation.LIMITS_ONLY).complete


def walk_all(session):
    while not session.ended:
        session.step()
        yield session
