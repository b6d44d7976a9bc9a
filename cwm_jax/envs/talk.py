"""Conversations of a user and an agent that reasons, in tokens: what the agent said is never encoded again."""

from collections.abc import Sequence

from cwm_jax.text.chat import ChatFormat, Message
from cwm_jax.text.special_tokens import END_OF_TURN, STOP_TOKENS
from cwm_jax.text.vocabulary import Vocabulary


class Talk:
    """What an environment of messages needs of a vocabulary.

    Attributes:
      stop_ids: tokens that end an answer.
      vocab_size: ids are below it.

    Raises:
      ValueError: there is no vocabulary, or it has no tokens for turns.
    """

    def __init__(self, vocabulary: Vocabulary | None):
        if vocabulary is None:
            raise ValueError("an environment of conversations needs the vocabulary of a model, and there is none")
        self._chat, self._decode = ChatFormat(vocabulary), vocabulary.decode
        self._turn = vocabulary.token_id(END_OF_TURN)
        self.stop_ids = tuple(vocabulary.token_id(stop) for stop in STOP_TOKENS if stop in vocabulary.control_tokens)
        self.vocab_size = vocabulary.vocab_size

    def prompt(self, text: str) -> tuple[int, ...]:
        """Ids from the beginning, through what the user asks, to the first of the agent's reasoning."""
        return tuple(self._chat.prompt([Message("user", text)]))

    def text(self, action: Sequence[int]) -> str:
        """What the agent said, without the token that ended it."""
        return self._decode(action[:-1] if action and action[-1] in self.stop_ids else action)

    def reply(self, action: Sequence[int], text: str) -> tuple[int, ...]:
        """Ids that follow an action: its end, where it was cut, the user's next message, and the start of reasoning."""
        prompt = self.prompt(text)
        message = prompt[prompt.index(self._turn) + 1 :]  # after the system's
        return message if action and action[-1] == self._turn else (self._turn, *message)
