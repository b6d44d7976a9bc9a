"""A run's folder as a finished run leaves it: real programs, recorded here, and predictions with planted faults."""

import json
import math
import random
import sys
from pathlib import Path

STRAWBERRY = """def count_letters(word, letter):
    count = 0
    for char in word:
        if char == letter:
            count += 1
    return count


def main():  # << START_OF_TRACE
    word = "strawberry"
    return count_letters(word, "r")
"""
WORDS = ["banana", "letter", "mississippi", "code", "trace", "loop", "xylophone", "a"]
BODIES = {
    "count": "    n = 0\n    for c in s:\n        if c in 'aeiou':\n            n += 1\n    return n",
    "build": "    out = ''\n    for c in s:\n        out = c + out\n    return f'{out}<{len(out)}>'",
    "table": "    seen = {}\n    for c in s:\n        seen[c] = seen.get(c, 0) + 1\n    return seen",
    "halve": "    n = len(s)\n    steps = 0\n    while n > 1:\n        n //= 2\n        steps += 1\n    return steps",
    "find": "    for i, c in enumerate(s):\n        if c == 'e':\n            return i\n    raise ValueError(s)",
}


def program(kind: str, word: str) -> str:
    return f"def {kind}(s):\n{BODIES[kind]}\n\n\ndef main():  # << START_OF_TRACE\n    return {kind}({word!r})\n"


def record(context: str) -> list[dict]:
    """The frames of `main()`, by the plainest tracer there is."""
    lines = [line.replace("  # << START_OF_TRACE", "") + "\n" for line in context.split("\n")]
    frames, baseline = [], [None, {}]

    def tracer(frame, event, argument):
        if frame.f_code.co_filename != "<program>":
            return None
        told = {"event": event, "line": frame.f_lineno, "source": lines[frame.f_lineno - 1]}
        if event in ("call", "line"):
            state = {name: repr(value) for name, value in frame.f_locals.items()}
            known = baseline[1] if baseline[0] is frame else {}
            told["locals"] = {name: ".." if known.get(name) == text else text for name, text in state.items()}
            baseline[:] = [frame, state]
        else:
            told["value"] = repr(argument[1] if event == "exception" else argument)
            baseline[:] = [None, {}]
        frames.append(told)
        return tracer

    scope: dict = {}
    exec(compile(context, "<program>", "exec"), scope)
    sys.settrace(tracer)
    try:
        scope["main"]()
    except ValueError:
        pass
    finally:
        sys.settrace(None)
    return frames


def spoiled(frames: list[dict], rng: random.Random) -> list[dict]:
    """A prediction that goes wrong at a random frame and stays wrong: a value, a branch, or an early end."""
    start = rng.randrange(2, len(frames))
    said = json.loads(json.dumps([{**frame, "line": None} for frame in frames]))
    fault = rng.choice(["value", "branch", "end"])
    if fault == "end":
        return said[:start]
    for frame in said[start:]:
        if fault == "branch":
            frame.update(event="line", source="    return None\n", locals={"s": ".."})
            frame.pop("value", None)
        elif frame.get("locals"):
            frame["locals"] = {name: "7" if text != ".." else text for name, text in frame["locals"].items()}
        frame.setdefault("locals", None)
    if [frame["source"] for frame in said] == [frame["source"] for frame in frames]:
        said[start]["source"] = "    pass\n"
    return said


def item(name_of_set: str, name: str, context: str, rng: random.Random, share_exact: float) -> dict:
    actual = record(context)
    exact = rng.random() < share_exact
    said = [{**frame, "line": None} for frame in actual] if exact else spoiled(actual, rng)
    return {"set": name_of_set, "name": name, "context": context, "exact": exact, "predicted": said, "actual": actual}


def evaluation_of(items: list[dict]) -> dict:
    metrics = ["output_pass_at_1", "valid_trace_format", "state_exact_match", "action_exact_match", "valid_json",
               "state_key_match", "state_key_value_match"]  # fmt: skip
    sets = {}
    for name in dict.fromkeys(item["set"] for item in items if item["set"] != "strawberry"):
        own = [item for item in items if item["set"] == name]
        share = sum(item["exact"] for item in own) / len(own)
        wrong = [item for item in own if not item["exact"]]
        by_length = []
        for low, high in ((1, 8), (9, 16), (17, 32), (33, 64)):
            group = [item["exact"] for item in own if low <= len(item["actual"]) <= high]
            if group:
                by_length.append({"frames": f"{low}-{high}", "n": len(group), "exact": sum(group) / len(group)})
        sets[name] = {
            "exact": share,
            "frames_exact": share**0.2,
            "n": len(own),
            "metrics": {metric: share ** (0.1 * place) for place, metric in enumerate(reversed(metrics))}
            | {"average_state_tokens": 11.7, "average_action_tokens": 9.6},
            "by_length": by_length,
            "failures": [
                {"category": "branch after if", "n": len(wrong[::2]), "example": wrong[0]},
                {"category": "loop variable at for", "n": len(wrong[1::2]), "example": wrong[-1]},
            ],
        }
    return {"sets": sets}


def write_run(folder: Path, each: int = 40) -> Path:
    """Writes all files of a finished run with `each` predictions a test set; returns `folder`."""
    rng = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    items = [item("strawberry", "strawberry", STRAWBERRY, rng, 1)]
    for name, share in (("new_inputs", 0.93), ("new_programs", 0.84), ("composed", 0.55), ("human_written", 0.4)):
        for number in range(each):
            kind = rng.choice(list(BODIES))
            items.append(item(name, f"{kind}_{number}", program(kind, rng.choice(WORDS)), rng, share))
    evaluation = evaluation_of(items)
    results = {name: {key: scores[key] for key in ("exact", "frames_exact", "n")}
               for name, scores in evaluation["sets"].items()}  # fmt: skip
    results |= {"strawberry": {"exact": True}, "parameters": 412_345, "tokens": 12_345_678}
    results["minutes"] = {"record": 0.7, "train": 13.2, "predict": 0.9, "total": 14.8}
    steps = [*range(10, 2010, 10), *range(1500, 4010, 10)]  # killed at 2000, resumed at 1500
    rows = [{"step": step, "loss": 3 * math.exp(-step / 500) + 0.02 + 0.02 * rng.random(), "seconds": step / 5,
             "learning_rate": 0.01 * min(1, step / 200, (4000 - step) / 1500), "accuracy": 1 - math.exp(-step / 600),
             "tokens_per_second": 27_000 + 900 * rng.random()} for step in steps]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 40')
    (folder / "predictions.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    (folder / "config.json").write_text(json.dumps({"model": {"layers": 5, "d_model": 96}, "data": {"seed": 0}}))
    (folder / "config.gin").write_text("Transformer.layers = 5\nTransformer.d_model = 96\n")
    return folder
