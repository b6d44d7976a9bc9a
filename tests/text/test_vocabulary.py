"""The SentencePiece vocabulary: exact round trips, control tokens out of reach of plain text, cuts never crossed."""

import pickle
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sentencepiece import SentencePieceTrainer
from sentencepiece.sentencepiece_model_pb2 import ModelProto

from cwm_jax.text import special_tokens
from cwm_jax.text.pre_split import PRE_SPLIT, cut
from cwm_jax.text.vocabulary import SentencePieceVocabulary, train_vocabulary

LINE = special_tokens.LINE_SEP
CONTROL = (*special_tokens.TRACE_TOKENS, "<|L7|>")
PROGRAM = """def count_letters(word, letter):
    count = 0
    for index in range(len(word)):
        if word[index] == letter and not index == 107:
            count += 1
    return {'count': count, 'word': "straw"}  # don't
"""
TEXTS = [PROGRAM, *([LINE, line, "<|L7|>", "[-1, -22]", LINE, "'strawberry'"] for line in PROGRAM.splitlines(True))] * 3
VOCABULARY = train_vocabulary(TEXTS, 512, CONTROL)
UNCUT = ModelProto.FromString(VOCABULARY.model)
UNCUT.trainer_spec.pretokenization_delimiter = "(?s:.+)"
UNCUT = SentencePieceVocabulary(UNCUT.SerializeToString())
CONTROL_IDS = {VOCABULARY.token_id(token) for token in CONTROL}

# Spellings that a tokenizer may take for something else, between arbitrary characters.
TRAPS = st.sampled_from(
    [*CONTROL, "▁", "␣", "␣␣", " ", "  ", "    ", "\n", "\r\n", "\t", "\0", "<unk>", "<s>", "<0x41>", "▅", "⁇",
     "\ufffd", "\ufeff", "e\u0301", "ﬁ", "Ａ", "count", "strawberry", "'", '"', "\\", "1", "-1", "🍓", "\U0010ffff"]
)  # fmt: skip
PLAIN = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | TRAPS, max_size=8).map("".join)


def tokens(text: str, vocabulary=VOCABULARY) -> list[str]:
    return [vocabulary.decode([i]) for i in vocabulary.encode(text)]


@given(PLAIN)
@example("▁ ␣ \0\t" + "".join(CONTROL))
def test_every_text_comes_back(text):
    ids = VOCABULARY.encode(text)
    assert VOCABULARY.decode(ids) == text
    assert all(0 <= i < VOCABULARY.vocab_size for i in ids)


@given(PLAIN)
@example(LINE)
def test_plain_text_never_makes_a_control_token(text):
    assert not ({*CONTROL_IDS, VOCABULARY.unk_id} & {*VOCABULARY.encode(text)})


@given(st.lists(PLAIN | st.sampled_from(CONTROL), max_size=8))
def test_segments(segments):
    ids = VOCABULARY.encode_segments(segments)
    assert VOCABULARY.decode(ids) == "".join(segments)
    assert [i for i in ids if i in CONTROL_IDS] == [VOCABULARY.token_id(s) for s in segments if s in CONTROL]


@given(PLAIN)
def test_no_token_crosses_a_cut(text):
    pieces = list(cut(re.compile(PRE_SPLIT), text))
    assert "".join(pieces) == text and all(pieces)
    assert VOCABULARY.encode(text) == [i for piece in pieces for i in UNCUT.encode(piece)]


@given(st.text(st.characters(codec="ascii"), max_size=20) | st.sampled_from(["strawberry", "letter == 0", "don't"]))
def test_every_character_of_a_string_literal_is_a_token_of_its_own(text):
    for spelled in (repr(text), repr(text)[:-1]):  # whole, and cut off
        assert tokens(f"x = {spelled}") == ["x", " = ", *spelled]


@given(st.lists(st.sampled_from(["count", "letter", "word", "index", "range", "straw", *"ountr_"])).map("".join))
def test_an_encoding_has_as_few_tokens_as_it_can(name):
    known = {VOCABULARY.decode([i]) for i in range(VOCABULARY.vocab_size)}
    fewest = [0]
    for end in range(1, len(name) + 1):
        fewest.append(min(fewest[start] + 1 for start in range(end) if name[start:end] in known))
    assert len(VOCABULARY.encode(name)) == fewest[-1]


@given(st.integers())
def test_digits_and_signs_stand_alone(number):
    assert tokens(f"[{number}]") == ["[", *str(number), "]"]


def test_names_keywords_and_indents_are_whole():
    assert tokens("        if word[index] == letter and not count_letters:\n") == [
        "        ", "if ", "word", "[", "index", "]", " == ", "letter", " and ", "not ", "count_letters", ":\n"
    ]  # fmt: skip
    assert tokens("word[index] and letter") == ["word", "[", "index", "]", " and ", "letter"]
    assert tokens("    count += 1\n") == ["    ", "count", " += ", "1", "\n"]


