"""Frames as reports get them, and how two traces are set side by side.

A frame is a dict as `python -m cwm_jax trace --format json` prints it: `event`
(`call`, `line`, `return` or `exception`), `source`, `line` (1-based, or None where
the model said it), and `locals` (name → repr, `".."` where unchanged) or `value`.
"""

UNCHANGED = ".."


def content(frame: dict) -> tuple:
    """What has to be equal for two frames to be the same text; the line number is no part of it."""
    state = frame.get("locals")
    return frame["event"], frame["source"], None if state is None else tuple(state.items()), frame.get("value")


def verdicts(predicted: list[dict], actual: list[dict]) -> list[bool]:
    """For each position up to the longer trace: do both have a frame there, and the same one?"""
    shared = [content(ours) == content(real) for ours, real in zip(predicted, actual, strict=False)]
    return shared + [False] * abs(len(predicted) - len(actual))


def full_locals(frames: list[dict]) -> list[dict[str, str]]:
    """The state at every frame with each `".."` replaced by what it stands for; `{}` at returns and exceptions."""
    states: list[dict[str, str]] = []
    before: dict[str, str] = {}
    for frame in frames:
        state = dict(frame.get("locals") or {})
        if frame["event"] == "line":
            state = {name: before.get(name, value) if value == UNCHANGED else value for name, value in state.items()}
        states.append(state)
        before = state
    return states
