"""The recorder and the trace language: what a program does, frame by frame, as text and back."""

from cwm_jax.sandbox import Isolation
from cwm_jax.tracing.hidden import Hidden
from cwm_jax.tracing.language import parse, render, resolve
from cwm_jax.tracing.recorder import Job, Limits, Recorder, record, record_many
from cwm_jax.tracing.store import read_traces
from cwm_jax.tracing.trace import Frame, Trace

__all__ = ["Frame", "Hidden", "Isolation", "Job", "Limits", "Recorder", "Trace", "parse", "read_traces"]
__all__ += ["record", "record_many", "render", "resolve"]
