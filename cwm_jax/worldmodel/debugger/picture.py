"""A session as a piece of HTML, in the looks of the trace browser: for notebooks, where no other page is around it."""

from collections import defaultdict
from functools import cache

from pygments import lex, token
from pygments.lexers import PythonLexer

from cwm_jax.report.figures import percent
from cwm_jax.report.page import ASSETS, escape
from cwm_jax.tracing import Frame
from cwm_jax.tracing.trace import UNCHANGED
from cwm_jax.worldmodel.debugger.outcomes import Parting
from cwm_jax.worldmodel.debugger.session import Session
from cwm_jax.worldmodel.predictors import Predicted

_SHOWN = 200  # frames; earlier ones are counted
_KINDS = {token.Comment: "comment", token.String: "string", token.Keyword: "keyword", token.Number: "number"}


def picture(session: Session, parting: Parting | None = None) -> str:
    """Program, state and frames so far.

    Args:
      session: what is shown; it is not moved.
      parting: what `verify` found, to mark it.
    """
    return (
        f'<div class="cwm-debugger"><style>{_style()}</style><section class="traces alone">{_verdict(parting)}'
        f'<div class="panes"><div class="left"><h4>Program</h4><div class="source">{_program(session)}</div>'
        f"<h4>State at frame {len(session.frames)}</h4>"
        f'<div class="state">{_state(session)}</div></div>'
        f'<div class="right"><h4>Frames</h4><div class="rows"><div>{_rows(session, parting)}</div></div></div></div>'
        "</section></div>"
    )


@cache
def _style() -> str:
    """The trace browser's style, for this piece of a page alone."""
    colours, _, _ = (ASSETS / "page.css").read_text().partition("* { box-sizing")
    rules = "".join((ASSETS / name).read_text() for name in ("traces.css", "debugger.css"))
    own = "* { box-sizing: border-box; } code { font-family: var(--mono); font-size: .86em; } "
    own += "color: var(--ink); font: .95rem/1.5 var(--sans);"
    return f"{colours.replace(':root', '.cwm-debugger')} .cwm-debugger {{ {own} {rules} }}"


def _verdict(parting: Parting | None) -> str:
    if parting is None:
        return ""
    if parting.index is None:
        told, kind = f"✓ all {parting.frames} frames are those of the real run; {parting.run}", "good"
    else:
        told, kind = f"✗ frame {parting.index + 1} parts from the real run; {parting.run}", "bad"
    return f'<p class="verdict"><span class="{kind}">{escape(told)}</span></p>'


def _program(session: Session) -> str:
    lines = "".join(session.program.lines).rstrip("\n").split("\n")
    painted: dict[int, list[str]] = defaultdict(list)
    number = 0
    for kind, text in lex("\n".join(lines), PythonLexer(stripnl=False)):
        colour = next((name for group, name in _KINDS.items() if kind in group), "")
        for index, part in enumerate(text.split("\n")):
            number += index > 0
            painted[number].append(f'<span class="py-{colour}">{escape(part)}</span>' if colour else escape(part))
    marks = {session.at.line: "current"}
    return "".join(
        f'<div class="{marks.get(index + 1, "")}"><code>{"".join(painted[index]) or " "}</code></div>'
        for index in range(len(lines))
    )


def _state(session: Session) -> str:
    state, sure = session.state(), session.sure() if session.predictor.what_if else {}
    if not state:
        return "<p>no locals</p>"
    fresh = dict(session.frames[-1].values)
    head = f"<tr><th>name</th><th>value</th>{'<th>sure</th>' if sure else ''}</tr>"
    rows = "".join(
        f'<tr><th><code>{escape(name)}</code></th><td class="{"fresh" if name in fresh or "" in fresh else ""}">'
        f"<code>{escape(value)}</code></td>{_sure(sure.get(name)) if sure else ''}</tr>"
        for name, value in state.items()
    )
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _sure(share: float | None) -> str:
    if share is None:
        return "<td></td>"
    return f'<td><span class="sure" style="--share: {100 * share:.1f}%">{percent(share)}</span></td>'


def _rows(session: Session, parting: Parting | None) -> str:
    frames = session.frames
    first = max(0, len(frames) - _SHOWN)
    wrong = parting.index if parting else None
    earlier = f'<div class="more">… {first} earlier frames</div>' if first else ""
    rows = [_row(index, frames[index], index == len(frames) - 1, index == wrong) for index in range(first, len(frames))]
    if wrong is not None and wrong >= first:
        real = "<em>the run had ended</em>" if parting.real is None else _cell(parting.real)
        rows[wrong - first] += (
            f'<div class="row"><span class="number">real</span><span></span><span class="cell real">{real}</span></div>'
        )
    return earlier + "".join(rows)


def _row(index: int, shown: Predicted, current: bool, wrong: bool) -> str:
    kinds = (
        f"row{' changed' if shown.changed else ''}{' asked' if shown.asked else ''}{' first-wrong' if wrong else ''}"
    )
    return (
        f'<div class="{kinds}" aria-selected="{"true" if current else "false"}">'
        f'<span class="number">{index + 1}</span><span></span><span class="cell">{_cell(shown.frame)}</span></div>'
    )


def _cell(frame: Frame) -> str:
    chips = [f"<b>{escape(name)}</b> = {escape(value)}" for name, value in frame.locals or () if value != UNCHANGED]
    if frame.value is not None:
        chips = [f"→ {escape(frame.value)}"]
    shown = "".join(f'<code class="chip">{chip}</code>' for chip in chips)
    source = f'<code class="text">{escape(frame.source.strip())}</code>'
    return f'<span class="event {frame.event}">{frame.event}</span>{source}{shown}'
