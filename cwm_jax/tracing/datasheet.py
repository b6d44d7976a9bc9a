"""The datasheet of a corpus of traces: what is in it, what was left out and why, and how it looks."""

from collections import Counter
from pathlib import Path

from cwm_jax.files import write_json
from cwm_jax.report.page import Page, heading, key_figures, prose, table
from cwm_jax.report.traces import trace_browser
from cwm_jax.tracing.store import DATASHEET, Stored
from cwm_jax.tracing.tasks import TaskRun
from cwm_jax.tracing.trace import frame_as_json

_SAMPLE_EVERY, _MOST_SAMPLES = 499, 24
_MOST_ROWS = 25


class Tally:
    """Counts what goes into a corpus.

    Args:
      sources: where the programs are from.
      dropped: runs and functions that were left out before, by reason.
    """

    def __init__(self, sources: list[str], dropped: Counter):
        self._sources, self.dropped = sources, dropped
        self._kinds, self._verdicts, self._lengths, self._files = Counter(), Counter(), Counter(), Counter()
        self._frames = self._tokens = 0
        self._programs: set[str] = set()
        self._pythons: set[str] = set()
        self.samples: list[dict] = []

    def add(self, stored: Stored, tokens: int) -> None:
        """Enters one trace, of so many tokens."""
        trace = stored.trace
        if sum(self._kinds.values()) % _SAMPLE_EVERY == 0 and len(self.samples) < _MOST_SAMPLES:
            shown = trace.trace(0) if isinstance(trace, TaskRun) else trace  # of several tasks, the main one
            frames = [frame_as_json(frame) for frame in shown.frames]
            self.samples.append({"set": stored.kind, "name": stored.origin, "context": shown.context, "actual": frames})
        self._kinds[stored.kind] += 1
        self._verdicts[trace.verdict] += 1
        self._lengths[1 << (len(trace.frames) - 1).bit_length()] += 1
        self._files[stored.origin.partition(":")[0]] += 1
        self._frames += len(trace.frames)
        self._tokens += tokens
        self._programs.add(stored.program)
        self._pythons.add(trace.python)

    def datasheet(self, seconds: float) -> dict:
        """What `datasheet.json` holds; `seconds` is the work of all workers."""
        traces = self._kinds["trace"] + self._kinds["tasks"]
        speed = sum(self._kinds.values()) / max(seconds, 1e-9)
        return {
            "traces": traces,
            "episodes": sum(self._kinds.values()) - traces,
            "kinds": dict(self._kinds.most_common()),
            "programs": len(self._programs),
            "frames": self._frames,
            "tokens": self._tokens,
            "dropped": dict(self.dropped.most_common()),
            "minutes": seconds / 60,
            "traces_per_core_second": speed,
            "core_hours_for_200_million": 200e6 / speed / 3600,  # as many as CWM was trained on
            "sources": self._sources,
            "python": ", ".join(sorted(self._pythons)),
            "verdicts": dict(self._verdicts.most_common()),
            "frames_at_most": {str(length): self._lengths[length] for length in sorted(self._lengths)},
            "files": dict(self._files.most_common(_MOST_ROWS)),
        }


def write_datasheet(tally: Tally, records: dict[str, int], seconds: float, folder: Path) -> dict:
    """Writes the page, then `datasheet.json`, which says that the folder is whole; returns what that holds.

    Args:
      tally: what was counted.
      records: in each file.
      seconds: work of all workers.
      folder: of the traces.
    """
    sheet = tally.datasheet(seconds) | {"records": records}
    datasheet_page(sheet, tally.samples).write(folder / "datasheet.html")
    write_json(folder / DATASHEET, sheet)
    return sheet


def datasheet_page(sheet: dict, samples: list[dict]) -> Page:
    """The datasheet as a page, with samples to step through."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sheet["kinds"].items() if kind != "trace")
    hours = f"{sheet['core_hours_for_200_million']:,.0f} core hours for 200 million"
    speed = f"{sheet['traces_per_core_second']:.1f} traces a second and core; {hours}"
    page = Page("Datasheet of recorded traces", f"From {', '.join(sheet['sources'])}, run on Python {sheet['python']}.")
    page.add(
        key_figures(
            [
                ("traces", f"{sheet['traces']:,}", ""),
                ("episodes", f"{sheet['episodes']:,}", kinds),
                ("programs", f"{sheet['programs']:,}", "inputs not counted"),
                ("frames", f"{sheet['frames']:,}", ""),
                ("tokens", f"{sheet['tokens']:,}", "of the vocabulary beside them"),
                ("work", f"{sheet['minutes']:,.1f} min", speed),
            ]
        ),
        heading("What was left out"),
        prose("Functions that cannot stand by themselves, and runs that are no use; each is counted once."),
        table(["reason", "count"], [[reason, f"{count:,}"] for reason, count in sheet["dropped"].items()]),
        heading("Lengths"),
        table(["frames, at most", "traces"], [[most, f"{count:,}"] for most, count in sheet["frames_at_most"].items()]),
        heading("How traces end"),
        table(["verdict", "traces"], [[verdict, f"{count:,}"] for verdict, count in sheet["verdicts"].items()]),
        heading("Files with the most traces"),
        table(["file", "traces"], [[name, f"{count:,}"] for name, count in sheet["files"].items()]),
    )
    return page.add(heading("Samples"), trace_browser(samples)) if samples else page
