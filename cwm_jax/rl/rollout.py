"""Rollouts: an agent and an environment in turns, as generators that say what they wait for.

A rollout yields a `Request` and gets the `Completion` of it, or yields an `Act` and gets what that returned; its value
is the trajectory. So whoever drives it decides where tokens are drawn and on which thread an environment works, and a
test drives it without either.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from cwm_jax.envs.env import OK, Env, Reward, Task, Transition
from cwm_jax.inference.request import Completion, Request, Token
from cwm_jax.rl.journal import EpisodeJournal
from cwm_jax.rl.trajectory import Context, Trajectory, Turn


class Act(NamedTuple):
    """A call of an environment, which may take long or fail."""

    call: Callable[[], Any]


@dataclass(frozen=True)
class Drawing:
    """How actions are drawn.

    Attributes:
      temperature: 1 is the policy itself; what is recorded is its log-probability at temperature 1 whatever this is, so
        training needs 1.
      max_turns: of an episode.
      max_context: tokens of a context.
      kv: what a swap of weights does to running actions: `keep` or `recompute` their caches, `pin` them to a version.
      most_stale: versions that the oldest cache of a trajectory may be old at the beginning of a turn; beyond, the
        whole context is read anew. None for any.
    """

    temperature: float = 1.0
    max_turns: int = 128
    max_context: int = 131_072
    kv: str = "keep"
    most_stale: int | None = None


class Failed(Exception):
    """An environment failed; the message is the status of the trajectory."""


@dataclass
class _Said:
    """A context that grows."""

    tokens: list[int] = field(default_factory=list)
    agent: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)

    def observe(self, tokens: Sequence[int]) -> None:
        self._add(tokens, False, [0.0] * len(tokens), [-1] * len(tokens))

    def act(self, tokens: Sequence[Token]) -> None:
        self._add([t.id for t in tokens], True, [t.logprob for t in tokens], [t.version for t in tokens])

    def _add(self, tokens: Sequence[int], agent: bool, logprobs: list[float], versions: list[int]) -> None:
        self.tokens += tokens
        self.agent += [agent] * len(tokens)
        self.logprobs += logprobs
        self.versions += versions
        self.rewards += [0.0] * len(tokens)

    @property
    def context(self) -> Context:
        return Context.of(self.tokens, self.agent, self.logprobs, self.versions, self.rewards)


Rollout = Generator[Request | Act, Any, Trajectory]


def rollout(
    env: Env,
    task: Task,
    reward: Reward,
    drawing: Drawing,
    *,
    name: str,
    member: int,
    seed: int,
    number: int = 0,
    version: Callable[[], int],
    vocab_size: int,
    journal: EpisodeJournal | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Rollout:
    """One episode.

    Args:
      env, task, reward: what is done, and what it is worth.
      drawing: how.
      name: of the trajectory, unlike any other.
      member: its number in its group.
      seed: of the first action; each following turn takes the next.
      number: of its group in the run.
      version: tells the present version of the weights.
      vocab_size: observations are of ids below it.
      journal: knows the actions of a life before, and keeps those of this one.
      clock: tells seconds.
    """
    contexts: list[_Said] = [_Said()]
    turns: list[Turn] = []
    state, status, transition = None, OK, Transition()
    oldest, lineage = None, 0
    begun: list[Any] = []  # before it is told
    given_up = threading.Event()

    def start() -> tuple[Any, Transition]:
        found, said = env.start(task)
        begun.append(found)
        if given_up.is_set():
            _close_what(begun, env)
        return found, said

    def act(answer: Completion) -> Transition:
        if journal is not None:
            journal.keep(answer)
        return env.step(state, answer.ids)

    try:
        state, transition = yield Act(start)
        _hear(contexts, transition, vocab_size, first=True)
        while not transition.over:
            said = contexts[-1]
            room = min(env.max_action(state), drawing.max_context - len(said.tokens))
            if room < 1 or len(turns) == drawing.max_turns:
                status = OK  # cut short: the agent's own doing
                transition = replace(transition, over=True, outcomes={**transition.outcomes, "cut": 1.0})
                break
            if oldest is not None and drawing.most_stale is not None and version() - oldest > drawing.most_stale:
                oldest, lineage = None, lineage + 1
            asked = Request(
                tuple(said.tokens), room, drawing.temperature, seed=seed + len(turns), stop_ids=env.stop_ids,
                on_swap=drawing.kv, lineage=f"{name} {len(contexts)} {lineage}" if drawing.kv == "keep" else "",
                version=version() if drawing.kv == "pin" else None,
            )  # fmt: skip
            began, start = clock(), len(said.tokens)
            answer: Completion | None = journal.known(asked) if journal is not None else None
            if answer is None:
                answer = yield asked
            drawn = clock()
            said.act(answer.tokens)
            made = [token.version for token in answer.tokens]
            oldest = min(made, default=version()) if oldest is None else min(oldest, *made)
            transition = yield Act(lambda answer=answer: act(answer))
            turns.append(Turn(len(contexts) - 1, start, len(said.tokens), drawn - began, clock() - drawn))
            _hear(contexts, transition, vocab_size)
        if transition.status != OK:
            status = transition.status
        elif contexts[-1].agent and any(any(said.agent) for said in contexts):
            worth = reward(transition.outcomes, sum(sum(said.agent) for said in contexts), number)
            if not np.isfinite(worth):
                raise Failed(f"reward of {worth}")
            last = next(said for said in reversed(contexts) if any(said.agent))
            last.rewards[len(last.agent) - 1 - last.agent[::-1].index(True)] = float(worth)
    except Failed as error:
        status = str(error)
        if state is None:
            given_up.set()
            _close_what(begun, env)
    except GeneratorExit:  # whoever drives gives up
        given_up.set()
        _close_what(begun, env)
        raise
    if state is not None:
        try:
            yield Act(lambda: env.close(state))
        except Failed as error:
            status = str(error) if status == OK else status
    outcomes = {name: float(value) for name, value in transition.outcomes.items()} if status == OK else {}
    done = tuple(said.context for said in contexts if said.tokens)
    return Trajectory(done, member, status, tuple(turns), outcomes, dict(transition.info) if status == OK else {})


def _close_what(begun: list[Any], env: Env) -> None:
    """Closes an episode that was begun, once, whichever thread comes first."""
    with contextlib.suppress(IndexError):
        env.close(begun.pop())


def _hear(contexts: list[_Said], transition: Transition, vocab_size: int, first: bool = False) -> None:
    """Takes what an environment says.

    Raises:
      Failed: it is nothing that an environment may say.
    """
    if not isinstance(transition, Transition):
        raise Failed(f"said {type(transition).__name__}, no Transition")
    tokens = transition.observation
    try:
        sound = all(0 <= int(token) < vocab_size for token in tokens)
    except (TypeError, ValueError):
        sound = False
    if not sound:
        raise Failed("observed what are no tokens")
    if first and not tokens:
        raise Failed("began without a prompt")
    if transition.fresh and not first:
        contexts.append(_Said())
    contexts[-1].observe([int(token) for token in tokens])
