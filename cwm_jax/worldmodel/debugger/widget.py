"""The debugger in a notebook: buttons, a line for commands, and a picture of the session.

    Debugger(Session(Program.of("experiments/tiny/strawberry.py"), WorldModel(LocalModel("runs/tiny")), RealRun()))

Needs ipywidgets, which Colab has; without it a session as the last value of a cell shows its picture alone.
"""

import io
from collections.abc import Callable
from html import escape

import ipywidgets as widgets

from cwm_jax.worldmodel.debugger.outcomes import Parting
from cwm_jax.worldmodel.debugger.picture import picture
from cwm_jax.worldmodel.debugger.session import Session
from cwm_jax.worldmodel.debugger.terminal import Terminal

_BUTTONS = (
    ("step", "One frame on, into calls", lambda session: session.step()),
    ("next", "The next line of this function; calls are stepped over, each in one prediction", lambda s: s.next()),
    ("out", "On until this function has returned", lambda session: session.out()),
    ("finish", "To where this function returns, in one prediction", lambda session: session.finish()),
    ("continue", "To the next breakpoint or the end", lambda session: session.continue_()),
    ("back", "Undo the last command", lambda session: session.back()),
    ("reset", "Back to the first frame", lambda session: session.reset()),
)


class Debugger(widgets.VBox):
    """A session with its buttons.

    Attributes:
      session: what they move.
    """

    def __init__(self, session: Session):
        self.session = session
        self._parting: Parting | None = None
        self._picture = widgets.HTML()
        self._said = widgets.HTML()
        self._name = widgets.Dropdown(layout=widgets.Layout(width="9rem"))
        self._value = widgets.Text(placeholder="new value", continuous_update=False)
        set_ = self._button("set", "Change this local and go on from there", self._set)
        self._command = widgets.Text(placeholder="a command of pdb, such as: b if total > 3", continuous_update=False)
        self._command.observe(self._entered, names="value")
        buttons = [self._button(name, tip, action) for name, tip, action in _BUTTONS]
        verify = self._button("verify", "Run the program and mark where they part", self._verify)
        super().__init__(
            [
                widgets.HBox([*buttons, verify], layout=widgets.Layout(flex_flow="row wrap")),
                widgets.HBox([self._name, self._value, set_, self._command]),
                self._said,
                self._picture,
            ]
        )
        self._show()

    def press(self, name: str) -> None:
        """Presses the button of this name."""
        next(button for button in self.buttons if button.description == name).click()

    def run(self, line: str) -> str:
        """Runs a command of the terminal's debugger; what it says."""
        out = io.StringIO()
        Terminal(self.session, stdin=io.StringIO(), stdout=out, greet=False, watch=self.session.watch).onecmd(line)
        self._do(lambda session: out.getvalue().rstrip())
        return out.getvalue().rstrip()

    @property
    def buttons(self) -> list[widgets.Button]:
        return [child for box in self.children[:2] for child in box.children if isinstance(child, widgets.Button)]

    def _button(self, name: str, tip: str, action: Callable[[Session], object]) -> widgets.Button:
        button = widgets.Button(description=name, tooltip=tip, layout=widgets.Layout(width="auto"))
        button.on_click(lambda _: self._do(action))
        return button

    def _do(self, action: Callable[[Session], object]) -> None:
        """Runs an action; what goes wrong is told below the buttons, and leaves the session as it was."""
        self._parting = None
        try:
            said = action(self.session)
        except Exception as error:  # whatever it is, the session stays
            said = str(error)
        self._show(said if isinstance(said, str) else getattr(said, "note", ""))

    def _set(self, session: Session) -> None:
        session.assign(self._name.value, repr(session.evaluate(self._value.value)))
        self._value.value = ""

    def _verify(self, session: Session) -> None:
        self._parting = session.verify()

    def _entered(self, change: dict) -> None:
        if line := change["new"].strip():
            self._command.value = ""
            self.run(line)

    def _show(self, said: str = "") -> None:
        self._said.value = f"<pre>{escape(said)}</pre>" if said else ""
        names = [name for name in self.session.state() if name != "__exception__"]
        self._name.options = names
        self._picture.value = picture(self.session, self._parting)
