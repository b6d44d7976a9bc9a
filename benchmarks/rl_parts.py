"""Parts of asynchronous RL, each alone: the engine, a publication, the death of a role. Used by `rl_async.py`."""

import json
import os
import signal
import statistics
import threading
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from rl_pair import LONGEST, MODEL, PROMPT, SLOTS, VOCABULARY, WARM, configured

from cwm_jax.inference.config import EngineConfig
from cwm_jax.inference.engine import Engine
from cwm_jax.inference.request import Request, Token
from cwm_jax.inference.weights import by_layer
from cwm_jax.model.transformer import ModelConfig, init_params, rebuilder
from cwm_jax.report.rl.told import read
from cwm_jax.rl.on_ray import run_on_ray
from cwm_jax.rl.policy import PolicyReader, Publisher
from cwm_jax.rl.simulate import LogNormal


def engine_of(config: EngineConfig, model: ModelConfig = MODEL) -> tuple[Engine, Any]:
    """A compiled engine of random weights, and the weights as a sampler hands them over."""
    params = by_layer(init_params(model, VOCABULARY, 0))
    engine = Engine(rebuilder(model, VOCABULARY), params, config)
    for _ in engine.compile():
        pass
    return engine, params


def speed() -> tuple[float, float]:
    """Seconds of a step of decoding with all slots busy, and of reading a token of a prompt; on the engine alone."""
    engine, _ = engine_of(configured(1).engine)
    making, reading = [], []
    for _ in range(3):
        for number in range(SLOTS):
            engine.submit(Request((1 + number,) * PROMPT, 100, 1.0, seed=number))
        before = replace(engine.counts)
        while any(not one.decoding for one in engine.scheduler.running) or engine.counts.read == before.read:
            engine.step()
        reading.append((engine.counts.seconds_reading - before.seconds_reading) / (engine.counts.read - before.read))
        while engine.busy:
            if len(engine.scheduler.running) < SLOTS or engine.counts.made - before.made > SLOTS * 90:
                engine.step()
                continue
            made, seconds = engine.counts.made, engine.counts.seconds_making
            engine.step()
            making.append((engine.counts.seconds_making - seconds) * SLOTS / max(engine.counts.made - made, 1))
    return statistics.median(making), statistics.median(reading)


def swap_pauses(on_swap: str, swaps: int) -> tuple[list[float], list[float]]:
    """R4: gaps around swaps, and those of the peer, in steps of decoding.

    The peer of `keep` is the gap where nothing was swapped, that of `recompute` the wait of fresh prompts as long.
    """
    engine, params = engine_of(EngineConfig(SLOTS, 1024, page=16, chunk=64, rows=8, steps=1, prefixes=0))
    for number in range(SLOTS):
        engine.submit(Request((1 + number,) * 64, 900, 1.0, seed=number, on_swap=on_swap))
    last: dict[int, tuple[int, float]] = {}
    plain, gaps, lengths = [], [], []
    for version in range(swaps + 1):
        if version:
            lengths.append(round(statistics.mean(len(one.tokens) for one in engine.scheduler.running)))
            engine.swap(params, version)
        quiet = 0
        while quiet < 12:
            crossed = False
            for number, event in engine.step():
                before, then = last.get(number, (None, 0.0))
                last[number] = event.version, time.perf_counter()
                if before == event.version and quiet > 1:
                    plain.append(last[number][1] - then)
                elif before is not None and before != event.version:
                    gaps.append(last[number][1] - then)
                crossed |= before != event.version
            quiet = 0 if crossed or len(last) < SLOTS else quiet + 1
    step = statistics.median(plain)
    peer = plain if on_swap == "keep" else _waits(engine, lengths)
    return [gap / step for gap in gaps], [gap / step for gap in peer]


def _waits(engine: Engine, lengths: list[int]) -> list[float]:
    """Seconds until as many prompts as there are slots have their first tokens, all asked for at once; each length."""
    found = []
    for turn, length in enumerate(lengths):
        engine.forget([one.number for one in engine.scheduler.running])
        prompts = [((1 + turn, 100 + number) * length)[:length] for number in range(SLOTS)]
        began = time.perf_counter()
        left = {engine.submit(Request(prompt, 100, 1.0, seed=number)) for number, prompt in enumerate(prompts)}
        while left:
            for number, event in engine.step():
                if isinstance(event, Token) and number in left:
                    left.remove(number)
                    found.append(time.perf_counter() - began)
    return found


