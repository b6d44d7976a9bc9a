"""A run of asynchronous RL in fast motion: learner, samplers, environments and publications as events on a clock.

What takes time is told in seconds, so the same simulation serves two cores and a thousand chips. A step waits for its
groups, groups for their slowest member, members for slots and environments, samplers for weights; everything else
follows. With `Admission.staleness=0` samplers wait for the weights of every step: that is synchronous RL.
"""

import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

from cwm_jax.rl.board import Admission


@dataclass(frozen=True)
class LogNormal:
    """A quantity above 0 with a long tail.

    Attributes:
      mean: before `most` cuts it.
      sigma: standard deviation of its logarithm; 0 is always `mean`.
      most: what is more counts as that; None for no limit.
    """

    mean: float = 1.0
    sigma: float = 0.0
    most: float | None = None

    def __post_init__(self):
        if not self.mean > 0 or self.sigma < 0 or (self.most is not None and self.most <= 0):
            raise ValueError(f"{self}: mean and most must be above 0, sigma at least 0")

    def at(self, normal: float) -> float:
        """The value where a standard normal one is `normal`."""
        value = self.mean * math.exp(self.sigma * normal - self.sigma**2 / 2)
        return value if self.most is None else min(value, self.most)

    def mean_of(self, what: Callable[[float], float], draws: int = 1, points: int = 2000) -> float:
        """The mean of `what(value)`, where the value is the largest of `draws`."""
        places = (((i + 0.5) / points) ** (1 / draws) for i in range(points))
        return math.fsum(what(self.at(NormalDist().inv_cdf(place))) for place in places) / points


@dataclass(frozen=True)
class Episodes:
    """What episodes are like.

    Attributes:
      tokens: of one, drawn and read.
      drawn: share of them that the agent draws.
      turns: in each the agent draws, then the environment is called.
      latency: seconds of such a call.
      members: of a group, which is done when they all are.
      kept: share of groups that are learnt from; others told nothing, or came too late.
    """

    tokens: LogNormal = field(default_factory=LogNormal)
    drawn: float = 1.0
    turns: int = 1
    latency: LogNormal = field(default_factory=LogNormal)
    members: int = 1
    kept: float = 1.0

    def __post_init__(self):
        if not (0 < self.drawn <= 1 and 0 < self.kept <= 1 and self.turns >= 1 and self.members >= 1):
            raise ValueError(f"{self}: shares are above 0 and at most 1, turns and members at least 1")


@dataclass(frozen=True)
class Samplers:
    """Hosts that draw.

    Attributes:
      count: of hosts.
      groups: under way on one at once.
      slots: episodes that one draws for at once.
      threads: calls of environments of one at once.
      base: seconds of a step of decoding, whatever runs.
      each: seconds more for each episode in a slot.
      read: seconds to read a token; meanwhile nothing is drawn.
    """

    count: int = 1
    groups: int = 1
    slots: int = 1
    threads: int = 1
    base: float = 1.0
    each: float = 0.0
    read: float = 0.0

    def __post_init__(self):
        if min(self.count, self.groups, self.slots, self.threads) < 1 or min(self.base, self.each, self.read) < 0:
            raise ValueError(f"{self}: counts are at least 1, seconds at least 0")


@dataclass(frozen=True)
class Publishing:
    """How weights get to the samplers; all in seconds but the first.

    Attributes:
      every: steps between publications.
      write: until they are announced; the learner waits for the one before.
      poll: between looks of a sampler.
      load: beside drawing.
      swap: until the call that runs is over.
    """

    every: int = 1
    write: float = 0.0
    poll: float = 0.0
    load: float = 0.0
    swap: float = 0.0


