"""Duplicates: what is one, and that who stays follows from the set alone."""

import ast
import json
import sysconfig
from pathlib import Path
from random import Random

import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from cwm_jax.tracing.quality import NearDuplicates, exact_name, smallest_keys, stays
from cwm_jax.tracing.sources import composed
from cwm_jax.tracing.sources.normal import bare
from cwm_jax.tracing.wrap import wrap

ROWS = [json.loads(line) for line in Path("tests/data/cruxeval.jsonl").read_text().splitlines()]
LIBRARY = Path(sysconfig.get_path("stdlib"))
NEAR = NearDuplicates()
groups = st.dictionaries(st.text("abc", min_size=1, max_size=4), st.sets(st.integers(0, 9).map(str)), max_size=12)


@given(groups, st.randoms(), st.integers(1, 4))
def test_who_stays_depends_on_the_set_alone(programs, rng, workers):
    smallest = smallest_keys(programs.items())
    shuffled = rng.sample(list(programs.items()), len(programs))
    parts = [smallest_keys(shuffled[worker::workers]) for worker in range(workers)]
    assert smallest_keys((key, [name]) for part in parts for name, key in part.items()) == smallest


@given(groups)
def test_no_two_that_stay_share_a_name_and_each_group_keeps_one(programs):
    smallest = smallest_keys(programs.items())
    kept = {key for key, names in programs.items() if stays(key, names, smallest)}
    assert all(not programs[one] & programs[other] for one in kept for other in kept if one != other)
    for key in programs.keys() - kept:
        assert any(other < key and programs[other] & programs[key] for other in programs)
    assert not programs or min(programs) in kept


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_layout_of_code_and_inputs_does_not_count(seed):
    program = composed.generate(Random(seed), 2)
    other = ast.unparse(ast.parse(program.code))
    spaced = [f" {text} ," if text else text for text in program.inputs]
    assert exact_name(program.code, program.inputs) == exact_name(other, spaced)
    assert NEAR.names(program.code, program.inputs) == NEAR.names(other, spaced)
    assert exact_name(program.code, program.inputs) != exact_name(program.code, (*program.inputs, "None"))


def test_inputs_tell_contexts_apart_and_their_grouping_counts():
    one, other = wrap("def f(a): return a", "f", "1"), wrap("def f(a): return a", "f", "2")
    assert exact_name(one) != exact_name(other) and NEAR.names(one) == NEAR.names(other)
    assert exact_name("f()", ["1", "2"]) != exact_name("f()", ["1, 2"])
    assert exact_name("f()", ["not an argument list\ud800"]) != exact_name("f()", ["neither\ud800"])


def test_bands_find_the_pairs_that_the_peer_finds_over_real_functions():
    lsh, names = MinHashLSH(num_perm=128, params=(NEAR.bands, NEAR.rows)), {}
    for row in ROWS[:300]:
        sketch = MinHash(128, seed=1)
        sketch.update_batch([shingle.encode() for shingle in NEAR.shingles(row["code"], [row["input"]])])
        lsh.insert(row["id"], sketch)
        names[row["id"]] = set(NEAR.names(row["code"], [row["input"]]))
        found = {other for other, theirs in names.items() if theirs & names[row["id"]]}
        assert found == set(lsh.query(sketch))


def test_edited_functions_are_near_and_different_ones_are_not():
    """One statement put into functions of 12 lines or more is noticed; of all pairs of functions few are near."""
    count = near = 0
    for name in ("textwrap", "statistics", "shlex", "inspect", "calendar", "difflib"):
        for node in ast.parse((LIBRARY / f"{name}.py").read_text()).body:
            if isinstance(node, ast.FunctionDef) and ast.unparse(bare(ast.Module([node], []))).count("\n") >= 11:
                before = {*NEAR.names(ast.unparse(node))}
                node.body.insert(len(node.body) // 2, ast.parse("unused = 0").body[0])
                near += bool(before & {*NEAR.names(ast.unparse(ast.fix_missing_locations(node)))})
                count += 1
    assert count > 40 and near > 0.95 * count
    carried = [(row["id"], NEAR.names(row["code"])) for row in ROWS]
    smallest = smallest_keys(carried)
    assert 0 < sum(not stays(key, names, smallest) for key, names in carried) < 0.03 * len(ROWS)


@pytest.mark.parametrize("field", ["bands", "rows", "shingle"])
def test_refuses_an_empty_signature(field):
    with pytest.raises(ValueError, match=f"{field}=0"):
        NearDuplicates(**{field: 0})
