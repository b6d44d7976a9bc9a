"""A predictor that is right about what-ifs: it has run the program for many inputs, and one of the runs fits."""

from dataclasses import replace

from cwm_jax.sandbox import Isolation
from cwm_jax.tracing import Frame, record_many
from cwm_jax.tracing.language import source_lines
from cwm_jax.worldmodel.real import RealRun, paired


class Variants(RealRun):
    """Real runs of contexts that differ in one line; frames show the source of the first."""

    what_if = True

    def __init__(self, contexts):
        super().__init__(Isolation.LIMITS_ONLY)
        lines = source_lines(contexts[0])
        self.traces = []
        for trace in record_many(contexts, isolation=Isolation.LIMITS_ONLY):
            frames = tuple(Frame(f.event, lines[f.line - 1], f.locals, f.value, f.line) for f in trace.frames)
            self.traces.append(replace(trace, frames=frames))
        self._chosen = self.traces[0]

    def trace(self, context):
        return self._chosen

    def futures(self, context, frames, **asked):
        fitting = (trace for trace in self.traces if len(paired(trace.frames, frames).places) == len(frames))
        self._chosen = next(fitting, self.traces[0])
        return super().futures(context, frames, **asked)