def test_a_rare_name_is_whole_although_its_letters_are_likelier():
    assert tokens("ab", train_vocabulary([*["a", "b"] * 1000, "ab", "ab"], 300, ())) == ["ab"]


def test_what_encode_returns_is_the_callers():
    first, second = VOCABULARY.encode("a text of its own"), VOCABULARY.encode("a text of its own")
    first.append(0)
    second.append(0)
    assert VOCABULARY.encode("a text of its own") == first[:-1] == second[:-1]


def test_lone_surrogates_are_refused_with_the_character():
    with pytest.raises(ValueError, match=r"lone surrogate '\\udc80'"):
        VOCABULARY.encode("ab \udc80")


def test_bytes_that_are_no_utf8_show_as_replacement_and_bad_ids_are_refused():
    heart = VOCABULARY.encode("❤")
    assert len(heart) == 3 and VOCABULARY.decode(heart[:1] + VOCABULARY.encode("x")) == "\ufffdx"
    for bad in (-1, VOCABULARY.vocab_size):
        with pytest.raises(ValueError, match=rf"ids must be in 0\.\.{VOCABULARY.vocab_size - 1}"):
            VOCABULARY.decode([bad])


def test_standard_ids_and_control_tokens():
    assert (VOCABULARY.pad_id, VOCABULARY.bos_id, VOCABULARY.eos_id, VOCABULARY.unk_id) == (0, 1, 2, 3)
    names = (special_tokens.PAD, special_tokens.BEGIN_OF_TEXT, special_tokens.END_OF_TEXT)
    assert [VOCABULARY.token_id(name) for name in names] == [0, 1, 2]
    assert sorted(VOCABULARY.control_tokens) == sorted(CONTROL) and len(CONTROL_IDS) == len(CONTROL)
    with pytest.raises(KeyError, match="no control token"):
        VOCABULARY.token_id("count")


def test_it_survives_files_and_pickles(tmp_path):
    VOCABULARY.save(tmp_path / "new" / "trace.model")
    loaded = SentencePieceVocabulary.load(tmp_path / "new" / "trace.model")
    for other in (loaded, pickle.loads(pickle.dumps(VOCABULARY))):
        assert other == VOCABULARY and other.fingerprint == VOCABULARY.fingerprint
        assert other.encode(PROGRAM) == VOCABULARY.encode(PROGRAM) and other.pre_split == PRE_SPLIT
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["trace.model"]


def test_training_depends_on_the_texts_alone():
    assert train_vocabulary(TEXTS[::-1], 512, CONTROL) == VOCABULARY
    assert train_vocabulary(TEXTS[1:], 512, CONTROL).fingerprint != VOCABULARY.fingerprint
    assert train_vocabulary(TEXTS, 512, CONTROL, pre_split=r"\w+").fingerprint != VOCABULARY.fingerprint


def test_another_pre_split_cuts_training_and_encoding():
    texts = ["abab abab abab"] * 20
    whole = train_vocabulary(texts, 300, ())
    pairs = train_vocabulary(texts, 300, (), pre_split=r"(?s:..)")
    assert tokens("abab", whole) == ["abab"] and tokens("abab", pairs) == ["ab", "ab"]
    assert pairs.pre_split == r"(?s:..)" and tokens("bab", pairs) == ["ba", "b"]
    assert "abab" not in [pairs.decode([i]) for i in range(pairs.vocab_size)]


def test_control_text_in_the_corpus_is_never_learnt():
    texts = [LINE * 5, [LINE, "x" + LINE]] * 20
    vocabulary = train_vocabulary(texts, 400, CONTROL, pre_split="(?s:.+)")
    assert vocabulary.decode(vocabulary.encode(LINE)) == LINE
    assert vocabulary.token_id(LINE) not in vocabulary.encode(LINE)


def test_a_small_corpus_gives_a_smaller_vocabulary():
    tiny = train_vocabulary(["ab ab"], 512, CONTROL)
    assert tiny.vocab_size < 300 and tiny.decode(tiny.encode(PROGRAM)) == PROGRAM


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((TEXTS, 269, CONTROL), "size 269 is too small: control symbols and bytes alone need 270"),
        ((TEXTS, 270, CONTROL), "cannot train a vocabulary of size 270"),
        (([], 512, CONTROL), "no texts"),
        (([["<|L7|>"], ""], 512, CONTROL), "no texts"),
        ((TEXTS, 512, ["<|a|>", "<|a|>"]), "distinct"),
        ((TEXTS, 512, CONTROL, ""), "pre_split is empty"),
    ],
)
def test_bad_training_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        train_vocabulary(*arguments)


def test_a_model_from_elsewhere_is_refused(tmp_path):
    SentencePieceTrainer.train(
        sentence_iterator=iter(["ab ab"]), model_prefix=str(tmp_path / "m"), vocab_size=8, hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    with pytest.raises(ValueError, match="train the vocabulary anew"):
        SentencePieceVocabulary.load(tmp_path / "m.model")
