"""What the learner maximises, as parts to be combined: a surrogate, which tokens count, and what a sum is divided by.

The default is CWM's objective (arXiv 2510.02387, §5.2): token by token the clipped ratio to the *recorded* probability,
divided by a constant. Everything here is a pure function of arrays, for the learner and for tests alike.

Shapes: B rows, S places; every array tells of the token at its own place.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P


class Terms(NamedTuple):
    """What an objective is computed from, arrays [B, S].

    Attributes:
      logprobs: of each token under the weights that are trained.
      recorded: under the weights that drew it, as the sampler noted it.
      proximal: under the weights that the learner had when it took the batch; only `Decoupled` looks at it.
      advantages: of the trajectory that the token is of.
      mask: 1 for tokens of the agent that count, else 0.
      segments: int32, the context of the row, from 1; 0 is padding. A trajectory has one, unless its environment or
        its agent began afresh.
    """

    logprobs: jax.Array
    recorded: jax.Array
    proximal: jax.Array
    advantages: jax.Array
    mask: jax.Array
    segments: jax.Array

    @property
    def log_ratios(self) -> jax.Array:
        """log π_θ − log μ where tokens count, else 0."""
        return jnp.where(self.mask > 0, self.logprobs - self.recorded, 0.0)


@dataclass(frozen=True)
class ClippedRatio:
    """min(ρA, clip(ρ, 1 − low, 1 + high)A), ρ the ratio to the recorded probability (CWM, facts §6.1).

    Attributes:
      low, high: how far the ratio may go (CWM: 0.2 and 0.25, "clip-higher", against a collapse of entropy).
    """

    low: float = 0.2
    high: float = 0.25

    def __call__(self, terms: Terms) -> jax.Array:
        ratios_BS = jnp.exp(terms.log_ratios)
        clipped_BS = jnp.clip(ratios_BS, 1 - self.low, 1 + self.high)
        return jnp.minimum(ratios_BS * terms.advantages, clipped_BS * terms.advantages)


@dataclass(frozen=True)
class TruncatedImportance:
    """stop(min(ρ, most)) · A · log π: REINFORCE with truncated weights (IMPALA; "TIS" of later systems).

    Attributes:
      most: of a weight.
    """

    most: float = 2.0

    def __call__(self, terms: Terms) -> jax.Array:
        weights_BS = jax.lax.stop_gradient(jnp.minimum(jnp.exp(terms.log_ratios), self.most))
        return weights_BS * terms.advantages * terms.logprobs


@dataclass(frozen=True)
class Decoupled:
    """The ratio to proximal weights, clipped, times the truncated ratio of these to the recorded ones (AReaL, §5.2).

    Attributes:
      low, high: how far the ratio to the proximal weights may go.
      most: of the other ratio.
    """

    low: float = 0.2
    high: float = 0.25
    most: float = 2.0

    def __call__(self, terms: Terms) -> jax.Array:
        behind_BS = jnp.where(terms.mask > 0, terms.proximal - terms.recorded, 0.0)
        weights_BS = jax.lax.stop_gradient(jnp.minimum(jnp.exp(behind_BS), self.most))
        return weights_BS * ClippedRatio(self.low, self.high)(terms._replace(recorded=terms.proximal))


@dataclass(frozen=True)
class EveryToken:
    """All tokens of the agent count."""

    def __call__(self, terms: Terms) -> jax.Array:
        return terms.mask


@dataclass(frozen=True)
class ProbabilityDifference:
    """Leaves out tokens that the update would push further where they have gone far already (DPPO, total variation).

    Attributes:
      most: the change of a token's probability beyond which it does not count.
    """

    most: float = 0.2

    def __call__(self, terms: Terms) -> jax.Array:
        gone_BS = jnp.exp(terms.logprobs) - jnp.exp(terms.recorded)
        far_BS = jnp.where(terms.advantages > 0, gone_BS > self.most, gone_BS < -self.most)
        return terms.mask * jax.lax.stop_gradient(~far_BS)


@dataclass(frozen=True)
class GeometricMean:
    """Leaves out contexts whose geometric mean ratio is not near 1 (as GSPO weighs them; for mixtures of experts).

    Attributes:
      low, high: the least and the most of it.
    """

    low: float = 0.99
    high: float = 1.01

    def __call__(self, terms: Terms) -> jax.Array:
        sums_BS = _of_own(terms.log_ratios, terms.segments)
        counts_BS = jnp.maximum(_of_own(terms.mask, terms.segments), 1)
        means_BS = jax.lax.stop_gradient(jnp.exp(sums_BS / counts_BS))
        return terms.mask * ((means_BS >= self.low) & (means_BS <= self.high))


@dataclass(frozen=True)
class ConstantDivisor:
    """The sum over all tokens by one constant: neither length nor number of trajectories weighs (CWM: its context).

    Attributes:
      tokens: the constant.
    """

    tokens: int = 131_072

    def __call__(self, values: jax.Array, terms: Terms) -> jax.Array:
        return values.sum() / self.tokens


@dataclass(frozen=True)
class TokenMean:
    """The mean over the agent's tokens, those that are left out counted (DAPO)."""

    def __call__(self, values: jax.Array, terms: Terms) -> jax.Array:
        return values.sum() / jnp.maximum(terms.mask.sum(), 1)


