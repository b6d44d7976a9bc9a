"""How soon the model that comes with the project answers: the first predicted frame, and frames a second.

    python benchmarks/small.py [--quick] [--out FILE]

Programs are those written by hand for tests, each asked alone, from the call until its first frame and until its last;
then all at once. The process is warm: the engine has answered about another program. What a user of the command line
waits for stands beside it: Python, JAX, weights, compilation and the answer.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a file from anywhere

from result import flags, row, tell

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "experiments/tiny/strawberry.py"
FIRST, PACE = 0.5, 20.0  # seconds until the first frame at most, frames a second at least


def answered(world, context: str) -> tuple[float, float, int] | None:
    """Seconds until the first frame and until the last, and how many there are; None where no frame can be read."""
    began, firsts = time.monotonic(), []

    def until(found) -> bool:
        firsts.append(time.monotonic() - began)
        return False

    (future,) = world.futures(context, (), until=until)
    return (firsts[0], time.monotonic() - began, len(future.frames)) if firsts else None


def command_line() -> float:
    """Seconds that `predict` takes as a command of its own."""
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "cwm_jax", "predict", str(EXAMPLE)], cwd=ROOT, capture_output=True, check=True
    )
    return time.monotonic() - began


def main() -> None:
    arguments = flags(__doc__, "five programs, once").parse_args()
    from cwm_jax.checkpoints.default import SHIPPED
    from cwm_jax.worldmodel.models.local import LocalModel
    from cwm_jax.worldmodel.predict import WorldModel

    contexts = [path.read_text() for path in sorted((ROOT / "experiments/tiny/human").glob("*.py"))]
    contexts = contexts[:5] if arguments.quick else contexts
    began = time.monotonic()
    world = WorldModel(LocalModel(SHIPPED))
    answered(world, EXAMPLE.read_text())
    start = time.monotonic() - began
    list(world.predict([EXAMPLE.read_text()] * 8))  # the engine's other shapes
    found = [answered(world, context) for context in contexts]
    read = [one for one in found if one]
    firsts, wholes, counts = zip(*read)
    rows = [
        row("first frame, median", statistics.median(firsts), None, None, "s", 1.0, FIRST),
        row("first frame, slowest", max(firsts), None, None, "s", 1.0, FIRST),
        row("one trace at a time", sum(counts) / sum(wholes), None, None, "frames/s", 1.0, PACE),
        row("slowest trace", min(n / t for n, t in zip(counts, wholes)), None, None, "frames/s", 1.0, PACE),
    ]
    began = time.monotonic()
    frames = sum(len(trace.frames) for trace in world.predict(contexts))
    rows.append(row("all traces at once", frames / (time.monotonic() - began), None, None, "frames/s", 1.0, PACE))
    rows.append(row("until the first answer, imports not counted", start, None, None, "s"))
    rows.append(row("`predict` as a command", command_line(), None, None, "s"))
    tell("small", rows, arguments.out, programs=len(contexts), without_a_frame=len(found) - len(read))


if __name__ == "__main__":
    main()
