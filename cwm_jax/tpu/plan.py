"""A plan for reinforcement learning on TPUs: chips of each role, pace, age of what is learnt from, what is the limit.

Everything is arithmetic on what stands in `RlPlan`, with the roofline of training, and once more a simulation with
the same constants. The arithmetic is that of a steady state:

- A step of decoding reads all weights once, and the keys and values of each episode in a slot, of mean length over its
  life. Reading what environments say stops it.
- A group keeps its place until its slowest member is done: a host makes groups as fast as places / life of a group.
- Where samplers could make groups faster than the learner takes them, groups wait until admission begins no more: they
  get as old as it allows, however fast everything is.
- A publication is written by the learner's hosts together, found by a look, read by each sampler beside drawing, and
  taken between two calls of the engine.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import jax.numpy as jnp

from cwm_jax.checkpoints.weights import WeightsIndex, layer_name
from cwm_jax.inference.served import Int8
from cwm_jax.model.flops import flops, visible_keys
from cwm_jax.model.sharding import MeshShape
from cwm_jax.rl.planning import RlPlan
from cwm_jax.rl.simulate import Episodes, Publishing, Samplers, System, mean, simulate
from cwm_jax.tpu.chips import Topology
from cwm_jax.tpu.forecast import FREE
from cwm_jax.tpu.published import FUSED, SPLIT
from cwm_jax.tpu.roofline import Roofline, work
from cwm_jax.training.experiment import Experiment

COMPARED = ("interval", "learner", "slots", "oldest", "newest", "versions", "reach")
CHIPS_OF_A_HOST = 4
FUSED_KEYS = 16_384
"""Up to so many, splash attention computes its gradients in one kernel."""


@dataclass(frozen=True)
class Slices:
    """The slices of a role.

    Attributes:
      topology: of each.
      count: of them.
    """

    topology: Topology
    count: int

    @classmethod
    def of(cls, mesh: MeshShape | str) -> "Slices":
        """What a name of `model.meshes` is for; raises ValueError where it is none."""
        if not isinstance(mesh, str):
            raise ValueError(f"{mesh} does not say of which chips it is; let Rl.mesh be a name of model.meshes")
        name, count = mesh.partition("/")[0], 1
        if name.startswith("2x"):
            name, count = name[2:], 2
        return cls(Topology.parse(name), count)

    @property
    def chips(self) -> int:
        return self.count * self.topology.chips

    @property
    def hosts(self) -> int:
        return self.count * math.ceil(self.topology.chips / CHIPS_OF_A_HOST)


def learner_seconds(experiment: Experiment, vocab_size: int, length: int) -> float:
    """A step of the learner in rows of `length` tokens, without compiling it.

    As `forecast` has it, but what is executed is counted by hand: all but the last product of a layer twice, and the
    kernels of attention that splash takes for so many keys. Collectives, which overlap, are left out.
    """
    model, slices = experiment.model, Slices.of(experiment.mesh)
    tokens = experiment.stream.tokens_per_batch / slices.chips
    shard = length // experiment.mesh_shape.context
    keys = [length if window is None else min(length, shard + window) for window in model.windows()]
    products = sum(2 + 2 + (FUSED if count <= FUSED_KEYS else SPLIT) for count in keys) / model.layers
    forward = flops(model, vocab_size, length).matmul
    last = flops(model, vocab_size, length, start=length - shard)  # the shard that sees most keys
    at_peak = work(
        slices.topology.chip,
        slices.chips // experiment.mesh_shape.replica,
        model,
        vocab_size,
        tokens,
        4 * forward - 2.0 * model.layers * model.d_model * model.d_ff,
        last.attention * products / 2,
    )
    return Roofline.calibrate().seconds(at_peak)


class Drawing(NamedTuple):
    """A sampler's speed and memory.

    Attributes:
      weights, stack, cache: bytes of a set of weights, of the largest matrix of all layers, which is there once more
        while weights that came are split, and of what is kept of sequences; on all its chips.
      base, each, read: as in `Samplers`.
      context: tokens of an episode in a slot, in the mean.
    """

    weights: int
    stack: int
    cache: int
    base: float
    each: float
    read: float
    context: float


def drawing(plan: RlPlan) -> Drawing:
    """The roofline of a sampler: what it reads of HBM to draw, what it computes to read."""
    serve, tokens = plan.inference, plan.episodes.tokens
    model, layout, topology = serve.model, serve.engine.layout(serve.model), Slices.of(serve.mesh).topology
    bandwidth, peak = topology.chips * topology.chip.hbm_bandwidth, topology.chips * topology.chip.peak
    width = jnp.dtype(serve.compute).itemsize
    index = WeightsIndex(model, serve.vocabulary_size, serve.compute)
    size = 1 if isinstance(serve.weights, Int8) else width  # of a weight
    weights = index.parameters * size
    stack = model.layers * max(math.prod(shape) for shape in index.parts()[layer_name(0)].values()) * size
    token = 2 * model.kv_heads * model.head_dim * width  # of one layer
    cache = sum(len(group.layers) * group.pages for group in layout.groups) * layout.page * token

    def over_life(seen: Callable[[float], float]) -> float:
        """The mean over all tokens of all episodes; long ones have more."""
        return tokens.mean_of(lambda length: length * seen(length)) / tokens.mean_of(float)

    keys = sum(over_life(lambda length, w=window: visible_keys(length, w)) for window in model.windows())
    roofline = Roofline.calibrate()
    counted = flops(model, serve.vocabulary_size, 1).matmul, 4.0 * model.q_heads * model.head_dim * keys
    busy = counted[0] * roofline.matmul + counted[1] * roofline.attention * max(1, topology.chip.mxu / model.head_dim)
    return Drawing(
        weights,
        stack,
        cache,
        base=weights / bandwidth / plan.weights_share,
        each=keys * token / bandwidth / plan.cache_share,
        read=max(busy / peak, weights / bandwidth / plan.weights_share / serve.engine.chunk),
        context=over_life(lambda length: visible_keys(length, None)),
    )


class Steady(NamedTuple):
    """A host that draws for `slots` episodes at a time.

    Attributes:
      slots: episodes that draw or are read.
      episode, group: seconds of an episode, and of the slowest of a group.
      groups: that it makes a second.
    """

    slots: float
    episode: float
    group: float
    groups: float


def steady(hosts: Samplers, episodes: Episodes, rate: float = math.inf) -> Steady:
    """The steady state of a host that makes groups as fast as it can, or `rate` of them a second if that is less.

    Little's law, three times: on slots, on calls of environments, on groups. That calls take different times is not
    looked at: over the turns of an episode it evens out.
    """
    length, longest = episodes.tokens.mean_of(float), episodes.tokens.mean_of(float, episodes.members)
    calls = episodes.turns * episodes.latency.mean_of(float)

    def at(slots: float) -> Steady:
        seconds = hosts.base + hosts.each * slots
        token = episodes.drawn * seconds + slots * (1 - episodes.drawn) * hosts.read  # in a slot
        member = length * token * episodes.members
        made = min(slots / member, hosts.threads / (calls * episodes.members))
        return Steady(made * member, length * token + calls, longest * token + calls, made)

    def wanted(state: Steady) -> float:
        return min(rate, hosts.groups / state.group)

    full = at(hosts.slots)
    if full.groups < wanted(full):  # all places are taken, and who has no slot waits
        waits = hosts.groups / full.groups - full.group
        return full._replace(episode=full.episode + waits, group=full.group + waits)
    low, high = 0.0, float(hosts.slots)
    for _ in range(60):
        state = at(slots := (low + high) / 2)
        low, high = (slots, high) if state.groups < wanted(state) else (low, slots)
    return at(high)


def system(plan: RlPlan) -> System:
    """The constants of a run as planned.

    Raises:
      ValueError: a mesh has no name, or a batch would not have as many groups as `Admission` says.
    """
    rl, storage, drawn = plan.rl, plan.storage, drawing(plan)
    learner, sampler = Slices.of(rl.mesh), Slices.of(rl.inference_mesh)
    episodes = replace(plan.episodes, members=rl.sampling.members)
    _check_batch(plan, episodes)
    host = Samplers(
        rl.samplers, rl.sampling.groups, rl.engine.slots, max(1, rl.sampling.threads), drawn.base, drawn.each,
        drawn.read,
    )  # fmt: skip
    return System(
        steps=plan.simulated,
        warm=plan.simulated // 2,
        train=learner_seconds(rl.training, plan.inference.vocabulary_size, rl.learning.batching.length),
        admission=rl.admission,
        samplers=host,
        episodes=episodes,
        publishing=Publishing(
            every=rl.learning.publish_every,
            write=drawn.weights / min(learner.hosts * storage.host_write, storage.all_write),
            poll=rl.sampling.poll,
            load=drawn.weights / min(sampler.hosts * storage.host_read, storage.all_read / rl.samplers),
            swap=rl.engine.steps * (drawn.base + drawn.each * steady(host, episodes).slots),
        ),
    )


def _check_batch(plan: RlPlan, episodes: Episodes) -> None:
    """Refuses a batch that closes with other groups than `Admission` says, episodes being as expected."""
    batching, groups = plan.rl.learning.batching, plan.rl.admission.groups
    whole = groups * episodes.members * episodes.tokens.mean_of(float)
    if whole > batching.rows * batching.length:
        raise ValueError(
            f"Admission.groups={groups} of Episodes have {whole:,.0f} tokens, more than Batching.rows * length = "
            f"{batching.rows * batching.length:,}; lower the groups"
        )
    if batching.groups is None and abs(batching.tokens / (whole * episodes.drawn) - 1) > 0.1:
        raise ValueError(
            f"Admission.groups={groups} of Episodes have {whole * episodes.drawn:,.0f} tokens of agents, so a batch of "
            f"Batching.tokens={batching.tokens:,} has other groups; let the two agree"
        )


class Expected(NamedTuple):
    """What arithmetic says of a run; ages and versions are means, all else as in `simulate.Ran`.

    Attributes:
      limits: seconds between two steps that each part would allow by itself; the longest are the pace.
      host: the steady state of a sampler.
    """

    interval: float
    learner: float
    slots: float
    oldest: float
    newest: float
    versions: float
    reach: float
    limits: dict[str, float]
    host: Steady

    @property
    def bound(self) -> str:
        """Which part sets the pace."""
        return max(self.limits, key=self.limits.get)


def expected(s: System) -> Expected:
    """The steady state of a system.

    Told roughly only: slots and ages where there are samplers to spare; and the versions of episodes much shorter than
    a step, which all begin together when a batch is taken.
    """
    batch, ahead, p = s.admission.groups, s.admission.staleness + 1, s.publishing
    begun = batch / s.episodes.kept  # groups, for a step

    def admitted(interval: float) -> float:
        """Seconds a step that admission allows where groups live as they do at this pace."""
        # Groups under way and those that wait are `ahead` batches, and half a batch waits at least.
        host = steady(s.samplers, s.episodes, rate=begun / interval / s.samplers.count)
        return host.group / s.episodes.kept / (ahead - 0.5)

    low, high = admitted(math.inf), admitted(1e-9)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if admitted(middle) > middle else (low, middle)
    limits = {
        "learner": s.train,
        "samplers": begun / steady(s.samplers, s.episodes).groups / s.samplers.count,
        "admission": high,
    }
    queue = max(p.write - p.every * max(limits.values()), 0.0)  # of a publication for the one before
    limits["publications"] = p.write / p.every
    interval = max(limits.values())
    host = steady(s.samplers, s.episodes, rate=begun / interval / s.samplers.count)
    waits, idle = (batch - 1) / batch / 2 * interval, interval - s.train  # of a group for others, of the learner
    if limits["samplers"] < interval:
        waits = max(waits, ahead * interval - host.group / s.episodes.kept)
    load = p.load + p.swap
    cycle = max(p.every * interval, p.poll / 2 + load)  # seconds that a host draws with the same weights
    # From the end of a step until a batch is taken that its weights drew, the life of the group left out. While the
    # learner waits for a batch, it is not getting ahead.
    around = queue + p.write + p.poll / 2 + load + cycle / 2 + waits - idle
    hosts = s.samplers.count
    return Expected(
        interval=interval,
        learner=s.train / interval,
        slots=host.slots / s.samplers.slots,
        oldest=(around + host.group) / interval,
        newest=(around + host.group - host.episode) / interval,
        versions=1 + host.episode / cycle,
        reach=queue + p.write + p.poll * hosts / (hosts + 1) + load,  # the last of all looks
        limits=limits,
        host=host,
    )


def make_plan(plan: RlPlan) -> dict[str, Any]:
    """The plan, ready for JSON; takes as long as the simulation.

    `compared` has what arithmetic and the simulation say of the same constants, which stand in `system`, and how far
    the former is off.
    """
    s, drawn = system(plan), drawing(plan)
    told, ran = expected(s), simulate(s)
    rl, learner, sampler = plan.rl, Slices.of(plan.rl.mesh), Slices.of(plan.rl.inference_mesh)
    batching = rl.learning.batching
    chip, engine, hosts = sampler.topology.chip, plan.inference.engine, s.samplers.count
    pages = engine.layout(plan.inference.model).groups[0].pages
    under_way = told.host.groups * s.episodes.members * told.host.episode  # episodes of a host
    memory = (rl.sampling.weight_sets * drawn.weights + drawn.stack + drawn.cache) / sampler.chips / 2**30
    made = told.host.groups * s.episodes.members * s.episodes.tokens.mean_of(float) * s.episodes.drawn
    return _short({
        "chips": {
            "learner": learner.chips,
            "samplers": hosts * sampler.chips,
            "of_a_sampler": str(sampler.topology),
            "environment_nodes": math.ceil(hosts * under_way / plan.environments_per_node),
        },
        "learner": {
            "step_seconds": s.train,
            "tokens_per_step": batching.rows * batching.length,
            "groups_per_step": s.admission.groups,
            "days": told.interval * rl.steps / 86_400,
        },
        "sampler": {
            "count": hosts,
            "balance": s.admission.groups / s.episodes.kept / s.train / steady(s.samplers, s.episodes).groups,
            "decode_ms": 1e3 * (drawn.base + drawn.each * told.host.slots),
            "of_weights_ms": 1e3 * drawn.base,
            "tokens_per_second": made,
            "reading_tokens_per_second": 1 / drawn.read,
            "episode_seconds": told.host.episode,
            "group_seconds": told.host.group,
            "episodes": under_way,
            "pages_used": under_way * drawn.context / engine.page / pages,
            "weight_sets": rl.sampling.weight_sets,
            "hbm_gib": memory,
            "fits": memory <= (1 - FREE) * chip.hbm_gib,
        },
        "publication": {
            "bytes": drawn.weights,
            "write_seconds": s.publishing.write,
            "detect_seconds": s.publishing.poll,
            "read_seconds": s.publishing.load,
            "swap_seconds": s.publishing.swap,
            "first_token_everywhere_seconds": told.reach + s.publishing.swap,
        },
        "bound": told.bound,
        "seconds_a_step_of": told.limits,
        "compared": {name: _compared(getattr(told, name), _mean(getattr(ran, name))) for name in COMPARED},
        "system": asdict(s),
    })  # fmt: skip


def _mean(value: Any) -> float | None:
    return mean(value) if isinstance(value, Counter) else value


def _compared(told: float, simulated: float | None) -> dict[str, float | None]:
    return {"arithmetic": told, "simulated": simulated, "off": told / simulated - 1 if simulated else None}


def _short(value: Any) -> Any:
    """With four digits, all the way down."""
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
