"""T13: however slow one side is, no token that is learnt from is older than the bound, and nobody waits for ever."""

from itertools import count

import numpy as np
import pytest
from small_rl import small

from cwm_jax.rl.in_one_process import together

STEPS = 12
BOUND = 2
# Room for all groups that may be under way at once, so that nothing but admission holds a sampler up.
ROOM = ("EngineConfig.slots=48", "Sampling.groups=48")
LIMITS = (f"Stale.newest={BOUND}", f"Stale.oldest={BOUND}")
NO_LIMITS = ("Stale.newest=99", "Stale.oldest=None")
# All that may begin is read at once, so that answers of all lengths are under way, and end as it comes.
AT_ONCE = ("EngineConfig.rows=48", "EngineConfig.page=16", "EngineConfig.chunk=16", "Reverse.length=8")


def turns(roles, learner_every, sampler_every):
    """Runs by a clock of its own: each role has a turn whenever its time has come; after each, what a step told."""
    roles.learner.publisher.wait()
    for now in count(1):
        if now % sampler_every == 0:
            for sampler in roles.samplers:
                sampler.tick()
        metrics = roles.learner.tick() if now % learner_every == 0 else None
        roles.learner.publisher.wait()
        yield now, metrics
        if roles.learner.done:
            return


@pytest.mark.parametrize("learner_every, sampler_every", [(10, 1), (100, 1), (1, 10)])
def test_ages_and_queues_are_bounded_whoever_is_slow(tmp_path, learner_every, sampler_every):
    rl = small(STEPS, BOUND, *ROOM, *LIMITS)
    told, waited, since = [], [], 0
    with together(rl, tmp_path) as roles:
        for now, metrics in turns(roles, learner_every, sampler_every):
            accounts = roles.board.accounts()
            assert accounts.holds, accounts
            assert accounts.sealed + accounts.in_flight <= (BOUND + 1) * rl.admission.groups
            if metrics is not None:
                told.append(metrics)
                waited.append(now - since)
                since = now
    assert len(told) == STEPS and max(waited) <= 40 * max(learner_every, sampler_every), "somebody starves"
    assert accounts.rejected.get("stale", 0) <= accounts.consumed / 4, "nearly all that is made within bounds is used"
    ages = np.sum([np.pad(one["age"], (0, 99 - len(one["age"]))) for one in told], axis=0)
    assert not ages[BOUND + 1 :].any(), ages
    if learner_every > 10:
        assert told[-1]["oldest"] == BOUND, "the bound is reached, so it was put to the test"


def test_groups_that_are_overtaken_are_not_learnt_from_when_they_are_too_old(tmp_path):
    """Admission counts groups: where others overtake a slow one it comes out older, and `Stale` draws the line."""
    members = {}
    for name, filters in {"open": NO_LIMITS, "closed": LIMITS}.items():
        rl = small(STEPS, BOUND, *ROOM, *filters, *AT_ONCE)
        with together(rl, tmp_path / name) as roles:
            members[name] = [m for _, m in turns(roles, 1, 1) if m is not None]
            assert roles.board.accounts().holds
    oldest = {name: max(one["oldest"] for one in some) for name, some in members.items()}
    assert oldest["closed"] <= BOUND < oldest["open"], oldest
