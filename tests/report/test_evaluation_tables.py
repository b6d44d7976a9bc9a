"""The table of an evaluation in Markdown, as a page and in the terminal, from whatever suites tell."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cwm_jax.report.console import print_suites
from cwm_jax.report.evaluation import CARD, HEADER, markdown, overview, parts, write_tables

WHOLE = {
    "title": "traces: some",
    "published": None,
    "n": 10,
    "score": 0.7,
    "interval": [0.4, 0.9],
    "tokens": 123.0,
    "reasons": {"wrong | value": 2, "cut": 1},
    "by_length": [{"frames": "1-8", "n": 10, "score": 0.7}],
    "by_type": [{"type": "str", "n": 4, "score": 0.5}],
    "by_place": [{"place": "1-8", "n": 80, "free": 0.9, "forced": 0.95, "probability": 0.8, "at_least": True}],
    "metrics": {"output_match": 0.5, "state_tokens": 11.5},
    "published_metrics": {"output_match": 0.88},
    "calibration": {"n": 10, "error": 0.1, "bins": [{"confidence": 0.8, "score": 0.7, "n": 10}]},
    "details": {"said": {"loops": {"loops": 3}}, "seconds": 1.25},
}
RESULTS = {
    "model": "a model",
    "suites": {
        "whole": WHOLE,
        "scant": {"title": "CRUXEval output: trace, full", "published": 0.877, "n": 3, "score": 1.0},
        "none": {"title": "reasoning", "published": 0.943, "cannot": "it does not talk"},
    },
}


def rows_of(text: str, header: str) -> list[list[str]]:
    """The cells of the table under a header line of a Markdown text."""
    lines = text[text.index(f"| {header}") :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_table_in_markdown():
    text = markdown(RESULTS)
    assert rows_of(text, "suite") == [
        list(HEADER),
        ["---", *["---:"] * 5],
        ["traces: some", "70.0 %", "40.0 % to 90.0 %", "10", "123", "–"],
        ["CRUXEval output: trace, full", "100 %", "–", "3", "–", "87.7 %"],
        ["reasoning", "cannot be done", "–", "–", "–", "94.3 %"],
    ]
    assert "Cannot be done: it does not talk" in text and "lower bounds" in text
    assert rows_of(text, "reason |")[2] == ["wrong \\| value", "2"]
    assert ["said: loops: loops", "3"] in rows_of(text, "what")
    assert rows_of(text, "metric")[2:] == [["output match", "50.0 %", "88.0 %"], ["state tokens", "11.5", "–"]]


def test_the_page_says_the_same(tmp_path):
    write_tables(RESULTS, tmp_path)
    page = (tmp_path / "results.html").read_text()
    assert (tmp_path / "results.md").read_text() == markdown(RESULTS)
    for part in parts(WHOLE):
        assert part.title in page
        if part.plot is None:
            assert all(cell in page for row in part.rows for cell in row)
    assert "it does not talk" in page and "<script src" not in page


def test_the_terminal_says_what_cannot_be_done():
    stream = io.StringIO()
    print_suites(RESULTS, Console(file=stream, width=140))
    assert "87.7 %" in stream.getvalue() and "reasoning: it does not talk" in stream.getvalue()


@given(st.sets(st.sampled_from(sorted(WHOLE.keys() - {"title", "n", "score", "published"}))))
def test_whatever_a_suite_tells_can_be_shown(told):
    suite = {name: value for name, value in WHOLE.items() if name in told | {"title", "n", "score", "published"}}
    results = {"model": "m", "suites": {"s": suite}}
    assert len(overview(results)[0]) == len(HEADER)
    assert all(len(row) == len(part.header) for part in parts(suite) for row in part.rows)
    assert markdown(results).startswith("# Evaluation of m")


@pytest.mark.parametrize("text, filled", [
    ("# Card\n{0}\nold\n\n{1}\nend\n", True), ("# Card\nno marks\n", False), ("{1}\nold\n{0}\n", False),
    ("{0}\n{1}\n{0}\n{1}\n", False),
])  # fmt: skip
def test_a_model_card_gets_the_table_between_its_marks(tmp_path, text, filled):
    card = tmp_path / "README.md"
    card.write_text(text := text.format(*CARD))
    write_tables(RESULTS, tmp_path)
    if not filled:
        assert card.read_text() == text
        return
    first, last = card.read_text().split(CARD[0])[0], card.read_text().split(CARD[1])[1]
    assert (first, last) == ("# Card\n", "\nend\n") and "old" not in card.read_text()
    assert all(f"| {suite['title']} |" in card.read_text() for suite in RESULTS["suites"].values())
    once = card.read_text()
    write_tables(RESULTS, tmp_path)
    assert card.read_text() == once
