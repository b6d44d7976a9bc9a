"""A vocabulary's file says itself which kind it is."""

import base64

import pytest

from cwm_jax.text.llama3 import Llama3Vocabulary
from cwm_jax.text.load import load_vocabulary
from cwm_jax.text.special_tokens import TRACE_TOKENS
from cwm_jax.text.vocabulary import train_vocabulary

RANKS = b"".join(base64.b64encode(bytes([byte])) + b" %d\n" % byte for byte in range(256))


def test_either_kind_is_the_one_that_was_written(tmp_path):
    trained = train_vocabulary(["def f(): return 1"], 400, TRACE_TOKENS)
    trained.save(tmp_path / "a.model")
    (tmp_path / "b.model").write_bytes(RANKS)
    for name, vocabulary in (("a.model", trained), ("b.model", Llama3Vocabulary(RANKS))):
        loaded = load_vocabulary(tmp_path / name)
        assert type(loaded) is type(vocabulary) and loaded.fingerprint == vocabulary.fingerprint


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"", "Llama-3 ranks"), (RANKS[:99], "Llama-3 ranks"), (b"no vocabulary", "Llama-3 ranks"),
     (b"\n\n\n", "SentencePiece model"), (b"\n\x05abc", "SentencePiece model")],
)  # fmt: skip
def test_what_is_no_vocabulary_is_refused_by_name(tmp_path, content, kind):
    (tmp_path / "bad.model").write_bytes(content)
    with pytest.raises(ValueError, match=rf"bad.model cannot be read as a (file of )?{kind}"):
        load_vocabulary(tmp_path / "bad.model")


def test_the_tokenizer_of_hugging_face_gives_the_ranks_that_it_was_made_of(tmp_path):
    """Against the library that makes these files."""
    tokenizers = pytest.importorskip("tokenizers")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(["strawberries are ünïcode ☃\n\tindeed, "] * 9, trainer)
    made.save(f"{tmp_path}/tokenizer.json")
    ours = load_vocabulary(tmp_path / "tokenizer.json")
    decode = tokenizers.decoders.ByteLevel().decode
    for token, rank in made.get_vocab().items():
        assert ours.decode([rank]) == decode([token])
    assert ours.vocab_size == len(made.get_vocab()) + 256 and len(made.get_vocab()) > 260


@pytest.mark.parametrize("content", [b"{}", b"{", b'{"model": {"vocab": {"a": 0}}}', b'{"model": []}'])
def test_other_json_is_no_vocabulary(content, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as a tokenizer of Llama-3 ranks"):
        load_vocabulary(tmp_path / "tokenizer.json")
