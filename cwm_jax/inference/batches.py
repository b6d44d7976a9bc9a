"""What the host hands to the programs and takes from them, as NumPy arrays of fixed shapes.

Shapes: as in `programs`.
"""

from collections.abc import Iterable, Sequence

import jax
import numpy as np

from cwm_jax.inference.cache import Rows
from cwm_jax.inference.config import EngineConfig
from cwm_jax.inference.programs import Decode, Prefill
from cwm_jax.inference.request import Request, Scored, Token
from cwm_jax.inference.sampling import Draw, Scores
from cwm_jax.inference.scheduler import Running


class Batches:
    """Makes the inputs of the programs.

    Attributes:
      most: tokens that one call of `decode` makes of a sequence at most.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        self.most = config.steps * (1 + config.draft.tokens)
        self._history_BT = np.zeros((config.slots, config.max_length if config.draft.tokens else 0), np.int32)
        self._known = [(-1, 0)] * config.slots  # whose tokens stand in each row of the history, and how many

    def shapes(self) -> list[tuple[int, int]]:
        """The shapes [N, S] that prompts are read in, smaller ones first."""
        c, lengths = self._config, [self._config.page]
        while lengths[-1] < c.chunk:
            lengths.append(min(2 * lengths[-1], c.chunk))
        return [(rows, length) for rows in sorted({1, c.rows}) for length in lengths]

    def prefill(
        self,
        reading: Sequence[Running],
        ends: Sequence[int],
        tables_BE: Sequence[np.ndarray],
        shape: tuple[int, int] | None = None,
    ) -> Prefill:
        """The tokens of sequences from where they are read to `ends`, in the smallest shape that holds them."""
        c = self._config
        if shape is None:
            longest = max(end - one.read for one, end in zip(reading, ends))
            shape = next((N, S) for N, S in self.shapes() if len(reading) <= N and longest <= S)
        N, S = shape
        tokens_NS, next_NS = np.zeros((N, S), np.int32), np.zeros((N, S), np.int32)
        starts_N, ends_N, slots_N = np.zeros(N, np.int32), np.zeros(N, np.int32), np.full(N, c.slots, np.int32)
        for row, (one, end) in enumerate(zip(reading, ends)):
            starts_N[row], ends_N[row], slots_N[row] = one.read, end, one.slot
            for array, start in ((tokens_NS, one.read), (next_NS, one.read + 1)):
                known = one.tokens[start : start + end - one.read]
                array[row, : len(known)] = known
        places_N = np.minimum(slots_N, c.slots - 1)
        rows = Rows(tuple(table[places_N] for table in tables_BE), starts_N, ends_N, slots_N)
        indices_N, forced_N = np.zeros(N, np.int32), np.full(N, -1, np.int32)
        for row, one in enumerate(reading):
            indices_N[row], forced_N[row] = one.made, one.forced.get(one.made, -1)
        how, of_prompts = _how(enumerate(reading), N), np.array(any(one.request.prompt_logprobs for one in reading))
        return Prefill(tokens_NS, next_NS, rows, how, indices_N, forced_N, _wanted(reading), of_prompts)

    def decode(self, decoding: Sequence[Running], ends: Sequence[int], tables_BE: Sequence[np.ndarray]) -> Decode:
        """Sequences in their slots, to be decoded to `ends`."""
        c = self._config
        tokens_B, starts_B, ends_B, first_B = (np.zeros(c.slots, np.int32) for _ in range(4))
        stops_BE = np.full((c.slots, c.stop_ids), -1, np.int32)
        forced_BF = np.full((c.slots, self.most), -1, np.int32)
        for one, end in zip(decoding, ends):
            slot = one.slot
            tokens_B[slot], starts_B[slot], ends_B[slot] = one.tokens[-1], one.read, end
            first_B[slot] = len(one.request.prompt)
            stops_BE[slot, : len(one.request.stop_ids)] = one.request.stop_ids
            for index, token in one.forced.items():
                if 0 <= index - one.made < self.most:
                    forced_BF[slot, index - one.made] = token
            if c.draft.tokens:
                self._remember(one)
        rows = Rows(tuple(table.copy() for table in tables_BE), starts_B, ends_B)
        how = _how(((one.slot, one) for one in decoding), c.slots)
        return Decode(tokens_B, rows, first_B, how, stops_BE, forced_BF, self._history_BT, _wanted(decoding))

    def _remember(self, one: Running) -> None:
        """Adds a sequence's new tokens to the history of its slot, which what was handed out before is done with."""
        number, known = self._known[one.slot]
        if number != one.number or known > len(one.tokens):
            self._history_BT[one.slot], known = 0, 0
        self._history_BT[one.slot, known : len(one.tokens)] = one.tokens[known:]
        self._known[one.slot] = one.number, len(one.tokens)


class Told:
    """What came out of a program, as tokens; all of it fetched at once."""

    def __init__(self, ids: jax.Array, scores: Scores, wanted: np.ndarray):
        self._ids, self._scores = jax.device_get((ids, _needed(scores, wanted)))

    def __call__(self, request: Request, version: int, *place: int) -> Token:
        """The token at a place of the arrays."""
        top = ()
        if U := request.top_logprobs:
            ids, logprobs = (array[place][:U].tolist() for array in self._scores[1:])
            top = tuple(zip(ids, logprobs))
        return Token(int(self._ids[place]), float(self._scores.logprobs_N[place]), version, top)


class ToldPrompt:
    """What `prefill` says of the tokens of prompts; all of it fetched at once."""

    def __init__(self, scores: Scores, ranks_NS: jax.Array, wanted: np.ndarray):
        self._scores, self._ranks_NS = jax.device_get((_needed(scores, wanted), ranks_NS))

    def __call__(self, request: Request, version: int, row: int, places: slice) -> list[Scored]:
        """How the tokens after those at some places were taken."""
        logprobs, ranks = self._scores.logprobs_N[row, places].tolist(), self._ranks_NS[row, places].tolist()
        tops: Iterable[tuple] = [()] * len(ranks)
        if U := request.prompt_logprobs:
            ids, best = (array[row, places, :U].tolist() for array in self._scores[1:])
            tops = (tuple(zip(*both)) for both in zip(ids, best))
        return [Scored(logprob, rank, version, top) for logprob, rank, top in zip(logprobs, ranks, tops)]


def _needed(scores: Scores, wanted: np.ndarray) -> Scores:
    """What is worth fetching: where nobody wants the likeliest tokens, the rest alone."""
    return scores if wanted else Scores(scores.logprobs_N, None, None)


def _how(placed, N: int) -> Draw:
    """How each of N rows draws, from pairs of row and sequence."""
    seeds_N2, temperature_N, top_p_N = np.zeros((N, 2), np.uint32), np.zeros(N, np.float32), np.ones(N, np.float32)
    for row, one in placed:
        seed = one.request.seed
        seeds_N2[row] = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
        temperature_N[row], top_p_N[row] = one.request.temperature, one.request.top_p
    return Draw(seeds_N2, temperature_N, top_p_N)


def _wanted(sequences: Sequence[Running]) -> np.ndarray:
    return np.array(any(one.request.top_logprobs for one in sequences))
