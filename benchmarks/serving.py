"""A server under load, and what guesses give on real traces.

    python benchmarks/serving.py [--quick] [--out FILE] [--run D]

64 clients of the official `openai` package at once against the same requests from one client after the other: tokens a
second, and the time to the first token as clients see it. The server is `python -m cwm_jax serve` as a process with
random weights of the 1M model; prompts and answers have unequal lengths, and all are streamed.

With `--run`, a trained run: the traces of its test programs predicted with guesses from the text so far (prompt lookup)
and without, which must come to the same tokens.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a file from anywhere

import numpy as np
from result import flags, row, tell
from training_cases import CASES

ROOT = Path(__file__).resolve().parent.parent
TEXTS = [f"def f{n}(x):\n    return x + {n}\n" for n in range(40)]


def write_model(folder: Path) -> int:
    """A folder that can be served, of random weights; ids of its vocabulary."""
    from cwm_jax.checkpoints.weights import ParamsReader, WeightsIndex, write_weights
    from cwm_jax.model.transformer import init_params
    from cwm_jax.text.special_tokens import CWM_IDS
    from cwm_jax.text.vocabulary import train_vocabulary

    vocabulary = train_vocabulary(TEXTS, 330, tuple(CWM_IDS))
    model = CASES["1M"].model
    index = WeightsIndex(model, vocabulary.vocab_size, "float32")
    params = init_params(model, vocabulary.vocab_size, 0)
    write_weights(folder, index, ParamsReader(index, params).read, lambda: None)
    vocabulary.save(folder / "vocabulary.model")
    return vocabulary.vocab_size


def clients(count: int, requests: int, longest: int) -> list[dict]:
    """Rows of a server under load."""
    import openai

    with tempfile.TemporaryDirectory() as folder:
        size = write_model(Path(folder) / "model")
        rng = np.random.default_rng(0)
        work = [
            (rng.integers(3, size, rng.integers(8, longest)).tolist(), int(rng.integers(8, longest)))
            for _ in range(requests)
        ]
        command = [sys.executable, "-m", "cwm_jax", "serve", "--checkpoint", f"{folder}/model", "--port", "0"]
        command += [f"--gin.EngineConfig.slots={count}", f"--gin.EngineConfig.max_length={4 * longest}"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                url = re.search(r"http://\S+/v1", process.stdout.readline())[0]
                client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=600)

                def ask(one: tuple[list[int], int]) -> tuple[float, float]:
                    """Seconds to the first token and to the last."""
                    began, first = time.perf_counter(), 0.0
                    stream = client.completions.create(
                        model="model", prompt=one[0], max_tokens=one[1], stream=True, seed=1, temperature=1.0,
                        extra_body={"ignore_eos": True, "return_token_ids": True},
                    )  # fmt: skip
                    made = 0
                    for chunk in stream:
                        made += len(chunk.choices[0].token_ids or ()) if chunk.choices else 0
                        first = first or (made and time.perf_counter() - began)
                    if made != one[1]:
                        raise RuntimeError(f"{made} of {one[1]} tokens came")
                    return first, time.perf_counter() - began

                found = {}
                for name, at_once in (("theirs", 1), ("ours", count)):
                    ask(work[0])
                    began = time.perf_counter()
                    with ThreadPoolExecutor(at_once) as pool:
                        times = list(pool.map(ask, work))
                    found[name] = sum(limit for _, limit in work) / (time.perf_counter() - began), times
            finally:
                process.terminate()
    peer = "the same server, one client at a time"
    (rate, times), (alone, alone_times) = found["ours"], found["theirs"]
    rows = [row(f"{count} clients at once", rate, alone, peer, "tokens/s", 3.0)]
    for place, what in ((0, "first"), (1, "last")):
        for share in (0.5, 0.95):
            numbers = [float(np.quantile([one[place] for one in some], share)) * 1e3 for some in (times, alone_times)]
            rows.append(row(f"{count} clients, {share:.0%} have the {what} token within", *numbers, peer, "ms", None))
    return rows


def guesses(run: Path, programs: int) -> dict:
    """Prompt lookup on the test programs of a trained run."""
    from cwm_jax.inference.config import EngineConfig
    from cwm_jax.inference.drafts import NoDraft, PromptLookup
    from cwm_jax.inference.engine import Engine
    from cwm_jax.inference.request import Request
    from cwm_jax.model.transformer import rebuilder
    from cwm_jax.training.trained import trained
    from cwm_jax.worldmodel.models.local import LocalModel

    model = LocalModel(run)
    lines = [line for path in sorted(model.tests.glob("new_*.jsonl")) for line in islice(path.open(), programs)]
    contexts = [json.loads(line)["context"] for line in lines]
    prompts = [tuple(model.vocabulary.encode_segments(model.form.context(context))) for context in contexts]
    requests = [Request(prompt, model.longest, stop_ids=(model.vocabulary.eos_id,)) for prompt in prompts]
    found = trained(run)
    rebuild = rebuilder(found.model, found.vocabulary.vocab_size)
    config = EngineConfig(slots=1, max_length=4 * model.longest, prefixes=0)
    sides = {
        "ours": Engine(rebuild, found.params, replace(config, draft=PromptLookup(4))),
        "theirs": Engine(rebuild, found.params, replace(config, draft=NoDraft())),
    }
    seconds, answers = {name: [] for name in sides}, {}
    for turn in range(3):
        for name, engine in sides.items():
            began = time.perf_counter()
            answers[name] = [answer.ids for answer in engine.generate(requests[: 1 if turn == 0 else None])]
            seconds[name].append(time.perf_counter() - began)
    if answers["ours"] != answers["theirs"]:
        raise RuntimeError("guesses changed an answer")
    counts, tokens = sides["ours"].counts, sum(map(len, answers["ours"]))
    rate = f"{counts.right / counts.guessed:.0%} of guesses came out"
    ours, theirs = (tokens / statistics.mean(seconds[name][1:]) for name in ("ours", "theirs"))
    case = f"predicted traces of {len(contexts)} programs, prompt lookup, {rate}"
    return row(case, ours, theirs, "this engine without guesses", "tokens/s", 1.0)


def main() -> None:
    parser = flags(__doc__, "4 clients, few and short answers")
    parser.add_argument("--run", type=Path, help="folder of a trained run, for guesses on its test programs")
    arguments = parser.parse_args()
    from cwm_jax.training.cpu import prepare_cpu

    prepare_cpu(1)
    made = clients(4, 8, 24) if arguments.quick else clients(64, 192, 128)
    if arguments.run:
        made.append(guesses(arguments.run, 5 if arguments.quick else 40))
    tell("serving", made, arguments.out)


if __name__ == "__main__":
    main()
