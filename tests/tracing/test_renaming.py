"""A program under other names is the same program, and does the same."""

import ast
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.data.corpus import FAMILIES
from cwm_jax.tracing import Isolation, record_many
from cwm_jax.tracing.sources.program import Program
from cwm_jax.tracing.sources.renaming import renamed

PROGRAMS = st.builds(
    lambda family, seed: FAMILIES[family].generate(Random(seed), 2), st.sampled_from(sorted(FAMILIES)), st.integers(0)
)


def bound(code: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, (ast.FunctionDef, ast.arg)):
            found.append(node.name if isinstance(node, ast.FunctionDef) else node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.append(node.id)
    return found


@given(PROGRAMS, st.integers(0))
def test_it_stays_the_same_program_under_none_of_its_names(program, seed):
    other = renamed(program, Random(seed))
    assert other.fingerprint == program.fingerprint and other.inputs == program.inputs
    before, after = bound(program.code), bound(other.code)
    assert not set(before) & set(after)
    assert len(dict(zip(before, after))) == len(set(after))  # one name for another, the same everywhere
    assert renamed(program, Random(seed)) == other


def test_it_runs_as_before():
    rng = Random(0)
    programs = [FAMILIES[family].generate(rng, 1) for family in FAMILIES for _ in range(60)]
    others = [renamed(program, rng) for program in programs]
    runs = [list(record_many([one.contexts()[0] for one in some], isolation=Isolation.LIMITS_ONLY))
            for some in (programs, others)]  # fmt: skip
    for one, other in zip(*runs):
        assert one.verdict == other.verdict
        assert [frame.event for frame in one.frames] == [frame.event for frame in other.frames]
        for frame, same in zip(one.frames, other.frames):
            assert frame.value == same.value
            assert frame.locals is None or [v for _, v in frame.locals] == [v for _, v in same.locals]


def test_texts_stay_and_the_expressions_of_f_strings_follow():
    code = """def word(text, n):
    out = "word text"
    return f"text {text}: {n:03d} {n + n!r} {out.count}" + text.strip()"""
    other = renamed(Program("", code, "word", ()), Random(1))
    text, n = (one.arg for one in ast.parse(other.code).body[0].args.args)
    assert '"word text"' in other.code and f'f"text {{{text}}}: {{{n}:03d}} {{{n} + {n}!r}}' in other.code
    assert f"+ {text}.strip()" in other.code and ".count}" in other.code and other.entry in other.code


def test_no_name_becomes_one_that_the_code_looks_up_by_its_spelling():
    program = Program("", "def f(a):\n    return sorted(a, key=len, reverse=True), a.index", "f", ("[1]",))
    for seed in range(3000):
        assert not {"key", "index", "reverse"} & set(bound(renamed(program, Random(seed)).code))


def test_attributes_keep_their_names():
    code = "def imag(real):\n    count = real.real + real.imag\n    return f'{count.real}' + str(count . imag)"
    other = renamed(Program("", code, "imag", ()), Random(1))
    nodes = [node for node in ast.walk(ast.parse(other.code)) if isinstance(node, ast.Attribute)]
    assert sorted(node.attr for node in nodes) == ["imag", "imag", "real", "real"]
    assert not {"imag", "real", "count"} & set(bound(other.code))
