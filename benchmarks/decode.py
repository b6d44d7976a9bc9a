"""Tokens a second of the inference engine against `generate` of `transformers` on torch, same weights, same cores.

    python benchmarks/decode.py [--quick] [--out FILE] [--case NAME ...]

Requests have prompts and answers of unequal lengths; both sides answer greedily, all requests of a batch at once, and
must come to the same tokens. Counted are the tokens that were asked for; `generate` pads prompts on the left and goes
on to the longest answer, as its users do. The sides run in turns, the median counts.

The bound is what the cores allow: the matrix products of every token read and made, each as fast as the faster of the
two libraries multiplies so many rows in this run, and nothing else. The goal is 3 times their speed at batch 1 and 16
and 10 times at batch 64, or 85 % of the bound where that is lower.

Then the time to the first token of a prompt; how often guesses from the text so far come out, and what that gives on
answers that repeat themselves; and the memory of one cache of 131,072 tokens of CWM with windows and without, from the
shapes of its arrays.
"""

import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a file from anywhere

import numpy as np
from result import flags, row, tell
from training_cases import CASES, CORES, Case

ROOT = Path(__file__).resolve().parent.parent
LONG = 131_072
PREFILL_ROWS = 512  # tokens whose products are timed together for the prompts
LEAST_ALIKE = 0.98  # of the tokens: where two are equally likely to the last bit, rounding decides


class Ours:
    """The engine."""

    def __init__(self, case: Case, params, batch: int, longest: int, guesses: int = 0):
        from cwm_jax.inference.config import EngineConfig
        from cwm_jax.inference.drafts import NoDraft, PromptLookup
        from cwm_jax.inference.engine import Engine
        from cwm_jax.model.transformer import rebuilder

        draft = PromptLookup(guesses) if guesses else NoDraft()
        config = EngineConfig(slots=batch, max_length=longest, rows=min(batch, 8), steps=16, prefixes=0, draft=draft)
        self.engine = Engine(rebuilder(case.model, case.vocab_size), params, config)

    def answer(self, prompts: list[list[int]], limits: list[int]) -> list[list[int]]:
        """The ids that follow each prompt, each prompt read anew."""
        from cwm_jax.inference.request import Request

        requests = [Request(tuple(prompt), limit) for prompt, limit in zip(prompts, limits)]
        return [answer.ids for answer in self.engine.generate(requests)]


class Theirs:
    """`CwmForCausalLM.generate`."""

    def __init__(self, weights: Path):
        import torch
        from transformers import CwmForCausalLM

        torch.set_num_threads(CORES)
        self._torch = torch
        self._model = CwmForCausalLM.from_pretrained(weights, dtype=torch.float32, attn_implementation="sdpa").eval()

    def answer(self, prompts: list[list[int]], limits: list[int]) -> list[list[int]]:
        """The ids that follow each prompt."""
        torch, longest = self._torch, max(map(len, prompts))
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, prompt in enumerate(prompts):
            ids[place, longest - len(prompt) :] = torch.tensor(prompt)
            mask[place, longest - len(prompt) :] = 1
        with torch.no_grad():
            made = self._model.generate(
                ids, attention_mask=mask, do_sample=False, max_new_tokens=max(limits), min_new_tokens=max(limits),
                eos_token_id=None, pad_token_id=0,
            )[:, longest:]  # fmt: skip
        return [row[:limit] for row, limit in zip(made.tolist(), limits)]


def requests(case: Case, batch: int, most: int, seed: int) -> tuple[list[list[int]], list[int]]:
    """Prompts of `most`/8 to `most` tokens, answers of as many, log-uniformly; the first answer is the longest."""
    rng = np.random.default_rng([batch, seed])
    lengths, limits = np.exp(rng.uniform(np.log(most / 8), np.log(most), (2, batch))).astype(int)
    limits[0] = most
    return [rng.integers(0, case.vocab_size, length).tolist() for length in lengths], limits.tolist()


