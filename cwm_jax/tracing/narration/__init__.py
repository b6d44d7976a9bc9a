"""Narration: what a trace says, in plain English.

Rendered by rules, so that every statement follows from the frames; a language model may then rewrite it, and its
words are kept where their final value is still that of the trace (CWM paper §2.2 had Qwen3-32B do that).
"""

from cwm_jax.tracing.narration.narrator import narrate
from cwm_jax.tracing.narration.rewrite import Rewrite, Rewriter
from cwm_jax.tracing.narration.wording import Final, final_of, final_value

__all__ = ["Final", "Rewrite", "Rewriter", "final_of", "final_value", "narrate"]
