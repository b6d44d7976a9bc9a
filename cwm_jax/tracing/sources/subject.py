"""`Subject`: a function that somebody may call, and the contexts that trace such calls."""

from dataclasses import dataclass
from random import Random

from cwm_jax.tracing.sources.inputs import mutated
from cwm_jax.tracing.wrap import wrap_call


@dataclass(frozen=True)
class Subject:
    """A function that can be called: its context but for the call.

    Attributes:
      origin: where it is from, such as `textwrap.py:dedent`.
      code: the definitions that it needs, itself included.
      own: its own definition.
      call: text of the call, with `{made}` for the arguments of the class and then `{arguments}` for its own.
      names: parameters of the function, then those of its class, the latter with a leading dot.
      start: name of the marked function that makes the call.
      awaited: whether the call gives a coroutine.
      inputs: arguments by parameter, or the whole argument list under "" where a doctest gave it.
    """

    origin: str
    code: str
    own: str
    call: str
    names: tuple[str, ...]
    start: str
    awaited: bool
    inputs: tuple[dict[str, str], ...]

    def context(self, arguments: dict[str, str]) -> str:
        """The context that traces one call."""
        given = [name for name in self.names if name in arguments]
        own = arguments.get("", ", ".join(_spelled(name, arguments) for name in given if name[0] != "."))
        made = ", ".join(_spelled(name, arguments) for name in given if name[0] == ".")
        before, _, after = self.call.partition("{arguments}")
        call = before.replace("{made}", made) + (own + after if "{arguments}" in self.call else "")
        return wrap_call(self.code, call, start=self.start, awaited=self.awaited)

    def mutant(self, arguments: dict[str, str], rng: Random) -> dict[str, str] | None:
        """Arguments near those that were found good; None where none are known by name."""
        names = [name for name in self.names if name in arguments]
        if not names:
            return None
        name = rng.choice(names)
        return arguments | {name: mutated(arguments[name], rng)}


def _spelled(name: str, arguments: dict[str, str]) -> str:
    return f"{name.lstrip('.*')}={arguments[name]}" if name.lstrip(".").startswith("*") else arguments[name]
