"""A model that is always right, token by token: what stands between its tokens and the session adds no mistake."""

import threading
from random import Random

import pytest

from cwm_jax.inference.request import Finish, Token
from cwm_jax.sandbox import Isolation
from cwm_jax.text.pieces import pieces_of_ids
from cwm_jax.text.vocabulary import train_vocabulary
from cwm_jax.tracing import Trace
from cwm_jax.tracing.compact import Compact
from cwm_jax.tracing.compact.symbols import EVENT_OF
from cwm_jax.tracing.language import TraceSyntaxError
from cwm_jax.tracing.sources import composed, strawberry
from cwm_jax.tracing.wrap import wrap
from cwm_jax.worldmodel.debugger import Program, Session
from cwm_jax.worldmodel.debugger.outcomes import Refused
from cwm_jax.worldmodel.models.local import LocalModel
from cwm_jax.worldmodel.predict import WorldModel
from cwm_jax.worldmodel.real import RealRun, paired

FORM = Compact()
REAL = RealRun(Isolation.LIMITS_ONLY)
RAISES = """def g(n):
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
    return total
"""
CONTEXTS = [wrap(RAISES, "f", "[1, 2, 3]"), *(f.generate(Random(7), 1).contexts()[0] for f in (strawberry, composed))]


class Right:
    """An engine whose tokens are those of the real run, from whatever frames the prompt ends with."""

    def __init__(self, model, context):
        self._model, self._context = model, context
        self._events, self.busy = [], False

    def submit(self, request):
        given = request.prompt[len(self._model.vocabulary.encode_segments(FORM.context(self._context))) :]
        pieces = [piece for piece, _ in pieces_of_ids(self._model.vocabulary, FORM.control_symbols, zip(given, given))]
        asked = EVENT_OF[pieces[-1]] if pieces and pieces[-1] in EVENT_OF else None
        frames = []
        with pytest.raises(TraceSyntaxError):
            for told in FORM.told(self._context, pieces):
                frames.append(told.frame)
        (future,) = REAL.futures(self._context, frames, first=asked)
        whole = FORM.frames(Trace(self._context, (*frames, *(each.frame for each in future.frames))))
        assert whole[: len(pieces)] == pieces
        ids = self._model.vocabulary.encode_segments(whole[len(pieces) :])
        self._events = [*((0, Token(one, 0.0, 0)) for one in ids), (0, Finish("stop"))]
        self.busy = True
        return 0

    def forget(self, numbers):
        self._events, self.busy = [], False

    def step(self):
        events, self._events = self._events[:1], self._events[1:]
        self.busy = bool(self._events)
        return events


@pytest.fixture(scope="module")
def vocabulary():
    traces = [REAL.trace(context) for context in CONTEXTS]
    return train_vocabulary([[*FORM.context(t.context), *FORM.frames(t)] for t in traces], 500, FORM.control_symbols)


@pytest.mark.parametrize("context", CONTEXTS, ids=["raises", "strawberry", "composed"])
def test_any_walk_shows_the_real_run(vocabulary, context):
    local = LocalModel.__new__(LocalModel)
    local.vocabulary, local.form, local.longest, local._turn = vocabulary, FORM, 100_000, threading.RLock()
    local.engine = Right(local, context)
    model = WorldModel(local)
    true = REAL.trace(context).frames
    rng = Random(3)
    for _ in range(8):
        session = Session(Program.of_context(context), model, REAL)
        while not session.ended:
            name = rng.choice(["step", "step", "next", "return_", "out", "until", "reverse_step", "back", "finish"])
            try:
                getattr(session, name)()
            except Refused:
                assert name in ("reverse_step", "back")
            frames = [each.frame for each in session.frames]
            assert len(paired(true, frames).places) == len(frames)
            assert session.verify().index is None
            assert all(each.sure == 1 and {p for _, p in each.values} <= {1.0} for each in session.frames)
        session.reset()
        session.continue_()
        assert tuple(each.frame for each in session.frames) == true
        assert not local.engine.busy
