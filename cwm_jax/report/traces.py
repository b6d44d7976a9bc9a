"""Traces to browse: the program, its frames predicted and real side by side, the state at each.

The frames of many traces of one page are mostly the same ones, so a page holds each
different frame once and traces as numbers into that list; two frames are equal exactly
when their numbers are. The browser draws only the trace that is looked at.
"""

import json

from cwm_jax.report.frames import content
from cwm_jax.report.page import Block, Page, escape

_ASSETS = ("traces.css", "frames.js", "traces.js")

_CHOOSER = """
<div class="chooser">
 <label>Test set <select data-role="set"></select></label>
 <label>Traces <select data-role="kind"></select></label>
 <label>Length <select data-role="length"></select></label>
 <div class="wide">Program <span><button type="button" data-role="earlier" aria-label="Previous program">‹</button>
  <select data-role="item" aria-label="Program"></select>
  <button type="button" data-role="later" aria-label="Next program">›</button></span></div>
</div>"""

_DEBUGGER = """
<p class="verdict" data-role="verdict" aria-live="polite"></p>
<div class="steps">
 <button type="button" data-role="first" aria-label="First frame" title="First frame (Home)">«</button>
 <button type="button" data-role="back" aria-label="Step back" title="Step back (←)">‹</button>
 <button type="button" data-role="step" aria-label="Step" title="Step (→)">›</button>
 <button type="button" data-role="last" aria-label="Last frame" title="Last frame (End)">»</button>
 <span class="tape"><span class="strip" data-role="strip"></span>
  <input type="range" min="0" value="0" data-role="slider" aria-label="Frame"></span>
 <span class="position" data-role="position" aria-live="polite"></span>
 <button type="button" class="mismatch" data-role="mismatch" title="First mismatch (m)">First mismatch</button>
</div>
<div class="panes">
 <div class="left">
  <h4>Program</h4><div class="source" data-role="source" tabindex="0" role="region" aria-label="Program"></div>
  <h4 data-role="state-title">State</h4><div class="state" data-role="state" aria-live="polite"></div>
 </div>
 <div class="right">
  <div class="head" aria-hidden="true" data-role="head"></div>
  <div class="rows" data-role="rows" tabindex="0" role="listbox" aria-label="Frames"></div>
 </div>
</div>
<p class="keys"><kbd>←</kbd> <kbd>→</kbd> step, <kbd>Home</kbd> <kbd>End</kbd> jump, <kbd>m</kbd> first mismatch</p>
<noscript><p>Browsing traces needs JavaScript; nothing leaves this page.</p></noscript>"""


def trace_browser(items: list[dict], anchor: str = "trace") -> Block:
    """Traces to choose from and step through, predicted against real.

    Args:
      items: dicts with `set`, `name`, `context` (the source text), `exact` and the frame lists
        `predicted` and `actual` (see `report.frames`); without `predicted` only the real run is shown.
      anchor: item number i answers to the link `#ANCHOR-i`.

    Raises:
      ValueError: `items` is empty.
    """
    if not items:
        raise ValueError("items: a trace browser needs at least one trace; leave it out where there is none")
    numbers: dict[str, int] = {}

    def number(frame: dict) -> int:
        return numbers.setdefault(json.dumps(content(frame)), len(numbers))

    compact = [
        {
            "set": item["set"],
            "name": item["name"],
            "context": item["context"],
            "exact": item.get("exact"),
            "actual": [number(frame) for frame in item["actual"]],
            "lines": [frame.get("line") for frame in item["actual"]],
            "predicted": None if item.get("predicted") is None else [number(frame) for frame in item["predicted"]],
        }
        for item in items
    ]
    data = json.dumps({"items": compact, "frames": [json.loads(frame) for frame in numbers]}, separators=(",", ":"))
    # "<" never stands in the data as such, so that no value can end the script tag
    script = f'<script type="application/json">{data.replace("<", chr(92) + "u003c")}</script>'
    return Block(
        f'<section class="traces" data-anchor="{escape(anchor)}" aria-label="Trace browser">{script}'
        f"{_CHOOSER if len(items) > 1 else ''}{_DEBUGGER}</section>",
        _ASSETS,
    )


def trace_page(
    title: str,
    context: str,
    frames: list[dict],
    verdict: str,
    reason: str,
    predicted: list[dict] | None = None,
) -> str:
    """One trace as a self-contained HTML document.

    Args:
      title: what was traced, such as `strawberry.py:count_letters`.
      context: its source text.
      frames: the real run.
      verdict: how that run ended (`returned`, `raised`, or the cap or fault).
      reason: one sentence why; may be empty.
      predicted: what the model said, shown against the real run.
    """
    item = {"set": "", "name": "", "context": context, "actual": frames, "predicted": predicted}
    lead = (
        f"The run {verdict} after {len(frames):,} frames."
        if verdict in ("returned", "raised")
        else (f"The run was cut short ({verdict}) after {len(frames):,} frames.")
    )
    return Page(title, f"{lead} {reason}").add(trace_browser([item])).html()
