"""What records of items come to: shares with their uncertainty, by length, by type, and how sure is how right."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

LENGTHS = ((1, 8), (9, 16), (17, 24), (25, 32), (33, 48), (49, 96), (97, math.inf))  # frames of the real trace
_BINS = 10  # of confidence, for its calibration
_Z = 1.959964  # 95 %


def interval(right: int, n: int) -> list[float]:
    """The ends of the 95 % interval of a share, `right` of `n`, after Wilson (1927)."""
    share, spread = right / n, _Z**2 / n
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return [0.0 if right == 0 else middle - half, 1.0 if right == n else middle + half]


def share(right: int, n: int, details: dict[str, Any]) -> dict[str, Any]:
    """A share with its 95 % interval, and what else there is to tell: `n`, `score`, `interval`, `details`."""
    return {"n": n, "score": right / n, "interval": interval(right, n), "details": details}


def summary(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What every suite of single items tells.

    Args:
      records: of each item `right`, `reason` (why not), `tokens`, `frames` (of the real trace), `type` (of what is
        asked for; left out where nothing is), and `confidence` where it is known.

    Returns:
      `n`, `score` (the share that is right), `interval` (95 %), `tokens` (their mean), `reasons`, `by_length`,
      `by_type` and `calibration`, the latter where anything is known of them.
    """
    n, right = len(records), sum(record["right"] for record in records)
    found: dict[str, Any] = {
        "n": n,
        "score": right / n,
        "interval": interval(right, n),
        "tokens": sum(record["tokens"] for record in records) / n,
        "reasons": dict(Counter(record["reason"] for record in records if not record["right"]).most_common()),
        "by_length": by_length([(record["frames"], float(record["right"])) for record in records]),
    }
    by_type: dict[str, list[bool]] = defaultdict(list)
    for record in records:
        if "type" in record:
            by_type[record["type"]].append(record["right"])
    if by_type:
        found["by_type"] = shares({name: (sum(rights), len(rights)) for name, rights in by_type.items()})
    sure = [(record["confidence"], record["right"]) for record in records if record.get("confidence") is not None]
    if sure:
        found["calibration"] = calibration(sure)
    return found


def by_length(scores: Sequence[tuple[int, float]]) -> list[dict[str, Any]]:
    """The mean of scores, each with its number of frames, in groups of `LENGTHS`; empty groups are left out."""
    rows = []
    for low, high in LENGTHS:
        inside = [score for frames, score in scores if low <= frames <= high]
        if inside:
            label = f"{low}-{high}" if high < math.inf else f"{low}+"
            rows.append({"frames": label, "n": len(inside), "score": sum(inside) / len(inside)})
    return rows


def shares(counts: dict[str, tuple[int, int]]) -> list[dict[str, Any]]:
    """(right, all) by type as rows, the most frequent type first."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1][1], item[0]))
    return [{"type": name, "n": n, "score": right / n} for name, (right, n) in ranked if n]


def calibration(sure: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """How sure against how right.

    Returns:
      `n`; `error`, the expected calibration error over ten bins of equal width; `bins` with `confidence` (their
      mean), `score` and `n`, empty ones left out.
    """
    groups: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for confidence, right in sure:
        groups[min(int(confidence * _BINS), _BINS - 1)].append((confidence, right))
    bins = []
    for _, group in sorted(groups.items()):
        confidence, right = (sum(values) / len(group) for values in zip(*group))
        bins.append({"confidence": confidence, "score": right, "n": len(group)})
    error = sum(one["n"] * abs(one["confidence"] - one["score"]) for one in bins) / len(sure)
    return {"n": len(sure), "error": error, "bins": bins}