@dataclass(frozen=True)
class System:
    """All that a simulation knows.

    Attributes:
      steps: length of the run.
      warm: steps of these before anything is measured, wall time apart.
      train: seconds of a step.
      admission: as the board has it; `groups` are those of a step.
      samplers, episodes, publishing: the rest.
      seed: of lengths, latencies and looks.
    """

    steps: int = 100
    warm: int = 0
    train: float = 1.0
    admission: Admission = field(default_factory=Admission)
    samplers: Samplers = field(default_factory=Samplers)
    episodes: Episodes = field(default_factory=Episodes)
    publishing: Publishing = field(default_factory=Publishing)
    seed: int = 0

    def __post_init__(self):
        if self.publishing.every > self.admission.staleness + 1:
            raise ValueError(
                f"publishing every {self.publishing.every} steps, samplers wait for ever for weights that are at most "
                f"{self.admission.staleness} steps old; publish more often or allow more"
            )
        if not 0 <= self.warm < self.steps:
            raise ValueError(f"System.warm={self.warm} must be below steps={self.steps}")


@dataclass(frozen=True)
class Ran:
    """What a simulated run did.

    Attributes:
      wall: seconds of all of it.
      interval: seconds between the ends of two steps.
      learner: share of the time in which it steps.
      slots: share of them that draw.
      oldest, newest: how many episodes by the age of their first and last token: steps that the learner was ahead of
        the weights that drew it when their group was taken.
      versions: how many episodes by the number of weights that drew them.
      reach: seconds from the end of a step until the last sampler draws with its weights or newer ones, in the mean;
        None if that never happened.
    """

    wall: float
    interval: float
    learner: float
    slots: float
    oldest: Counter[int]
    newest: Counter[int]
    versions: Counter[int]
    reach: float | None


def mean(histogram: Counter[int]) -> float:
    """Of what a histogram counts."""
    return sum(value * count for value, count in histogram.items()) / max(histogram.total(), 1)


def simulate(system: System) -> Ran:
    """Runs it."""
    return _Run(system).run()


def speed_up(system: System) -> float:
    """How often faster it is than the same hosts in synchronous RL: all slots run dry, then the step, then again."""
    barrier = replace(
        system,
        admission=replace(system.admission, staleness=0),
        publishing=replace(system.publishing, every=1),
    )
    return simulate(barrier).wall / simulate(system).wall


@dataclass(eq=False)
class _Group:
    """A group under way.

    Attributes:
      host: that makes it.
      left: members that are not done.
      kept: whether it will be learnt from.
      members: those that are done.
    """

    host: "_Host"
    left: int
    kept: bool
    members: list["_Episode"] = field(default_factory=list)


@dataclass(eq=False)
class _Episode:
    """A member under way.

    Attributes:
      group: of it.
      latencies: seconds of the calls to come.
      drawn, read: tokens of a turn.
      first, last: steps that the weights of the first and last token so far come from.
      versions: that drew it so far.
      swaps: of its host when it drew last.
    """

    group: _Group
    latencies: list[float]
    drawn: float
    read: float
    first: int = -1
    last: int = 0
    versions: int = 0
    swaps: int = -1


@dataclass(eq=False)
class _Host:
    """A sampler: all its slots draw at one speed, so one clock of tokens tells when each is done.

    Attributes:
      step: that its weights come from; `loading` the next ones.
      swaps: of weights so far.
      making: groups under way.
      clock: tokens that a slot has drawn since the start; `at` is when that was so.
      stall: seconds of reading before it goes on.
      drawing: the slots, by the clock at which they are done.
      queue: episodes that wait for a slot.
      acting, calls: calls of environments that run, and episodes that wait for theirs.
      stamp: of the event that ends the next turn; others are forgotten.
      busy: seconds of slots that were drawing.
    """

    step: int = 0
    loading: int | None = None
    swaps: int = 0
    making: int = 0
    clock: float = 0.0
    at: float = 0.0
    stall: float = 0.0
    drawing: list[tuple[float, int, _Episode]] = field(default_factory=list)
    queue: deque[_Episode] = field(default_factory=deque)
    acting: int = 0
    calls: deque[_Episode] = field(default_factory=deque)
    stamp: int = 0
    busy: float = 0.0


