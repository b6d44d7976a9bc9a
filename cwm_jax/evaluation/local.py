"""A checkpoint of this machine as a model to evaluate."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from cwm_jax.evaluation.models import Ask, CannotDo, Forced, Question, Said
from cwm_jax.inference.request import Completion, Request
from cwm_jax.model.transformer import rebuilder
from cwm_jax.text.pieces import pieces_of_ids
from cwm_jax.training.state import trained_weights
from cwm_jax.worldmodel.predict import WorldModel

_ROWS = 8  # documents that are looked at together
_SHORTEST = 128  # tokens of a row; others are twice, four times … as long, so that few programs are compiled


class LocalModel:
    """A `Model` that answers with the newest checkpoint of a run.

    Attributes:
      world: the checkpoint with its vocabulary.
    """

    def __init__(self, run: Path):
        """Loads it; raises what `WorldModel` raises."""
        self._run = Path(run)
        self.world = WorldModel(run)
        self._vocabulary = self.world.vocabulary
        self.form = self.world.experiment.data.form
        self.subject = f"the run {self._run.resolve().name}"
        self.name = f"{self.subject}, step {self.world.step:,}"
        self.identity = f"{self._vocabulary.fingerprint} {self.world.step}"
        self.tests = self._run / "data" / "tests"
        self._trained = max(self.world.experiment.data.buckets)

    def complete(self, asks: Sequence[Ask]) -> Iterator[Said]:
        """The answers, at most as long as the longest row trained on."""
        prepared = [self._request(ask) for ask in asks]
        answers = self.world.engine.generate([one for one in prepared if isinstance(one, Request)])
        for one in prepared:
            yield Said(reason=one) if isinstance(one, str) else self._said(next(answers))

    def _request(self, ask: Ask) -> Request | str:
        """What the engine is asked, or why it cannot be."""
        try:
            ids = self._vocabulary.encode_segments(ask.pieces)
        except ValueError as error:
            return str(error)
        if ids[:1] != [self._vocabulary.bos_id]:
            ids.insert(0, self._vocabulary.bos_id)
        room = self.world.engine.config.max_length - self._trained
        if len(ids) > room:
            return f"the prompt has {len(ids):,} tokens; this checkpoint reads at most {room:,}"
        symbols = [stop for stop in ask.stop if stop in self.form.control_symbols]
        stops = {self._vocabulary.eos_id, *map(self._vocabulary.token_id, symbols)}
        limit = min(ask.max_tokens, self._trained)
        return Request(tuple(ids), limit, ask.temperature, ask.top_p, ask.seed, stop_ids=tuple(stops))

    def _said(self, answer: Completion) -> Said:
        scored = ((token.id, token.logprob) for token in answer.tokens)
        pieces = list(pieces_of_ids(self._vocabulary, self.form.control_symbols, scored))
        texts, logprobs = zip(*pieces) if pieces else ((), ())
        return Said(texts, len(answer.tokens), "stop" if answer.finish == "stop" else "length", logprobs)

    def answer(self, questions: Sequence[Question]) -> Iterator[Said]:
        raise CannotDo("a checkpoint of traces holds no conversation; serve one that does and name it with --endpoint")

    def force(self, documents: Sequence[tuple[Sequence[str], Sequence[str]]]) -> Iterator[list[Forced] | str]:
        """For each document how the model takes each piece, by one forward pass over whole rows."""
        for start in range(0, len(documents), _ROWS):
            yield from self._force_some(documents[start : start + _ROWS])

    def _force_some(self, documents: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[list[Forced] | str]:
        encode = self._vocabulary.encode_segments
        prompts = [encode(given) for given, _ in documents]
        pieces = [[encode([piece]) for piece in pieces] for _, pieces in documents]
        rows = [prompt + [token for piece in some for token in piece] for prompt, some in zip(prompts, pieces)]
        room = self.world.engine.config.max_length
        length = _SHORTEST
        while length < max((len(row) for row in rows if len(row) <= room), default=0):
            length *= 2
        tokens_BS = np.zeros((_ROWS, length), np.int32)
        for tokens_S, row in zip(tokens_BS, rows):
            tokens_S[: len(row)] = row if len(row) <= room else 0
        logprobs_BS, first_BS = map(np.asarray, self._forward(tokens_BS))
        found: list[list[Forced] | str] = []
        for prompt, some, row, logprobs_S, first_S in zip(prompts, pieces, rows, logprobs_BS, first_BS):
            if len(row) > room:
                found.append(f"the trace has {len(row):,} tokens; this checkpoint reads at most {room:,}")
                continue
            ends = np.cumsum([len(prompt) - 1, *map(len, some)])  # place i says token i + 1
            spans = [slice(start, end) for start, end in pairwise(ends)]
            found.append([Forced(float(logprobs_S[span].sum()), bool(first_S[span].all())) for span in spans])
        return found

    @cached_property
    def _forward(self):
        """Tokens [B, S] -> log-probability of each from the second on, and whether it is the likeliest, [B, S - 1]."""
        rebuild = rebuilder(self.world.experiment.model, self._vocabulary.vocab_size)
        _, params = trained_weights(self._run, self.world.experiment, self._vocabulary.vocab_size)

        def forward(params, tokens_BS: jax.Array) -> tuple[jax.Array, jax.Array]:
            B, S = tokens_BS.shape
            positions_BS = jnp.broadcast_to(jnp.arange(S), (B, S))
            logits_BSV = rebuild(params)(tokens_BS, positions_BS, jnp.ones((B, S), jnp.int32))[:, :-1]
            next_BS1 = tokens_BS[:, 1:, None]
            said_BS = jnp.take_along_axis(jax.nn.log_softmax(logits_BSV), next_BS1, axis=-1)[..., 0]
            return said_BS, logits_BSV.argmax(axis=-1) == next_BS1[..., 0]

        compiled = jax.jit(forward)
        return lambda tokens_BS: compiled(params, tokens_BS)

    def count(self, text: str) -> int:
        return len(self._vocabulary.encode(text))
