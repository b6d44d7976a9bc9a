"""The complete state of an activation as text and numbers that can be compared, and what watches it come back.

A state is what a function's variables and the module's reach: values by type and content, the order of dicts, which
places are one object, and how far the running loops' iterators are. Two states that are equal here cannot be told
apart by a program of the fragment, so it does the same from both. Of values that hold more than that (sets, NaN,
iterators over dicts, whatever else) no state is made.

Only states of one activation of a function are compared: what its callers hold cannot matter before it returns.
"""

import time

_SCALARS = (int, bool, str, type(None))
_ITERATORS = {
    type(iter(kind)) for kind in ([], (), "", "é", range(0), range(1 << 64), reversed([]), enumerate(()), zip())
} | {type(reversed(kind)) for kind in ((), "")}
_VIEWS = (type({}.keys()), type({}.values()), type({}.items()))
_EVERY = 64  # steps between looks at the clock
_EARLY = 32  # turns of a loop after which its numbers are told, besides the last: later they may be too long to tell


class Incomparable(Exception):
    """A value holds more than what can be compared."""


class Recurred(BaseException):
    """An activation came back to a state that it was in; `args`: loop, steps from one to the other, variables."""


class Stopped(BaseException):
    """The run took all the steps or seconds that it may take; `args`: loop, and by loop variables seen in it."""


class Refused(BaseException):
    """The program does something whose outcome its state does not tell; `args`: what."""


def canonical(*scopes: dict[str, object]) -> list:
    """The state that these variables reach.

    Raises:
      Incomparable: they reach a value of another kind.
    """
    walk = _Walk()
    for scope in scopes:
        walk.tokens.append(len(scope))
        for name in sorted(scope):
            walk.tokens.append(name)
            walk(scope[name])
    return walk.tokens


class _Walk:
    def __init__(self):
        self.tokens = []
        self._seen = {}
        self._kept = []  # objects made for this walk, whose addresses must not be given to others

    def __call__(self, value: object) -> None:
        kind = type(value)
        if kind in _SCALARS:
            self.tokens += (kind.__name__, value)
        elif kind is float:
            if value != value:
                raise Incomparable("a NaN")
            self.tokens += ("float", value.hex())
        elif kind is tuple:
            self._items("tuple", value)
        elif kind is range:
            self.tokens += ("range", value.start, value.stop, value.step)
        elif kind is list or kind is dict or kind in _ITERATORS:
            self._shared(value, kind)
        else:
            raise Incomparable(f"a value of type {kind.__name__}")

    def _shared(self, value: object, kind: type) -> None:
        if id(value) in self._seen:
            self.tokens += ("again", self._seen[id(value)])
            return
        self._seen[id(value)] = len(self._seen)
        if kind is list:
            self._items("list", value)
        elif kind is dict:
            self._items("dict", [part for item in value.items() for part in item])
        else:
            _, arguments, *state = value.__reduce__()  # CPython's own: what it iterates over, and where it is
            self._kept.append(arguments)
            self._items(kind.__name__, (*arguments, *state))

    def _items(self, name: str, values) -> None:
        self.tokens += (name, len(values))
        for value in values:
            self(value)


class Watch:
    """Sees the states of one activation at the heads of its loops' bodies.

    Of each loop one earlier state is kept and compared with every later one, and replaced after 1, 2, 4, … steps
    (Brent's method): a state that comes back is found within a few times as many steps as it takes to come back, in the
    memory of one.
    """

    def __init__(self, run: "Run", name: str):
        self._run = run
        self._kept: dict[int, list] = {}
        self._turns: dict[int, int] = {}
        self._early: dict[int, dict[str, object]] = {}
        self._last: dict[int, dict[str, object]] = {}
        run.entered.add(name)

    def __call__(self, loop: int, variables: dict[str, object]) -> None:
        run = self._run
        run.steps += 1
        visible = {name: value for name, value in variables.items() if not run.hides(name)}
        shared = {} if variables is run.module else run.shared()
        self._last[loop] = visible
        self._turns[loop] = turns = self._turns.get(loop, 0) + 1
        if turns <= _EARLY:
            self._early[loop] = {name: value for name, value in visible.items() if type(value) in (int, bool)}
        try:
            state = canonical(visible, shared)
        except Incomparable as error:
            run.incomparable = f"{error}"
        except (RecursionError, MemoryError):
            raise
        except Exception as error:  # it must not pass for one of the program's own
            raise Refused(f"holds what cannot be looked at: {error}") from None
        else:
            self._compare(loop, state, visible)
        if run.steps >= run.most or (run.steps % _EVERY == 0 and time.monotonic() > run.deadline):
            raise Stopped(loop, self._early, self._last)

    def _compare(self, loop: int, state: list, variables: dict[str, object]) -> None:
        kept = self._kept.get(loop)
        if kept is None:
            self._kept[loop] = [state, 0, 1]
            return
        kept[1] += 1
        if kept[0] == state:
            raise Recurred(loop, kept[1], variables)
        if kept[1] == kept[2]:
            kept[:] = state, 0, 2 * kept[2]


class Run:
    """What one run shares among its activations.

    Attributes:
      module: the module's variables.
      hidden: names in it that are no variables of the program's.
      most: steps after which to stop; a step is one turn of one loop.
      deadline: when to stop, by the monotonic clock.
    """

    def __init__(self, module: dict[str, object], hidden: set[str], prefix: str, most: int, seconds: float):
        self.module, self._hidden, self._prefix = module, hidden, prefix
        self.most, self.deadline = most, time.monotonic() + seconds
        self.steps, self.incomparable, self.entered = 0, "", set()

    def hides(self, name: str) -> bool:
        """Whether a variable is no state: one of the watch's own but for iterators, the functions, the module's own."""
        return name in self._hidden or (name.startswith("__") and name.endswith("__"))

    def shared(self) -> dict[str, object]:
        return {name: value for name, value in self.module.items() if not self.hides(name)}


def guard(value: object) -> object:
    """The value, unless iterating over it may depend on what a dict does not show."""
    if type(value) in (dict, *_VIEWS):
        raise Refused("iterates over a dict in a program that removes items")
    return value
