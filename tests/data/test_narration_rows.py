"""Rows of narrations: each stands after its source, and agrees with its trace or is dropped."""

from collections import Counter
from dataclasses import replace

import numpy as np
from packed_rows import documents, gin, prepare, vocabulary_of

from cwm_jax.data.manifest import Manifest
from cwm_jax.data.traces import Narrations
from cwm_jax.text.special_tokens import BEGIN_OF_TEXT, END_OF_TEXT
from cwm_jax.tracing.narration import Rewrite, Rewriter, narrate
from cwm_jax.tracing.store import read_stored


def test_narrations_follow_the_source_that_they_tell_of(traces, tmp_path):
    file = gin(tmp_path, traces, "Narrations")
    assert prepare("--gin_file", file, "--out", tmp_path / "rows").returncode == 0
    vocabulary, stored = vocabulary_of(traces), [one for one in read_stored(traces) if one.kind == "trace"]
    found = documents(tmp_path / "rows", vocabulary)
    wanted = {one.trace.context: narrate(one.trace) for one in stored}
    parts = {context: f"{BEGIN_OF_TEXT}{context.rstrip()}\n\n" for context in wanted}
    assert set(found) == {f"{parts[context]}{told}{END_OF_TEXT}" for context, told in wanted.items()}
    for context, told in wanted.items():
        tokens, weights = found[f"{parts[context]}{told}{END_OF_TEXT}"]
        assert vocabulary.decode(tokens[: int(np.flatnonzero(weights)[0])]) == parts[context]
    assert Manifest.read(tmp_path / "rows").programs == {"narration": len(stored)}


class Liar(Rewriter):
    """A model that tells of another value."""

    def rewrite(self, trace, narration):
        return Rewrite(narration + "The final value is `no value of any run`.\n", "kept")


def test_a_narration_that_does_not_agree_is_dropped_and_counted(traces):
    stored = [one for one in read_stored(traces) if one.kind == "trace"]
    down = Rewriter(base_url="http://127.0.0.1:9/v1", retries=0)
    unnumbered = [one._replace(trace=_without_lines(one.trace)) for one in stored]
    for source, told, reason in (
        (Narrations(str(traces)), stored, None),
        (Narrations(str(traces), rewriter=Liar()), stored, "narration: disagrees"),
        (Narrations(str(traces), rewriter=down), stored[:2], "narration: unreachable"),
        (Narrations(str(traces)), unnumbered, "narration: the rules cannot tell it"),
    ):
        dropped = Counter()
        kept = [text for one in told if (text := source.text(one, dropped))]
        assert len(kept) == (0 if reason else len(told)) and dropped == ({reason: len(told)} if reason else {})


def _without_lines(trace):
    return replace(trace, frames=tuple(replace(frame, line=None) for frame in trace.frames))


def test_a_share_of_the_traces_is_told_and_always_the_same(traces):
    stored = [one for one in read_stored(traces) if one.kind == "trace"]
    told = {share: [bool(Narrations(str(traces), share=share).text(one, Counter())) for one in stored]
            for share in (0.3, 0.7)}  # fmt: skip
    assert 0 < sum(told[0.3]) < sum(told[0.7]) < len(stored)
    assert all(more or not less for less, more in zip(told[0.3], told[0.7]))