@dataclass(frozen=True)
class SequenceMean:
    """The mean over contexts of the mean over their tokens, those that are left out counted (GRPO)."""

    def __call__(self, values: jax.Array, terms: Terms) -> jax.Array:
        counts_BS = _of_own(terms.mask, terms.segments)
        weights_BS = jnp.where(counts_BS > 0, 1 / jnp.maximum(counts_BS, 1), 0.0)
        return (values * weights_BS).sum() / jnp.maximum((terms.mask * weights_BS).sum(), 1)


@dataclass(frozen=True)
class Objective:
    """What is maximised.

    Attributes:
      surrogate: of each token.
      counts: which of the agent's tokens count; the divisor does not change with that (as AReaL has it).
      mean: how they are added up.
      observations: weight of the log-probability of what environments said, divided as the rest: a world model that
        is not asked for it forgets (our choice; 0 as in CWM).
    """

    surrogate: ClippedRatio | TruncatedImportance | Decoupled = field(default_factory=ClippedRatio)
    counts: EveryToken | ProbabilityDifference | GeometricMean = field(default_factory=EveryToken)
    mean: ConstantDivisor | TokenMean | SequenceMean = field(default_factory=ConstantDivisor)
    observations: float = 0.0

    def __call__(self, terms: Terms, observed: jax.Array) -> jax.Array:
        """The objective, a scalar to be made large.

        Args:
          terms: of the agent's tokens.
          observed: [B, S], 1 for tokens that environments said, else 0; the first of a trajectory is predicted by
            nothing and must be 0.
        """
        values_BS = jnp.where(terms.mask > 0, self.surrogate(terms), 0.0) * self.counts(terms)
        total = self.mean(values_BS, terms)
        if self.observations:
            said_BS = jnp.where(observed > 0, terms.logprobs, 0.0)
            total += self.observations * self.mean(said_BS, terms._replace(mask=observed))
        return total


AGES = (0, 1, 2, 4, 8)  # the least age of each class: 0, 1, 2-3, 4-7, 8 and more (rl.md, G.8)


def by_age(terms: Terms, ages_BS: jax.Array, low: float = 0.2, high: float = 0.25) -> dict[str, jax.Array]:
    """Sums over the agent's tokens in each class of age, [len(AGES)] each.

    Sums, so that those of several batches can be added up; divided by `tokens` they are means.

    Args:
      ages_BS: int32, how many versions ago each token was drawn.
      low, high: beyond which a ratio counts as clipped.

    Returns:
      `tokens`; `log_ratio` and `log_ratio_abs`; `k1` and `k3`, estimates of KL(μ ‖ π_θ) (Schulman); `ratio` and
      `ratio_squared`, from which the effective sample size follows; `clipped_low` and `clipped_high`.
    """
    logs_BS, ratios_BS = terms.log_ratios, jnp.exp(terms.log_ratios)
    found = {
        "tokens": jnp.ones_like(logs_BS),
        "log_ratio": logs_BS,
        "log_ratio_abs": jnp.abs(logs_BS),
        "k1": -logs_BS,
        "k3": ratios_BS - 1 - logs_BS,
        "ratio": ratios_BS,
        "ratio_squared": ratios_BS**2,
        "clipped_low": (ratios_BS < 1 - low).astype(logs_BS.dtype),
        "clipped_high": (ratios_BS > 1 + high).astype(logs_BS.dtype),
    }
    classes_BS = sum((ages_BS >= least).astype(jnp.int32) for least in AGES[1:])  # not a search: rows may be cut
    inside_ABS = (classes_BS == jnp.arange(len(AGES))[:, None, None]) * terms.mask
    return {name: (inside_ABS * values_BS).sum(axis=(1, 2)) for name, values_BS in found.items()}


def _of_own(values_BS: jax.Array, segments_BS: jax.Array) -> jax.Array:
    """At each place the sum over its trajectory."""
    S, lies = values_BS.shape[1], jax.typeof(values_BS).sharding.spec
    cut = not jax.sharding.get_abstract_mesh().empty
    if cut:  # a trajectory may lie on several devices; its numbers are few beside the rest of a step
        values_BS, segments_BS = (jax.sharding.reshard(x, P(lies[0], None)) for x in (values_BS, segments_BS))
    sums_BS = jax.vmap(lambda values, segments: jax.ops.segment_sum(values, segments, S + 1))(values_BS, segments_BS)
    own_BS = jnp.take_along_axis(sums_BS, segments_BS, axis=1)
    return jax.sharding.reshard(own_BS, lies) if cut else own_BS
