"""Splits by program, from what lies on disk; resuming; step-over events carry no loss."""

import ast
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cwm_jax.data.corpus import CorpusConfig, held_out, read_shard, record_shard, shard_path
from cwm_jax.data.corpus import test_contexts as contexts_of_tests
from cwm_jax.data.prepare import DataConfig, prepare
from cwm_jax.data.rows import RowFile
from cwm_jax.text.load import VOCABULARY
from cwm_jax.text.vocabulary import SentencePieceVocabulary
from cwm_jax.tracing import parse
from cwm_jax.tracing.sources import values
from cwm_jax.tracing.sources.program import fingerprint

CONFIG = DataConfig(
    corpus=CorpusConfig(strawberry=150, composed=150, inputs=2, step_over=0.5, tests=30, shards=3),
    buckets=(128, 256, 512),
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    import os

    os.chdir(Path(__file__).parent.parent.parent)
    folder = tmp_path_factory.mktemp("data")
    return folder, prepare(CONFIG, folder)


def items_of(folder, name):
    return [json.loads(line) for line in (folder / "tests" / f"{name}.jsonl").read_text().splitlines()]


def sources(folder):
    """The source of every training episode, once it is known to be what the model reads."""
    for shard in range(3):
        for episode in read_shard(shard_path(folder, shard)).episodes:
            assert episode.context == CONFIG.form.context(episode.source)
            yield episode.source


def test_no_test_program_is_in_the_training_set(prepared):
    folder, _ = prepared
    training = {fingerprint(source) for source in sources(folder)}
    assert len(training) > 200
    for name in ("new_programs", "composed", "human_written", "strawberry"):
        tests = {fingerprint(item["context"]) for item in items_of(folder, name)}
        assert tests and not tests & training, name


def test_some_programs_have_other_names_and_those_of_tests_their_own(prepared, tmp_path):
    usual = {name for names in values.NAMES.values() for name in names} | {"main"}

    def bound(source):
        return {node.arg for node in ast.walk(ast.parse(source)) if isinstance(node, ast.arg)}

    def share(config):
        record_shard(config, CONFIG.form, 0, tmp_path, held_out(config))
        found = [bound(episode.source) for episode in read_shard(shard_path(tmp_path, 0)).episodes]
        return sum(not names <= usual for names in found) / len(found)

    shares = [share(replace(CONFIG.corpus, renamed=renamed)) for renamed in (0.0, 0.5, 1.0)]
    assert shares[0] == 0 and 0.3 < shares[1] < 0.7 and shares[2] > 0.9
    with pytest.raises(ValueError, match=r"CorpusConfig.renamed=1.5"):
        replace(CONFIG.corpus, renamed=1.5)
    contexts = [contexts_of_tests(replace(CONFIG.corpus, renamed=renamed)) for renamed in (0.0, 1.0)]
    assert contexts[0] == contexts[1]


def test_new_inputs_are_known_programs_with_unseen_arguments(prepared):
    folder, _ = prepared
    contexts = {source.strip() for source in sources(folder)}
    programs = {fingerprint(context) for context in contexts}
    items = items_of(folder, "new_inputs")
    known = [item for item in items if fingerprint(item["context"]) in programs]
    assert len(known) >= 0.9 * len(items) > 20
    assert not any(item["context"].strip() in contexts for item in items)


def test_test_texts_are_whole_traces(prepared):
    folder, manifest = prepared
    assert manifest.tests["human_written"] >= 40 and manifest.tests["composed"] == 30
    for name, count in manifest.tests.items():
        items = items_of(folder, name)
        assert len(items) == count
        assert all(parse(item["text"]).complete and parse(item["text"]).context == item["context"] for item in items)


def test_rows_hold_what_the_manifest_counts(prepared):
    folder, manifest = prepared
    tokens = predicted = 0
    vocabulary = SentencePieceVocabulary.load(folder / VOCABULARY)
    assert manifest.vocabulary == vocabulary.fingerprint
    for length, count in manifest.rows.items():
        file = RowFile(folder / f"rows-{length}.array_record")
        assert len(file) == count
        rows = file.read(np.arange(count))
        tokens += int((rows.segment_ids > 0).sum())
        predicted += int((rows.loss_weights == 1).sum())
        assert rows.tokens.max() < vocabulary.vocab_size
    assert (tokens, predicted) == (manifest.tokens, manifest.predicted_tokens)


def test_the_event_that_steps_over_is_given_not_predicted(prepared):
    folder, _ = prepared
    episodes = [episode for shard in range(3) for episode in read_shard(shard_path(folder, shard)).episodes]
    stepped = [episode for episode in episodes if episode.forced]
    assert len(stepped) > 30
    for episode in stepped:
        for index in episode.forced:
            assert episode.frames[index] == "<|return_sep|>"
            before = [
                piece for piece in episode.frames[:index] if piece in ("<|call_sep|>", "<|line_sep|>", "<|return_sep|>")
            ]
            assert before[-1] == "<|call_sep|>"


def test_an_interrupted_prepare_goes_on_to_the_same_bytes(prepared, tmp_path):
    folder, manifest = prepared
    prepare(CONFIG, tmp_path)
    for path in (tmp_path / "manifest.json", tmp_path / "shards" / "0001.json.gz", tmp_path / "rows-128.array_record"):
        path.unlink()
    again = prepare(CONFIG, tmp_path)
    assert again.rows == manifest.rows and again.tokens == manifest.tokens and again.vocabulary == manifest.vocabulary
    for length in manifest.rows:
        name = f"rows-{length}.array_record"
        count = len(RowFile(folder / name))
        for one, other in zip(
            RowFile(folder / name).read(np.arange(count)), RowFile(tmp_path / name).read(np.arange(count))
        ):
            np.testing.assert_array_equal(one, other)


def test_another_configuration_does_not_overwrite(prepared):
    folder, _ = prepared
    with pytest.raises(ValueError, match="another configuration"):
        prepare(DataConfig(vocabulary_size=300), folder)
