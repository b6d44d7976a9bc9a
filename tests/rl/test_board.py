"""Tickets and accounts: whoever dies, every ticket is in one place, and the run comes to its end."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from test_spool_and_ledger import group

from cwm_jax.rl.board import Admission, Board
from cwm_jax.rl.curriculum import Order
from cwm_jax.rl.ledger import Entry, Ledger
from cwm_jax.rl.spool import Spool

TASKS = ("add", "copy", "sort")
WORKERS = st.sampled_from(["one", "two", "three"])


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Run(RuleBasedStateMachine):
    """Workers, a learner and a board that do anything in any order, and die at any point."""

    @initialize()
    def begin(self):
        import tempfile

        self.folder = tempfile.mkdtemp()
        self.clock, self.held = Clock(), []
        self.board = self._board()
        self.spool, self.ledger = Spool(f"{self.folder}/spool"), Ledger(f"{self.folder}/ledger.jsonl")

    def _board(self):
        return Board(self.folder, Order({"env": TASKS}, 3), Admission(1, 2), ttl=10.0, clock=self.clock)

    @rule(worker=WORKERS)
    def lease(self, worker):
        ticket = self.board.lease(worker)
        if ticket is not None:
            self.held.append((worker, ticket))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def seal(self, data):
        _, ticket = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.spool.seal(group(ticket.uid, members=2))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def die_with_a_ticket(self, data):
        self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))

    @rule(worker=WORKERS)
    def leave(self, worker):
        self.board.give_back(worker)
        self.held = [(who, ticket) for who, ticket in self.held if who != worker]

    @rule(worker=WORKERS)
    def renew(self, worker):
        mine = [ticket.uid for who, ticket in self.held if who == worker]
        assert set(self.board.renew(worker, mine)) <= set(mine)

    @rule(seconds=st.sampled_from([1.0, 6.0, 20.0]))
    def time_passes(self, seconds):
        self.clock.now += seconds

    @rule(reject=st.booleans(), forget=st.booleans())
    def learn(self, reject, forget):
        waiting = [uid for uid in self.spool.sealed() if uid not in self.ledger.taken]
        if waiting:
            rejected = {waiting[-1]: "zero advantage"} if reject and len(waiting) > 1 else {}
            consumed = tuple(uid for uid in waiting if uid not in rejected)
            self.ledger.append(Entry(len(self.ledger.entries) + 1, consumed, rejected))
            if forget:
                self.spool.delete(consumed)

    @rule()
    def the_board_is_killed(self):
        self.board = self._board()

    @invariant()
    def everything_is_in_one_place(self):
        if hasattr(self, "board"):
            accounts = self.board.accounts()
            assert accounts.holds, accounts
            assert accounts.sealed + accounts.in_flight <= 4, "more is under way than two steps take"

    def teardown(self):
        """Undisturbed, one worker makes all that is open, and nothing stays."""
        if not hasattr(self, "board"):
            return
        self.clock.now += 100
        while (ticket := self.board.lease("last")) is not None:
            self.spool.seal(group(ticket.uid, members=2))
        accounts = self.board.accounts()
        assert accounts.in_flight == 0 and accounts.holds


TestRun = Run.TestCase


def test_a_pass_holds_every_task_once_and_passes_differ():
    tasks = {"env": [str(n) for n in range(50)]}
    order = Order(tasks, 1)
    passes = [[order(50 * turn + place) for place in range(50)] for turn in range(3)]
    assert all({one.task for one in turn} == set(tasks["env"]) for turn in passes)
    assert passes[0] != passes[1] and len({one.uid for turn in passes for one in turn}) == 150
    assert [Order(tasks, 1)(n) for n in reversed(range(150))][::-1] == [one for turn in passes for one in turn]
    with pytest.raises(ValueError, match="no task"):
        Order({"env": []})


def test_a_ticket_that_nobody_answers_for_goes_to_somebody_else(tmp_path):
    clock = Clock()
    board = Board(tmp_path, Order({"env": TASKS}), Admission(0, 1), ttl=10.0, clock=clock)
    first = board.lease("one")
    assert board.lease("two") is None  # a step takes one group
    clock.now = 9.0
    assert board.renew("one", [first.uid]) == []
    clock.now = 18.0
    assert board.lease("two") is None
    clock.now = 20.0
    again = board.lease("two")
    assert again == first._replace(attempt=1) and board.again == 1
    assert board.renew("one", [first.uid]) == [first.uid]
