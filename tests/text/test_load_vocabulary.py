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
