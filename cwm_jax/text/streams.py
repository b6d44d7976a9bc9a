"""Text as it grows: ids spelled one by one, and the strings that end it."""

import codecs
from collections.abc import Collection, Iterable

from cwm_jax.text.vocabulary import Vocabulary


class Speller:
    """Spells ids as they come: the pieces joined are `vocabulary.decode` of all of them, none ends within a character.

    Args:
      vocabulary: of the ids.
      hidden: ids that spell nothing here.
    """

    def __init__(self, vocabulary: Vocabulary, hidden: Collection[int] = ()):
        self._vocabulary, self._hidden = vocabulary, hidden
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __call__(self, ids: Iterable[int]) -> str:
        """What can be said of the text after these ids too."""
        seen = [token for token in ids if token not in self._hidden]
        return self._decoder.decode(self._vocabulary.decode_bytes(seen))

    def end(self) -> str:
        """The rest: U+FFFD if the last character is not whole."""
        return self._decoder.decode(b"", final=True)


class StopStrings:
    """Lets text through up to the stop string that is whole first; what may become one waits.

    Where the text is cut does not depend on the pieces it comes in.

    Args:
      stops: the strings, none of them empty.

    Attributes:
      found: the one that ended the text.
    """

    def __init__(self, stops: Collection[str] = ()):
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None

    def __call__(self, text: str) -> str:
        """What is sure to stand before any stop string."""
        if self.found is not None:
            return ""
        self._held += text
        ends = [(at + len(stop), at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if ends:
            _, at, self.found = min(ends)
            return self._held[:at]
        return self._let_go(len(self._held) - partial(self._held, self._stops))

    def end(self) -> str:
        """The rest: it was no stop string."""
        return "" if self.found is not None else self._let_go(len(self._held))

    def _let_go(self, count: int) -> str:
        free, self._held = self._held[:count], self._held[count:]
        return free


def partial(text: str, markers: Collection[str]) -> int:
    """Length of the longest end of `text` with which one of `markers` begins; a whole one does not count."""
    longest = min(len(text), max(map(len, markers), default=1) - 1)
    return next(
        (size for size in range(longest, 0, -1) if any(m.startswith(text[-size:]) and len(m) > size for m in markers)),
        0,
    )