class _Run:
    """One simulation. What happens is a function and its arguments, called when the clock gets there."""

    def __init__(self, system: System):
        self._s, self._now = system, 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self._looks = random.Random(system.seed)
        self._hosts = [_Host() for _ in range(system.samplers.count)]
        self._begun = self._running = 0  # groups
        self._waiting: deque[_Group] = deque()
        self._taken = self._done = self._newest = 0  # steps: begun, ended, published
        self._free = True
        self._announced_at = 0.0  # when the last publication was, or will be, announced
        self._trained = 0.0
        self._behind: dict[int, list[float]] = {}  # by published step: when it ended, hosts that have it not
        self._reach: list[float] = []
        self._oldest, self._newest_age, self._versions = Counter(), Counter(), Counter()
        self._start = (0.0, 0.0, 0.0)

    def run(self) -> Ran:
        self._begin(self._hosts)
        while self._done < self._s.steps:
            self._now, _, what, arguments = heapq.heappop(self._events)
            what(*arguments)
        began, trained, busy = self._start
        wall = self._now - began
        slots = wall * self._s.samplers.count * self._s.samplers.slots
        return Ran(
            wall=self._now,
            interval=wall / (self._s.steps - self._s.warm),
            learner=(self._trained - trained) / wall if wall else 0.0,
            slots=(self._busy() - busy) / slots if slots else 0.0,
            oldest=self._oldest,
            newest=self._newest_age,
            versions=self._versions,
            reach=math.fsum(self._reach) / len(self._reach) if self._reach else None,
        )

    def _at(self, seconds: float, what: Callable[..., None], *arguments: Any) -> None:
        """Has something happen in so many seconds."""
        self._order += 1
        heapq.heappush(self._events, (self._now + seconds, self._order, what, arguments))

    # Groups begin.

    def _begin(self, hosts: list[_Host]) -> None:
        """Begins what may begin, a group on each host by turns."""
        able = self._looks.sample(hosts, len(hosts)) if len(hosts) > 1 else list(hosts)
        while able and self._s.admission(len(self._waiting), self._running):
            host = able.pop(0)
            fresh = self._taken - host.step <= self._s.admission.staleness
            if host.making < self._s.samplers.groups and fresh:
                self._begin_group(host)
                able.append(host)

    def _begin_group(self, host: _Host) -> None:
        c = self._s.episodes
        draw = random.Random(self._s.seed << 32 | self._begun)  # so that a group is the same whoever makes it
        group = _Group(host, c.members, draw.random() < c.kept)
        self._begun, self._running, host.making = self._begun + 1, self._running + 1, host.making + 1
        for _ in range(c.members):
            tokens = c.tokens.at(draw.gauss()) / c.turns
            latencies = [c.latency.at(draw.gauss()) for _ in range(c.turns)]
            host.queue.append(_Episode(group, latencies, tokens * c.drawn, tokens * (1 - c.drawn)))
        self._fill(host)

    # A host draws.

    def _seconds(self, host: _Host) -> float:
        """Of a step of decoding."""
        return self._s.samplers.base + self._s.samplers.each * len(host.drawing)

    def _settle(self, host: _Host) -> None:
        """Brings its clock up to now."""
        passed = self._now - host.at
        host.busy += passed * len(host.drawing)
        host.at = self._now
        stalled = min(passed, host.stall)
        host.stall -= stalled
        if host.drawing and passed > stalled and (seconds := self._seconds(host)):
            host.clock += (passed - stalled) / seconds

    def _fill(self, host: _Host) -> None:
        """Episodes into free slots; then it is known when the next turn ends."""
        self._settle(host)
        while host.queue and len(host.drawing) < self._s.samplers.slots:
            one = host.queue.popleft()
            host.stall += one.read * self._s.samplers.read
            if one.first < 0:
                one.first = host.step
            if one.swaps != host.swaps:  # else these weights drew its last turn, too
                one.versions, one.swaps = one.versions + 1, host.swaps
            self._order += 1
            heapq.heappush(host.drawing, (host.clock + one.drawn, self._order, one))
        host.stamp += 1
        if host.drawing:
            left = max(host.drawing[0][0] - host.clock, 0.0)
            self._at(host.stall + left * self._seconds(host), self._drawn, host, host.stamp)

    def _drawn(self, host: _Host, stamp: int) -> None:
        """A turn is drawn: the environment is called."""
        if stamp != host.stamp:
            return
        self._settle(host)
        host.clock, _, one = heapq.heappop(host.drawing)
        one.versions, one.swaps, one.last = one.versions + host.swaps - one.swaps, host.swaps, host.step
        host.calls.append(one)
        self._call(host)
        self._fill(host)

    def _call(self, host: _Host) -> None:
        while host.calls and host.acting < self._s.samplers.threads:
            one = host.calls.popleft()
            host.acting += 1
            self._at(one.latencies.pop(), self._acted, host, one)

    def _acted(self, host: _Host, one: _Episode) -> None:
        """An environment has answered."""
        host.acting -= 1
        self._call(host)
        if one.latencies:
            host.queue.append(one)
            self._fill(host)
            return
        group = one.group
        group.members.append(one)
        group.left -= 1
        if not group.left:
            self._running, host.making = self._running - 1, host.making - 1
            if group.kept:
                self._waiting.append(group)
                self._take()
            self._begin([host])

    # The learner.

    def _take(self) -> None:
        """Begins a step if its groups are there."""
        if not self._free or len(self._waiting) < self._s.admission.groups:
            return
        taken = [self._waiting.popleft() for _ in range(self._s.admission.groups)]
        if self._done >= self._s.warm:
            for one in (one for group in taken for one in group.members):
                self._oldest[self._done - one.first] += 1
                self._newest_age[self._done - one.last] += 1
                self._versions[one.versions] += 1
        self._free, self._taken = False, self._taken + 1
        self._at(self._s.train, self._step_done)
        self._begin(self._hosts)

    def _step_done(self) -> None:
        self._done, self._trained = self._done + 1, self._trained + self._s.train
        if self._done == self._s.warm:
            self._start = self._now, self._trained, self._busy()
        blocked = 0.0
        if self._done % self._s.publishing.every == 0:
            blocked = max(self._announced_at - self._now, 0.0)
            self._announced_at = self._now + blocked + self._s.publishing.write
            self._at(self._announced_at - self._now, self._announce, self._done, self._now)
        self._at(blocked, self._be_free)

    def _be_free(self) -> None:
        self._free = True
        self._take()

    def _busy(self) -> float:
        for host in self._hosts:
            self._settle(host)
        return math.fsum(host.busy for host in self._hosts)

    # Weights.

    def _announce(self, step: int, ended: float) -> None:
        self._newest = step
        self._behind[step] = [ended, len(self._hosts)]
        for host in self._hosts:
            if host.loading is None:
                self._at(self._looks.uniform(0, self._s.publishing.poll), self._look, host)

    def _look(self, host: _Host) -> None:
        if host.loading is None and self._newest > host.step:
            host.loading = self._newest
            self._at(self._s.publishing.load + self._s.publishing.swap, self._loaded, host)

    def _loaded(self, host: _Host) -> None:
        before, host.step, host.loading = host.step, host.loading, None
        host.swaps += 1
        for step in [step for step in self._behind if before < step <= host.step]:
            self._behind[step][1] -= 1
            if not self._behind[step][1]:
                self._reach.append(self._now - self._behind.pop(step)[0])
        if self._newest > host.step:
            self._at(self._looks.uniform(0, self._s.publishing.poll), self._look, host)
        self._begin([host])
