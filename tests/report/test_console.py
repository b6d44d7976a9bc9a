import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from synthetic_run import STRAWBERRY, record

from cwm_jax.report.console import print_results, print_trace

FRAMES = record(STRAWBERRY)


def printed(write, *arguments, terminal: bool = False) -> str:
    stream = io.StringIO()
    write(*arguments, console=Console(file=stream, force_terminal=terminal, width=80, highlight=False))
    return stream.getvalue()


def test_an_exact_trace_gets_a_tick_a_frame_and_its_state_in_full():
    lines = printed(print_trace, FRAMES, FRAMES).splitlines()
    assert len(lines) == len(FRAMES) + 1 and all(line.startswith("✓") for line in lines)
    assert lines[-1] == "✓ exact: all 32 frames"
    assert lines[-4].endswith("word = 'strawberry'  letter = 'r'  count = 3  char = 'y'")


def test_a_wrong_frame_gets_a_cross_and_the_real_one_below():
    said = [dict(frame) for frame in FRAMES]
    said[9] = {**said[9], "source": "    return count\n"}
    said = said[:30]
    lines = printed(print_trace, said, FRAMES).splitlines()
    assert [line[0] for line in lines].count("✗") == 4  # frame 10, two missing, the summary
    assert "return count" in lines[9] and lines[10].startswith("  real line") and "for char in word" in lines[10]
    assert "no frame predicted" in lines[-5] and lines[-4].startswith("  real return")
    assert lines[-1] == "✗ 29 of 32 frames exact, the first mismatch is frame 10"


def test_surplus_frames_are_wrong():
    text = printed(print_trace, [*FRAMES, FRAMES[-1]], FRAMES)
    assert "no frame: the run had ended" in text and "32 of 33 frames exact" in text


def test_without_a_real_run_nothing_is_judged():
    text = printed(print_trace, FRAMES)
    assert "✓" not in text and "✗" not in text and len(text.splitlines()) == len(FRAMES)


def test_colour_is_for_terminals():
    assert "\x1b[" in printed(print_trace, FRAMES, FRAMES, terminal=True)
    assert "\x1b" not in printed(print_trace, FRAMES, FRAMES)


@given(st.text(max_size=200), st.text(max_size=20))
def test_no_value_reaches_the_terminal_as_a_command(value, name):
    frames = [{"event": "line", "line": 1, "source": value + "\n", "locals": {name: value, "[red]x": value}},
              {"event": "return", "line": 1, "source": "\x1b[2J\n", "value": value}]  # fmt: skip
    text = printed(print_trace, frames, frames)
    assert all(char.isprintable() for char in text.replace("\n", ""))
    assert len(text.split("\n")) == 4 and "[red]x" in text


def test_results_are_a_table():
    score = {"exact": 0.9312, "frames_exact": 0.99999, "n": 300}
    results = {"new_inputs": score, "composed": {**score, "exact": 1}, "strawberry": {"exact": True},
               "minutes": {"train": 13.25, "total": 14.8}, "parameters": 412_345, "tokens": 12_345_678}  # fmt: skip
    text = printed(print_results, results)
    assert "new inputs" in text and "93.1 %" in text and "99.9 %" in text and "100 %" in text
    assert "✓ strawberry" in text and "412 k parameters, 12.3 M tokens, train 13.2 min, total 14.8 min" in text
    assert printed(print_results, {}) == ""
    assert "✗ strawberry" in printed(print_results, {"strawberry": {"exact": False}})
