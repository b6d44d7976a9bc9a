"""What each part of the objective does to the expected gradient, counted out on a toy (T9).

    python experiments/rl/biases.py          writes experiments/rl/biases.json

The toy: all 64 sequences of three tokens of four. After an odd first token the environment says the third, so an agent
draws three tokens or two. The policy is a table of logits for every beginning; a sequence is worth 1 or -1. Groups are
pairs, all 4096 of them, each with its probability under the weights that drew it: expectations are sums.

Each row changes one part of an estimator that is exact: ratios of whole sequences, no clip, the reward of the other as
baseline, the sum over tokens for each sequence. Rows tell, for weights that drew `distance` standard deviations away
from those that learn (0 is on policy), with g the expected gradient and t that of the expected reward:

    bias    |g - t| / |t|
    scale   g.t / t.t, which a learning rate would make good
    turn    degrees between g and t, which nothing makes good
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it runs as a file from anywhere

from cwm_jax.rl.batches import Batching, Gibberish, Stale, judge
from cwm_jax.rl.objective import (
    ClippedRatio,
    ConstantDivisor,
    Decoupled,
    EveryToken,
    GeometricMean,
    Objective,
    ProbabilityDifference,
    SequenceMean,
    Terms,
    TokenMean,
    TruncatedImportance,
)
from cwm_jax.rl.trajectory import Context, Group, Trajectory, advantages

COMMAND = "python experiments/rl/biases.py"
TABLE = Path(__file__).with_suffix(".json")
DISTANCES = (0.0, 0.1, 0.5)
V, T = 4, 3
SEQUENCES = np.array([*product(range(V), repeat=T)])
BEGINNINGS = np.stack([np.zeros(64, int), 1 + SEQUENCES[:, 0], 1 + V + V * SEQUENCES[:, 0] + SEQUENCES[:, 1]], axis=1)
AGENT = np.ones((64, T)) - np.outer(SEQUENCES[:, 0] % 2, [0, 0, 1])
REWARDS = np.where(np.random.default_rng(0).normal(size=64) > 0, 1.0, -1.0)
PAIRS = np.array([*product(range(64), repeat=2)])
SEGMENTS = jnp.array([[1] * T + [2] * T])
NO_LIMIT = float("inf")


def logprobs(logits):
    """Of every token of every sequence, [64, 3]."""
    return jax.nn.log_softmax(logits)[BEGINNINGS, SEQUENCES]


def probabilities(logs):
    """Of every sequence; what the environment says is uniform."""
    return jnp.exp(jnp.where(AGENT > 0, logs, -np.log(V)).sum(axis=1))


class Policies(NamedTuple):
    """Tables of logits [21, 4]: those that learn, and for each of the three tokens those that draw it."""

    trained: Any
    drew: tuple[Any, Any, Any]

    @classmethod
    def at(cls, distance: float, swapped: bool = False) -> "Policies":
        """Weights `distance` apart; if `swapped`, they came nearer with every token that was drawn."""
        rng = np.random.default_rng(1)
        trained, apart = rng.normal(size=(2, 1 + V + V * V, V))
        far = [distance * (T - place) / T if swapped else distance for place in range(T)]
        return cls(jnp.asarray(trained), tuple(jnp.asarray(trained + one * apart) for one in far))

    @property
    def recorded(self):
        """Log-probabilities of every token under what drew it."""
        return jnp.stack([logprobs(logits)[:, place] for place, logits in enumerate(self.drew)], axis=1)


class WholeSequence:
    """stop(the ratio of the whole sequence) · A · log π: exact; of long sequences its variance is huge."""

    def __call__(self, terms: Terms) -> jax.Array:
        sums = terms.log_ratios.reshape(-1, 2, T).sum(axis=2, keepdims=True)
        ratios = jnp.broadcast_to(jnp.exp(sums), (*sums.shape[:2], T)).reshape(terms.logprobs.shape)
        return jax.lax.stop_gradient(ratios) * terms.advantages * terms.logprobs


def of_others(rewards, lengths):
    return rewards - rewards[::-1]


def of_all(rewards, lengths):
    return rewards - rewards.mean()


SEQUENCE_SUM = ConstantDivisor(2)  # two sequences
TOKEN_RATIOS = TruncatedImportance(NO_LIMIT)


@dataclass(frozen=True)
class Part:
    """A row of the table.

    Attributes:
      objective: what is maximised.
      baseline: rewards and lengths of a pair to its advantages.
      filters: say what is passed over.
      length: tokens of a context beyond which it is passed over.
      refilled: whether pairs of which nothing is learnt are drawn again.
      swapped: whether weights were swapped while sequences were drawn.
      near: how far the proximal weights are on the way from those that drew to those that learn.
    """

    objective: Objective = field(default_factory=lambda: Objective(TOKEN_RATIOS, EveryToken(), SEQUENCE_SUM))
    baseline: Callable = of_others
    filters: tuple = ()
    length: int = T
    refilled: bool = False
    swapped: bool = False
    near: float = 0.5


def _of(surrogate=TOKEN_RATIOS, counts=EveryToken(), mean=SEQUENCE_SUM, observations=0.0, **more) -> Part:  # noqa: B008
    return Part(Objective(surrogate, counts, mean, observations), **more)


EXACT = {
    "exact: ratios of whole sequences, the other's reward": _of(WholeSequence()),
    "exact, weights swapped within sequences": _of(WholeSequence(), swapped=True),
}
PARTS = EXACT | {
    "baseline: mean of all, the own reward in it": _of(WholeSequence(), baseline=of_all),
    "baseline: length-weighted mean of all (CWM)": _of(WholeSequence(), baseline=advantages),
    "ratios of tokens": _of(),
    "ratios of tokens, weights swapped within sequences": _of(swapped=True),
    "ratios of tokens, clip 0.2 and 0.25 (CWM)": _of(ClippedRatio()),
    "ratios of tokens, truncated at 2": _of(TruncatedImportance()),
    "decoupled, proximal weights those that learn": _of(Decoupled(), near=1.0),
    "decoupled, proximal weights half way": _of(Decoupled(), near=0.5),
    "ratios of tokens, probability moved by 0.2 is left out (DPPO)": _of(counts=ProbabilityDifference()),
    "ratios of tokens, geometric mean not in 0.99 to 1.01 is left out": _of(counts=GeometricMean()),
    "ratios of tokens, mean over tokens": _of(mean=TokenMean()),
    "ratios of tokens, mean over sequences": _of(mean=SequenceMean()),
    "ratios of tokens, observations weigh 0.1": _of(observations=0.1),
    "zero advantage is skipped": _of(WholeSequence()),
    "zero advantage is skipped, others drawn instead": _of(WholeSequence(), refilled=True),
    "gibberish is passed over (ids above 2, 0.3 below uniform)": _of(WholeSequence(), filters=(Gibberish(0.5, 0.3),)),
    "stale is passed over, one version a token, so short ones": _of(WholeSequence(), filters=(Stale(1),)),
    "too long is passed over": _of(WholeSequence(), length=T - 1),
    "all of CWM: token ratios, clip, length-weighted mean, refilled": _of(
        ClippedRatio(), baseline=advantages, refilled=True
    ),
}


def trajectories(recorded) -> list[Trajectory]:
    """The sequences as they would be sealed; token i is of version i. What the environment says last is not stored."""
    found = []
    for tokens, agent, logs, reward in zip(SEQUENCES, AGENT > 0, recorded, REWARDS):
        n = int(agent.sum())
        worth = [0.0] * (n - 1) + [reward]
        found.append(Trajectory((Context.of(tokens[:n], agent[:n], logs[:n], range(n), worth),)))
    return found


def chosen(part: Part, recorded) -> tuple[np.ndarray, np.ndarray]:
    """Advantages [4096, 2], and which are learnt from, as `judge` has it."""
    batching = Batching(1, 1, part.length, filters=part.filters)
    made, lengths = trajectories(np.asarray(recorded)), AGENT.sum(axis=1)
    values, kept = np.zeros(PAIRS.shape), np.zeros(PAIRS.shape)
    for number, pair in enumerate(PAIRS):
        values[number] = part.baseline(REWARDS[pair], lengths[pair])
        members = [made[one] for one in pair]
        # Members may be alike, so they are told apart by what they are, one after the other.
        left = [one.trajectory for one in judge(Group("", "", tuple(members)), batching, T, V)[0]]
        for place, one in enumerate(members):
            if left and left[0] is one:
                kept[number, place] = 1.0
                left.pop(0)
    return values, kept


def gradient(part: Part, policies: Policies):
    """Expected over all pairs, [21, 4]."""
    recorded = policies.recorded
    values, kept = chosen(part, recorded)
    drawn = probabilities(recorded)
    weights = drawn[PAIRS[:, 0]] * drawn[PAIRS[:, 1]]
    apart = policies.drew[0] - policies.trained
    proximal = logprobs(policies.trained + (1 - part.near) * apart)

    def paired(array):
        return jnp.asarray(array)[PAIRS].reshape(-1, 1, 2 * T)

    def spread(array):
        return jnp.repeat(jnp.asarray(array), T, axis=1)[:, None]

    segments = jnp.broadcast_to(SEGMENTS, (len(PAIRS), 1, 2 * T))
    mask, observed = paired(AGENT) * spread(kept), paired(1 - AGENT) * spread(kept)

    def expected(logits):
        logs = paired(logprobs(logits))
        terms = Terms(logs, paired(recorded), paired(proximal), spread(values), mask, segments)
        return (weights * jax.vmap(part.objective)(terms, observed)).sum()

    share = float((weights * (kept.sum(axis=1) > 0)).sum()) if part.refilled else 1.0
    return jax.grad(expected)(policies.trained) / share


def measured() -> dict[str, list[dict[str, float]]]:
    """The rows of the table, one entry for each of `DISTANCES`."""
    rows = {}
    with jax.enable_x64(True):
        for name, part in PARTS.items():
            rows[name] = []
            for distance in DISTANCES:
                policies = Policies.at(distance, part.swapped)
                found = np.asarray(gradient(part, policies))
                true = np.asarray(jax.grad(lambda x: (probabilities(logprobs(x)) * REWARDS).sum())(policies.trained))
                scale, size = (found * true).sum() / (true**2).sum(), np.linalg.norm(true)
                aside = np.linalg.norm(found - scale * true)
                rows[name].append(
                    {
                        "distance": distance,
                        "bias": float(np.linalg.norm(found - true) / size),
                        "scale": float(scale),
                        "turn": float(np.degrees(np.arctan2(aside, scale * size))),
                    }
                )
    return rows


def main() -> None:
    rows = measured()
    TABLE.write_text(json.dumps({"command": COMMAND, "rows": rows}, indent=1) + "\n")
    for name, entries in rows.items():
        told = "   ".join(f"{one['bias']:8.2%} {one['scale']:5.2f} {one['turn']:5.1f}°" for one in entries)
        print(f"{name:<68} {told}")


if __name__ == "__main__":
    main()
