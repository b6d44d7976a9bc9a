"""The recorder and the trace language: what a program does, frame by frame, as text and back."""

from cwm_jax.sandbox import Isolation
from cwm_jax.tracing.language import parse, render, resolve
from cwm_jax.tracing.recorder import Job, Limits, record, record_many
from cwm_jax.tracing.trace import Frame, Trace

__all__ = ["Frame", "Isolation", "Job", "Limits", "Trace", "parse", "record", "record_many", "render", "resolve"]
