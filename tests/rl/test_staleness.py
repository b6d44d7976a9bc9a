"""T13: however slow one side is, no token that is learnt from is older than the bound, and nobody waits for ever."""

from itertools import count

import numpy as np
import pytest
from small_rl import ages, small

from cwm_jax.rl.ledger import Ledger
from cwm_jax.rl.spool import Spool
from cwm_jax.rl.together import together

STEPS = 12
BOUND = 2
# Room for all groups that may be under way at once, so that nothing but admission holds a sampler up.
ROOM = ("EngineConfig.slots=48", "Sampling.groups=48")


def turns(roles, learner_every, sampler_every):
    """Runs by a clock of its own: each role has a turn whenever its time has come; after each, `roles` is yielded."""
    roles.learner.publisher.wait()
    for now in count(1):
        if now % sampler_every == 0:
            for sampler in roles.samplers:
                sampler.tick()
        if now % learner_every == 0 and roles.learner.tick() is not None:
            roles.learner.publisher.wait()
            yield now, True
        else:
            yield now, False
        if roles.learner.done:
            return


@pytest.mark.parametrize("learner_every, sampler_every", [(10, 1), (100, 1), (1, 10)])
def test_ages_and_queues_are_bounded_whoever_is_slow(tmp_path, learner_every, sampler_every):
    rl = small(STEPS, BOUND, *ROOM)
    groups = rl.admission.groups
    oldest, since, waited = [], 0, []
    with together(rl, tmp_path) as roles:
        spool, ledger = Spool(tmp_path / "spool"), Ledger(tmp_path / "ledger.jsonl")
        for now, learnt in turns(roles, learner_every, sampler_every):
            accounts = roles.board.accounts()
            assert accounts.holds, accounts
            assert accounts.sealed + accounts.in_flight <= (BOUND + 1) * groups
            if learnt:
                waited.append(now - since)
                ledger.refresh()
                since, version = now, roles.learner.publisher.version - 1
                for uid in ledger.steps[roles.learner.step].consumed:
                    oldest.append(int(ages(spool, uid, version).max()))
    assert len(waited) == STEPS and max(waited) <= 40 * max(learner_every, sampler_every), "somebody starves"
    assert "stale" not in ledger.reasons, "what is made within the bound is never thrown away"
    assert max(oldest) <= BOUND, np.bincount(oldest)
    if learner_every > 10:
        assert max(oldest[-2 * groups :]) == BOUND, "the bound is reached, so it was put to the test"