def in_turns(sides: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Median seconds of each side; they are called with the number of the round."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name, side in sides.items():
            start = time.perf_counter()
            side(turn)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def product_seconds(case: Case, rows: int) -> float:
    """Seconds of all products of `rows` tokens with the weights, each in whichever library is faster."""
    import jax
    import torch

    multiply, total = jax.jit(lambda a, b: a @ b), 0.0
    for (K, M), count in case.products().items():
        a, b = (np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in ((rows, K), (K, M)))
        ours, theirs = (jax.device_put(a), jax.device_put(b)), (torch.tensor(a), torch.tensor(b))
        total += count * min(_fastest(lambda: multiply(*ours).block_until_ready()), _fastest(lambda: torch.mm(*theirs)))
    return total


def _fastest(call: Callable) -> float:
    times = []
    call()
    while len(times) < 20 or (sum(times) < 0.05 and len(times) < 500):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def compare(name: str, batches: list[int], most: int, rounds: int) -> list[dict]:
    """The rows of one model: speed at each batch, time to the first token, guesses.

    Raises:
      RuntimeError: the sides do not come to the same tokens.
    """
    from training_sides import _save

    from cwm_jax.model.transformer import init_params

    case, made = CASES[name], []
    peer = f"transformers {version('transformers')}, torch {version('torch')}, generate"
    params = init_params(case.model, case.vocab_size, 0)
    params = params | {"lm_head": params["lm_head"] * 20}  # so that few tokens are equally likely
    with tempfile.TemporaryDirectory() as folder:
        _save(Path(folder) / "weights", case, params)
        theirs = Theirs(Path(folder) / "weights")
    alone = Ours(case, params, 1, 2 * most)
    for batch in batches:
        ours = alone if batch == 1 else Ours(case, params, batch, 2 * most)
        work = [requests(case, batch, most, turn) for turn in range(rounds + 1)]
        _check_alike(name, ours.answer(*work[-1]), theirs.answer(*work[-1]))
        seconds = in_turns(
            {"ours": lambda t: ours.answer(*work[t]), "theirs": lambda t: theirs.answer(*work[t])}, rounds
        )
        tokens = statistics.median(sum(limits) for _, limits in work[:rounds])
        read = statistics.median(sum(map(len, prompts)) for prompts, _ in work[:rounds])
        least = (
            product_seconds(case, batch) * tokens / batch + product_seconds(case, PREFILL_ROWS) * read / PREFILL_ROWS
        )
        rates, bound = {side: tokens / taken for side, taken in seconds.items()}, tokens / least
        goal = min(10.0 if batch >= 64 else 3.0, 0.85 * bound / rates["theirs"])
        made.append(row(f"{name}, batch {batch}", rates["ours"], rates["theirs"], peer, "tokens/s", goal, bound))
    made += [_first_token(name, alone, theirs, most, rounds, peer), _guesses(name, params, alone, most, rounds)]
    return made


def _check_alike(name: str, ours: list[list[int]], theirs: list[list[int]]) -> None:
    """Tokens are compared up to the first that differs, for all after that do."""
    alike = sum(
        next((place for place, (a, b) in enumerate(zip(one, other)) if a != b), len(other))
        for one, other in zip(ours, theirs)
    )
    if alike < LEAST_ALIKE * sum(map(len, theirs)):
        raise RuntimeError(f"{name}: only {alike} of {sum(map(len, theirs))} tokens are the same")


def _first_token(name: str, ours: Ours, theirs: Theirs, most: int, rounds: int, peer: str) -> dict:
    case, rng = CASES[name], np.random.default_rng(1)
    prompts = [[rng.integers(0, case.vocab_size, most).tolist()] for _ in range(2 * rounds + 1)]
    for side in (ours, theirs):
        side.answer(prompts[-1], [1])
    seconds = in_turns(
        {"ours": lambda t: ours.answer(prompts[t], [1]), "theirs": lambda t: theirs.answer(prompts[t], [1])}, 2 * rounds
    )
    bound = product_seconds(case, most)
    numbers = seconds["ours"] * 1e3, seconds["theirs"] * 1e3
    return row(f"{name}, first token after {most}", *numbers, peer, "ms", 1.0, bound * 1e3)


def _guesses(name: str, params, alone: Ours, most: int, rounds: int) -> dict:
    """With guesses against without, at batch 1; an answer of random weights repeats itself, as a trace does."""
    case = CASES[name]
    sides = {"ours": Ours(case, params, 1, 2 * most, guesses=4), "theirs": alone}
    work = [requests(case, 1, most, 100 + turn) for turn in range(rounds + 1)]
    if sides["ours"].answer(*work[-1]) != sides["theirs"].answer(*work[-1]):
        raise RuntimeError(f"{name}: guesses changed an answer")
    seconds = in_turns({side: lambda t, one=one: one.answer(*work[t]) for side, one in sides.items()}, rounds)
    counts = sides["ours"].engine.counts
    rate = f"{counts.right / max(counts.guessed, 1):.0%} of guesses came out"
    tokens = statistics.median(sum(limits) for _, limits in work[:rounds])
    numbers = (tokens / seconds[side] for side in ("ours", "theirs"))
    return row(f"{name}, prompt lookup, {rate}", *numbers, "this engine without guesses", "tokens/s", 1.0, None)


def long_context() -> dict:
    """GiB of CWM's cache for one sequence of 131,072 tokens in bfloat16, with windows and if all layers saw all."""
    import jax
    import jax.numpy as jnp

    from cwm_jax import config
    from cwm_jax.inference.cache import Layout, empty_cache
    from cwm_jax.model.sharding import ShardingRules
    from cwm_jax.model.transformer import ModelConfig

    model = config.load([ROOT / "experiments/models/cwm_32b.gin"], [], ModelConfig)

    def gibibytes(model: ModelConfig) -> float:
        layout = Layout.of(model, page=128, slots=1, length=LONG, flight=512, pages=None, prefixes=0)
        arrays = jax.eval_shape(lambda: empty_cache(model, layout, jnp.bfloat16, ShardingRules()))
        return sum(array.size * array.dtype.itemsize for array in jax.tree.leaves(arrays)) / 2**30

    windows = [min(window or LONG, LONG) for window in model.windows()]
    least = sum(windows) * 2 * model.kv_heads * model.head_dim * 2 / 2**30
    ours, theirs = gibibytes(model), gibibytes(dataclasses.replace(model, global_layers=None))
    return row("CWM, cache of 131,072 tokens", ours, theirs, "all layers keep all", "GiB", 0.85 * theirs / least, least)


def main() -> None:
    parser = flags(__doc__, "one small model, one batch, short answers")
    parser.add_argument("--case", nargs="+", choices=[name for name, case in CASES.items() if not case.gpu])
    arguments = parser.parse_args()
    from cwm_jax.training.cpu import prepare_cpu

    prepare_cpu(1)
    names = arguments.case or (["toy"] if arguments.quick else ["1M", "10M"])
    batches, most, rounds = ([1], 64, 1) if arguments.quick else ([1, 16, 64], 256, 5)
    made = [row for name in names for row in compare(name, batches, most, rounds)] + [long_context()]
    tell("decode", made, arguments.out)


if __name__ == "__main__":
    main()
