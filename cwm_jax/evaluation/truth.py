"""What evaluation needs of traces besides predictions: where a program starts, and what it really does."""

from functools import lru_cache

from cwm_jax.tracing import Frame, Isolation, Trace, record_many
from cwm_jax.tracing.language import marked_line, source_lines


def starting_frame(context: str) -> Frame:
    """The call frame of a marked function without parameters."""
    number = marked_line(context)
    return Frame("call", source_lines(context)[number - 1], locals=(), line=number)


@lru_cache(maxsize=2)
def true_traces(contexts: tuple[str, ...], isolation: Isolation) -> list[Trace]:
    """What the programs really do; the last answers are kept, as several modes ask for them."""
    return list(record_many(contexts, isolation=isolation, together=True))
