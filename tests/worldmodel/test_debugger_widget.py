"""The debugger in a notebook: its buttons move the session, its picture shows it and runs nothing that a value says."""

from html.parser import HTMLParser

import pytest
from debugger_variants import Variants

from cwm_jax.sandbox import Isolation
from cwm_jax.tracing.wrap import wrap
from cwm_jax.worldmodel.debugger import Program, Session
from cwm_jax.worldmodel.debugger.picture import picture
from cwm_jax.worldmodel.debugger.widget import Debugger
from cwm_jax.worldmodel.real import RealRun

REAL = RealRun(Isolation.LIMITS_ONLY)
COUNTDOWN = "def f(n):\n    steps = 0\n    while n > 1:\n        n -= 2\n        steps += 1\n    return steps\n"


@pytest.fixture
def debugger():
    contexts = [wrap(COUNTDOWN, "f", str(n)) for n in (4, 6)]
    return Debugger(Session(Program.of_context(contexts[0]), Variants(contexts), REAL))


class Balanced(HTMLParser):
    """Fails on markup that does not nest; notes the tags."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], set()
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag), self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_buttons_are_the_commands(debugger):
    session = debugger.session
    for name, event in (("step", "line"), ("step", "call"), ("next", "line"), ("finish", "return"), ("back", "line")):
        debugger.press(name)
        assert session.at.event == event and f"State at frame {len(session.frames)}" in debugger._picture.value
    debugger.press("continue"), debugger.press("step")
    assert "has returned" in debugger._said.value and session.ended
    debugger.press("reset")
    assert len(session.frames) == 1


def test_a_local_is_changed_and_held_against_the_real_run(debugger):
    debugger.press("step"), debugger.press("step")
    debugger._name.value, debugger._value.value = "n", "n + 2"
    debugger.press("set")
    assert debugger.session.state() == {"n": "6"}
    debugger.press("verify")
    assert "✗ frame 3 parts" in debugger._picture.value and "first-wrong" in debugger._picture.value
    debugger._value.value = "nonsense("
    debugger.press("set")
    assert "no expression" in debugger._said.value and debugger.session.state() == {"n": "6"}


def test_commands_are_those_of_the_terminal(debugger):
    debugger._command.value = "b if steps == 1"
    assert "Breakpoint 1 anywhere" in debugger._said.value and debugger._command.value == ""
    debugger._command.value = "c"
    assert debugger.session.state() == {"n": "2", "steps": "1"}
    debugger._command.value = "futures 2"
    assert "returns 2" in debugger._said.value


def test_the_picture_is_markup_whatever_values_are():
    code = "def f(a):\n    '''<b>\n    </b>'''\n    b = a * 2  # <i>\n\n    raise KeyError(b)"
    session = Session(Program.of_context(wrap(code, "f", "'<script>alert(1)</script>&'")), REAL, REAL)
    while True:
        parsed = Balanced(picture(session, session.verify()))
        assert not parsed.tags & {"script", "i", "img"} and "alert(1)</script>" not in session._repr_html_()
        if session.ended:
            break
        session.step()


def test_long_traces_show_their_end():
    session = Session(Program.of_context(wrap(COUNTDOWN, "f", "400")), REAL, REAL)
    session.continue_()
    shown = picture(session)
    assert (
        "earlier frames" in shown
        and f'class="number">{len(session.frames)}<' in shown
        and 'class="number">1<' not in shown
    )
