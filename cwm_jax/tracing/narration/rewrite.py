"""Narrations in a language model's own words, kept where their final value is still that of the trace."""

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

from cwm_jax.text.special_tokens import CWM_IDS
from cwm_jax.tracing.narration.wording import final_of, final_value
from cwm_jax.tracing.trace import Trace

_TASK = """\
You are given a Python program and an exact, step-by-step account of one run of it. Tell the run again in fluent
English, as an expert would explain it. State no fact that the account does not give. Leave out or shorten what is dull,
such as repeated passes of a loop; say what a step is for where the code shows it. Answer with the retelling alone.
Its last line must be the last line of the account, character for character."""
_PASSING = {408, 409, 425, 429, 500, 502, 503, 504}  # statuses after which the same request may succeed
_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


@dataclass(frozen=True)
class Rewrite:
    """A narration and where its words come from.

    Attributes:
      text: the model's answer if it was kept, else the narration by rules.
      fate: `kept`; or why it was not: `disagrees`, `control_token`, `timeout`, `unreachable`, `malformed`, `http_N`.
    """

    text: str
    fate: str


@dataclass(frozen=True)
class Rewriter:
    """Has an endpoint that speaks OpenAI's chat completions rewrite narrations. Holds no state: threads may share one.

    Attributes:
      model: its name at the endpoint (the paper, §2.2: Qwen3-32B without thinking).
      base_url: the endpoint, up to and with `/v1`.
      key_variable: the environment variable with the API key; none is sent where it is not set.
      timeout_seconds: how long the endpoint may be silent; our choice, a long answer of a 32 B model.
      retries: further attempts after a failure that may pass.
      pause_seconds: before the first of them; it doubles with each. Our choice, as the public clients do it.
    """

    model: str = "Qwen/Qwen3-32B"
    base_url: str = "http://localhost:8000/v1"
    key_variable: str = "OPENAI_API_KEY"
    timeout_seconds: float = 120.0
    retries: int = 2
    pause_seconds: float = 1.0

    def __post_init__(self):
        if not re.match(r"https?://.", self.base_url):
            raise ValueError(
                f"base_url={self.base_url!r} is no web address; write one such as http://localhost:8000/v1"
            )
        if self.timeout_seconds <= 0 or self.retries < 0 or self.pause_seconds < 0:
            raise ValueError(
                f"timeout_seconds={self.timeout_seconds} must be above 0, "
                f"retries={self.retries} and pause_seconds={self.pause_seconds} at least 0"
            )

    def rewrite(self, trace: Trace, narration: str) -> Rewrite:
        """`narration` of `trace` in the model's words; as it is, and no error, where the endpoint fails."""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(self.pause_seconds * 2 ** (attempt - 1))
            try:
                answer = self._ask(trace, narration)
            except (OSError, http.client.HTTPException) as error:
                fate, passing = _failure(error)
                if passing:
                    continue
            except (ValueError, LookupError, TypeError, AttributeError):
                fate = "malformed"
            else:
                fate = _judge(trace, answer)
                if fate == "kept":
                    return Rewrite(answer, fate)
            break
        return Rewrite(narration, fate)

    def _ask(self, trace: Trace, narration: str) -> str:
        told = f"The program:\n\n{trace.context}\n\nThe account:\n\n{narration}"
        messages = [{"role": "system", "content": _TASK}, {"role": "user", "content": told}]
        body = json.dumps({"model": self.model, "messages": messages}).encode()
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.key_variable):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.base_url.rstrip('/')}/chat/completions", body, headers)
        with urllib.request.urlopen(request, timeout=self.timeout_seconds) as response:
            answer = json.loads(response.read())["choices"][0]["message"]["content"]
        return _THOUGHTS.sub("", answer).strip() + "\n"


def _judge(trace: Trace, answer: str) -> str:
    if any(token in answer for token in CWM_IDS):
        return "control_token"
    return "kept" if final_value(answer) == final_of(trace) else "disagrees"


def _failure(error: Exception) -> tuple[str, bool]:
    """The name of what went wrong on the way to the endpoint, and whether it may pass."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return f"http_{error.code}", error.code in _PASSING
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return ("timeout" if isinstance(cause, TimeoutError) else "unreachable"), True