def tokens_per_second(answers: int, rounds: int, sigma: float = 0.9) -> list[tuple[float, float]]:
    """R6: with a swap for as many tokens as all slots' answers have, in flight and when no answer is under way."""
    engine, params = engine_of(configured(1).engine)
    return [tuple(_rate(engine, params, drained, answers, sigma) for drained in (False, True)) for _ in range(rounds)]


def _rate(engine: Engine, params: Any, drained: bool, answers: int, sigma: float) -> float:
    lengths, rng, first = LogNormal(64, sigma, LONGEST - PROMPT), Random(0), engine.counts.made
    each = round(SLOTS * lengths.mean_of(lambda length: length))
    due, left, began = first + each, answers, time.perf_counter()
    while left or engine.busy:
        if engine.counts.made >= due and not (drained and engine.busy):
            due = engine.counts.made + each
            engine.swap(params, engine.version + 1)
        while left and len(engine.scheduler.running) + engine.scheduler.waiting < SLOTS:
            if drained and engine.counts.made >= due:
                break
            engine.submit(Request((1 + left % 500,) * PROMPT, max(1, round(lengths.at(rng.gauss()))), 1.0, seed=left))
            left -= 1
        engine.step()
    return (engine.counts.made - first) / (time.perf_counter() - began)


def publish(run: Path, megabytes: int) -> tuple[float, float]:
    """When a publication began and when it was announced, by the clock on the wall."""
    import jax.numpy as jnp

    params = {f"w{number}": jnp.ones((megabytes, 25_000), jnp.float32) for number in range(10)}
    with Publisher(run) as publisher:
        began = time.time()
        publisher.publish(params, 1)
        publisher.wait()
        return began, time.time()


def take(run: Path, megabytes: int, after: int) -> tuple[float, float]:
    """When a version above `after` was seen and when it was ready to be drawn with."""
    import jax
    import jax.numpy as jnp

    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shape = jax.ShapeDtypeStruct((megabytes, 25_000), jnp.float32, sharding=place)
    reader = PolicyReader(run, "host")
    while (newest := reader.newest()) is None or newest.version <= after:
        time.sleep(0.02)
    seen = time.time()
    jax.block_until_ready(reader.load(newest, {f"w{number}": shape for number in range(10)}))
    reader.use(newest.version)
    return seen, time.time()


def kill_each(folder: Path, roles: dict[str, int], steps: int, every: int, watched: int) -> dict[str, float]:
    """R9: seconds that a `kill -9` of each role cost, over `watched` steps from the one at which it was done.

    Args:
      folder: of the run.
      roles: the step at which each is killed.
      steps: of the run.
      every: steps between checkpoints.
      watched: steps.

    Returns:
      And under the empty name, seconds between two checkpoints.

    Raises:
      ArithmeticError: a group was lost, or is in two places.
    """
    rl = replace(configured(steps), checkpoint_every=every, ttl=8.0)
    killed: dict[str, int] = {}

    def watch() -> None:
        while len(killed) < len(roles):
            time.sleep(0.05)
            done = max((row["step"] for row in read(folder).steps), default=0)
            for role, step in roles.items():
                if done >= step and role not in killed:
                    killed[role] = done
                    os.kill(json.loads((folder / "board" / "roles.json").read_text())[role], signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    came_to = run_on_ray(rl, folder, None, lambda accounts: None)
    if not came_to["accounts"].holds or {role for role, count in came_to["restarts"].items() if count} != {*roles}:
        raise ArithmeticError(f"what {folder} came to: {came_to}")
    # Of a step that was made again, when it was made first.
    first = {}
    for row in read(folder).roles["learner"]:
        if "step" in row:
            first.setdefault(row["step"], row["time"])
    spans = [first[step + 1] - first[step] for step in range(WARM, steps)]
    usual = statistics.mean(sorted(spans)[: len(spans) * 9 // 10])
    ends = {role: min(step + watched, steps) for role, step in killed.items()}
    costs = {role: first[end] - first[killed[role]] - usual * (end - killed[role]) for role, end in ends.items()}
    return costs | {"": usual * every}
