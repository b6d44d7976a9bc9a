"""The bodies of requests: OpenAI's fields, and vLLM's names for what OpenAI has not.

What this server has no way to do is a field that takes its neutral value alone, so that nobody is misled; fields that
OpenAI has for its own accounts are taken and not looked at.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cwm_jax.text.chat import TOOL_NAME

Count = Annotated[int, Field(ge=1)]
Ids = Annotated[list[int], Field(fail_fast=True)]
Stop = Annotated[str, Field(min_length=1, max_length=1024)]
Name = Annotated[str, Field(pattern=f"^{TOOL_NAME.pattern}$")]


def _only(*neutral: Any) -> Any:
    """The annotation of a field that this server does not serve: it may have these values, which ask for nothing."""

    def check(value: Any) -> Any:
        if value is not None and (value not in neutral or isinstance(value, bool) is not isinstance(neutral[0], bool)):
            allowed = f", or send {' or '.join(map(repr, neutral))}" if neutral else ""
            raise ValueError(f"this server cannot do that; leave it out{allowed}")
        return value

    return Annotated[Any, AfterValidator(check)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(_Body):
    """OpenAI's `stream_options`."""

    include_usage: bool = False
    include_obfuscation: bool = False
    continuous_usage_stats: _only(False) = None


class Sampling(_Body):
    """What completions and conversations have in common.

    Attributes, besides OpenAI's:
      stop_token_ids: ids that end an answer, beside those that the model ends with.
      ignore_eos: whether the model's own do not.
      skip_special_tokens: whether text leaves control tokens out.
      return_token_ids: whether ids come beside text.
      return_tokens_as_token_ids: whether log-probabilities name tokens `token_id:ID`.
      prompt_logprobs: each token of the prompt with its log-probability and rank, and so many of the likeliest.
    """

    model: str | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    n: Count | None = 1
    seed: int | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    stop_token_ids: Ids | None = None
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    return_token_ids: bool | None = False
    return_tokens_as_token_ids: bool | None = False
    prompt_logprobs: Annotated[int, Field(ge=0)] | None = None
    frequency_penalty: _only(0) = None
    presence_penalty: _only(0) = None
    logit_bias: _only({}) = None
    top_k: _only(-1, 0) = None
    min_p: _only(0) = None
    min_tokens: _only(0) = None
    repetition_penalty: _only(1) = None
    add_special_tokens: _only(False) = None
    user: str | None = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class CompletionBody(Sampling):
    """`POST /v1/completions`: a prompt, or several, each a text or a list of token ids."""

    prompt: str | Ids | list[str] | list[Ids]
    max_tokens: Annotated[int, Field(ge=0)] | None = 16
    echo: bool | None = False
    logprobs: Annotated[int, Field(ge=0)] | None = None
    best_of: _only(1) = None
    suffix: _only("") = None

    @property
    def prompts(self) -> list[str] | list[Ids]:
        """All of them; none where the list is empty."""
        alone = isinstance(self.prompt, str) or (self.prompt and isinstance(self.prompt[0], int))
        return [self.prompt] if alone else self.prompt


class Part(_Body):
    """A piece of a message's content; this model reads text alone."""

    type: Literal["text"]
    text: str


class FunctionCall(_Body):
    """What a tool call says."""

    name: Name
    arguments: str


class ToolCall(_Body):
    """A call that an earlier answer made."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall
    index: int | None = None


class MessageBody(_Body):
    """A message; `reasoning_content` (vLLM: also `reasoning`) is what an assistant thought before it spoke."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: Name | None = None
    refusal: _only() = None
    annotations: Any = None
    audio: _only() = None
    function_call: _only() = None

    @property
    def text(self) -> str:
        """Its content."""
        return "".join(part.text for part in self.content) if isinstance(self.content, list) else self.content or ""


class FunctionBody(_Body):
    """A function that may be called; that arguments keep to a `strict` schema is the model's word alone."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolBody(_Body):
    """A tool."""

    type: Literal["function"]
    function: FunctionBody


class FunctionName(_Body):
    """Names a function."""

    name: str


class ToolChoice(_Body):
    """The tool that must be called."""

    type: Literal["function"]
    function: FunctionName


class Reasoning(_Body):
    """The reference server's switch."""

    enabled: bool


class TemplateArguments(_Body):
    """The arguments of the release's chat template."""

    enable_thinking: bool = True
    preserve_previous_think: bool = True


class ResponseFormat(_Body):
    """Text is all that is promised."""

    type: Literal["text"]


class ChatBody(Sampling):
    """`POST /v1/chat/completions`.

    Reasoning is on unless one of `reasoning.enabled`, `chat_template_kwargs.enable_thinking` or `reasoning_effort`
    (`none`) turns it off, as in the release's template, or nobody asked for it and the answer must begin with a call.
    """

    messages: Annotated[list[MessageBody], Field(min_length=1)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(ge=0)] | None = None
    tools: list[ToolBody] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    chat_template_kwargs: TemplateArguments | None = None
    response_format: ResponseFormat | None = None

    @property
    def thinking(self) -> bool:
        """Whether the answer begins with reasoning."""
        switches = (
            self.reasoning is None or self.reasoning.enabled,
            self.chat_template_kwargs is None or self.chat_template_kwargs.enable_thinking,
            self.reasoning_effort != "none",
        )
        asked = self.reasoning or self.chat_template_kwargs or self.reasoning_effort
        return all(switches) and bool(asked or self.tool_choice in (None, "none", "auto"))

    @property
    def keep_reasoning(self) -> bool:
        """Whether the reasoning of earlier answers stays in the prompt."""
        return self.chat_template_kwargs is None or self.chat_template_kwargs.preserve_previous_think
