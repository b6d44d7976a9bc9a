"""Which form a model reads and writes traces in: its vocabulary tells."""

from cwm_jax.text.vocabulary import Vocabulary
from cwm_jax.tracing.compact import Compact
from cwm_jax.tracing.cwm_text import CwmText
from cwm_jax.worldmodel.models.model import Form


def form_of(vocabulary: Vocabulary | None) -> Form:
    """The compact form where the vocabulary has all of its symbols, else CWM's text."""
    spells = vocabulary is not None and set(Compact.control_symbols) <= set(vocabulary.control_tokens)
    return Compact() if spells else CwmText()
