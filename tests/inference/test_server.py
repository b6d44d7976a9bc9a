"""The server as its clients meet it: a process, sockets, and the official client, held against the engine itself."""

import asyncio
from contextlib import nullcontext

import openai
import pytest
from served_models import MODEL, SHAPES, Server, one_device, vocabulary, weights, write_served

from cwm_jax.inference.engine import Engine
from cwm_jax.inference.request import Request
from cwm_jax.inference.served import Limits, Served
from cwm_jax.inference.server.bodies import ChatBody, CompletionBody
from cwm_jax.inference.server.completions import Completions
from cwm_jax.inference.server.conversations import Conversation
from cwm_jax.inference.server.errors import ApiError
from cwm_jax.inference.server.pieces import Piece, control_ids, own_ends
from cwm_jax.model.transformer import rebuilder
from cwm_jax.text.answers import AnswerParser, Said
from cwm_jax.text.chat import Call, ChatFormat, Message

VOCABULARY = vocabulary()
ENDS = own_ends(VOCABULARY)
CONTROL = control_ids(VOCABULARY)
TEXT = "def count(letters):\n    return "
IDS = tuple(VOCABULARY.encode(TEXT))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(write_served(tmp_path_factory.mktemp("served") / "tiny"), one_device())
    yield server
    server.process.kill()


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=300)


@pytest.fixture(scope="module")
def engine():
    return Engine(rebuilder(MODEL, VOCABULARY.vocab_size), weights(VOCABULARY.vocab_size), SHAPES)


def asked(prompt, tokens, **how):
    return Request(tuple(prompt), tokens, stop_ids=ENDS, **how)


def shown(ids):
    """What a client reads of these tokens."""
    return VOCABULARY.decode([token for token in ids if token not in CONTROL])


def chunks_of(client, **body):
    """Each choice of a stream, its chunks merged: text, finish reason, ids, log-probabilities."""
    merged = {}
    for chunk in client.completions.create(**body, stream=True, model="tiny"):
        for choice in chunk.choices:
            one = merged.setdefault(choice.index, {"text": "", "ids": [], "logprobs": [], "finish": None})
            assert one["finish"] is None, "something after the end"
            one["text"] += choice.text
            one["ids"] += getattr(choice, "token_ids", None) or []
            one["logprobs"] += choice.logprobs.token_logprobs if choice.logprobs else []
            one["finish"] = choice.finish_reason
    return [merged[index] for index in sorted(merged)]


@pytest.mark.parametrize(
    "how",
    [
        {"temperature": 0.0},
        {"temperature": 1.0, "seed": 7},
        {"temperature": 0.8, "top_p": 0.9, "seed": 2**40},
        {"temperature": 1.0, "seed": -1},
    ],
)
def test_a_completion_is_the_engine_s(how, client, engine):
    n = 1 if not how["temperature"] else 3
    requests = [asked(IDS, 20, **how | {"seed": (how.get("seed", 0) + index) % 2**64}) for index in range(n)]
    expected = list(engine.generate(requests))
    extra = {"return_token_ids": True}
    for prompt in (TEXT, list(IDS)):
        answer = client.completions.create(
            model="tiny", prompt=prompt, max_tokens=20, n=n, logprobs=2, extra_body=extra, **how
        )
        for choice, wanted in zip(answer.choices, expected, strict=True):
            assert choice.prompt_token_ids == list(IDS) and choice.token_ids == wanted.ids
            assert choice.text == shown(wanted.ids) and choice.finish_reason == wanted.finish
            assert choice.logprobs.token_logprobs == pytest.approx([token.logprob for token in wanted.tokens], abs=1e-4)
        made = sum(len(one.tokens) for one in expected)
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(IDS), made)
    streamed = chunks_of(client, prompt=TEXT, max_tokens=20, n=n, logprobs=2, extra_body=extra, **how)
    assert [one["text"] for one in streamed] == [choice.text for choice in answer.choices]
    assert [one["ids"] for one in streamed] == [choice.token_ids for choice in answer.choices]
    assert [one["logprobs"] for one in streamed] == [choice.logprobs.token_logprobs for choice in answer.choices]
    assert [one["finish"] for one in streamed] == [choice.finish_reason for choice in answer.choices]


def test_the_likeliest_tokens_stand_beside_each(client):
    answer = client.completions.create(model="tiny", prompt=TEXT, max_tokens=8, temperature=0, logprobs=3)
    for name, own, tops in zip(
        *(getattr(answer.choices[0].logprobs, f) for f in ("tokens", "token_logprobs", "top_logprobs"))
    ):
        assert tops[name] == own == max(tops.values())


def test_an_echo_scores_the_prompt(client, engine):
    wanted = next(engine.generate([asked(IDS, 0, prompt_logprobs=2)])).prompt_logprobs
    answer = client.completions.create(
        model="tiny", prompt=list(IDS), max_tokens=0, echo=True, logprobs=1, extra_body={"prompt_logprobs": 2}
    )
    (choice,) = answer.choices
    assert choice.text == TEXT and choice.logprobs.token_logprobs[0] is None
    assert choice.logprobs.token_logprobs[1:] == pytest.approx([one.logprob for one in wanted[1:]], abs=1e-4)
    for token, told, one in zip(IDS[1:], choice.prompt_logprobs[1:], wanted[1:]):
        assert told[str(token)]["rank"] == one.rank
        assert {int(i) for i, place in told.items() if place["rank"] <= 2} == {i for i, _ in one.top}
        assert len(told) == 2 + (one.rank > 2)
    for name, own, tops in list(
        zip(choice.logprobs.tokens, choice.logprobs.token_logprobs, choice.logprobs.top_logprobs)
    )[1:]:
        assert tops[name] == own <= max(tops.values()) and len(tops) <= 2
    assert [choice.prompt_logprobs[0]] + [
        one[str(i)]["logprob"] for i, one in zip(IDS[1:], choice.prompt_logprobs[1:])
    ] == (choice.logprobs.token_logprobs)
    places = [TEXT.index(name, at) for name, at in zip(choice.logprobs.tokens, choice.logprobs.text_offset)]
    assert places == choice.logprobs.text_offset


def test_an_answer_ends_before_a_stop_string_wherever_its_tokens_meet(client):
    how = {"model": "tiny", "prompt": TEXT, "max_tokens": 60, "seed": 3, "extra_body": {"ignore_eos": True}}
    whole = client.completions.create(**how).choices[0]
    assert len(whole.text) > 30
    for start, end in ((4, 5), (6, 12), (10, 14), (20, 29)):
        stop = whole.text[start:end]
        cut = client.completions.create(**how, stop=[stop, "never there"]).choices[0]
        assert (cut.text, cut.finish_reason, cut.stop_reason) == (whole.text.split(stop)[0], "stop", stop)
        (streamed,) = chunks_of(client, **{k: v for k, v in how.items() if k != "model"}, stop=stop)
        assert (streamed["text"], streamed["finish"]) == (cut.text, "stop")


def test_an_answer_ends_with_a_stop_token(client):
    how = {"model": "tiny", "prompt": TEXT, "max_tokens": 30, "seed": 11}
    extra = {"return_token_ids": True, "ignore_eos": True}
    ids = client.completions.create(**how, extra_body=extra).choices[0].token_ids
    stop = ids[9]
    cut = client.completions.create(**how, extra_body=extra | {"stop_token_ids": [stop]}).choices[0]
    assert cut.token_ids == ids[: ids.index(stop) + 1] and cut.text == shown(cut.token_ids[:-1])
    assert (cut.finish_reason, cut.stop_reason) == ("stop", stop)


def test_several_prompts_are_answered_in_order(client):
    prompts = ["a", "strawberry", "def"]
    alone = [client.completions.create(model="tiny", prompt=p, max_tokens=6, seed=1).choices[0].text for p in prompts]
    together = client.completions.create(model="tiny", prompt=prompts, max_tokens=6, seed=1)
    assert [choice.text for choice in together.choices] == alone
    assert [choice.index for choice in together.choices] == [0, 1, 2]


def test_text_never_holds_control_tokens(client):
    text = "".join(VOCABULARY.control_tokens)
    extra = {"return_token_ids": True}
    ids = (
        client.completions.create(model="tiny", prompt=text[:150], max_tokens=1, extra_body=extra)
        .choices[0]
        .prompt_token_ids
    )
    assert not CONTROL & set(ids) and VOCABULARY.decode(ids) == text[:150]
    given = [VOCABULARY.token_id("<|frame_sep|>"), *IDS]
    kept = client.completions.create(model="tiny", prompt=given, max_tokens=1, extra_body=extra).choices[0]
    assert kept.prompt_token_ids == given


CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 40}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    ("off", "thinking"),
    [
        ({}, True),
        ({"reasoning": {"enabled": False}}, False),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
    ],
)
def test_a_conversation_is_the_engine_s(off, thinking, client, engine):
    prompt = ChatFormat(VOCABULARY).prompt([Message("user", "hi")], thinking=thinking)
    wanted = next(engine.generate([asked(prompt, 40, temperature=1.0, seed=4)]))
    answer = client.chat.completions.create(**CHAT, seed=4, extra_body={"return_token_ids": True, **off}, logprobs=True)
    (choice,) = answer.choices
    assert answer.prompt_token_ids == prompt and choice.token_ids == wanted.ids
    said = choice.message.reasoning_content if thinking else choice.message.content
    assert said == shown(wanted.ids) and (choice.message.content == "") == thinking
    assert [token.logprob for token in choice.logprobs.content] == pytest.approx(
        [t.logprob for t in wanted.tokens], abs=1e-4
    )
    spelled = b"".join(bytes(token.bytes) for token in choice.logprobs.content)
    assert spelled == VOCABULARY.decode_bytes(wanted.ids)


def test_a_stream_of_a_conversation_says_the_same(client):
    for n, off in ((1, {}), (2, {"reasoning": {"enabled": False}})):
        whole = client.chat.completions.create(**CHAT, seed=8, n=n, extra_body=off)
        reasoning, content, finish, usage = [""] * n, [""] * n, [None] * n, None
        options = {"include_usage": True}
        for chunk in client.chat.completions.create(
            **CHAT, seed=8, n=n, extra_body=off, stream=True, stream_options=options
        ):
            usage = chunk.usage
            for choice in chunk.choices:
                reasoning[choice.index] += getattr(choice.delta, "reasoning_content", None) or ""
                content[choice.index] += choice.delta.content or ""
                finish[choice.index] = choice.finish_reason
        assert content == [choice.message.content for choice in whole.choices]
        assert reasoning == [choice.message.reasoning_content or "" for choice in whole.choices]
        assert finish == [choice.finish_reason for choice in whole.choices] and usage == whole.usage


def test_a_tool_that_must_be_called_is_begun(client):
    body = {**CHAT, "tools": [TOOL], "tool_choice": "required", "reasoning_effort": "none", "seed": 2}
    answer = client.chat.completions.create(**body, extra_body={"return_token_ids": True})
    assert VOCABULARY.decode(answer.prompt_token_ids).endswith("<tool: add>\n")
    parser = AnswerParser(False, ["add"], "<tool: add>\n")
    parts = [*parser(shown(answer.choices[0].token_ids)), *parser.end()]
    assert (answer.choices[0].message.content or "") == "".join(part.text for part in parts if isinstance(part, Said))
    calls = [Call(c.function.name, c.function.arguments) for c in answer.choices[0].message.tool_calls or []]
    assert calls == [part for part in parts if isinstance(part, Call)]


def test_64_clients_at_once_each_get_their_own(server, engine):
    requests = [asked([*IDS[: 1 + index % 9], index], 10, temperature=1.0, seed=index) for index in range(64)]

    async def all_of_them():
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=300
        ) as client:

            async def one(request):
                answer = await client.completions.create(
                    model="tiny", prompt=list(request.prompt), max_tokens=10, seed=request.seed,
                    extra_body={"return_token_ids": True},
                )  # fmt: skip
                return answer.choices[0].token_ids

            return await asyncio.gather(*map(one, requests))

    assert asyncio.run(all_of_them()) == [answer.ids for answer in engine.generate(requests)]


def test_models_health_and_metrics(client, server):
    (model,) = client.models.list().data
    assert (
        model.id == "tiny" and model.max_model_len == SHAPES.max_length and client.models.retrieve("tiny").id == "tiny"
    )
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt'"):
        client.completions.create(model="gpt", prompt="a")
    made = metric(client, "cwm_tokens_made_total")
    answer = client.completions.create(model="tiny", prompt="a", max_tokens=7, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 7 and metric(client, "cwm_tokens_made_total") == made + 7
    assert client.get(f"{server.url}/health", cast_to=object) == {"status": "ok"}


def metric(client, name: str) -> float:
    text = client.get(f"{client.base_url.join('/metrics')}", cast_to=str)
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


def test_a_conversation_needs_no_bound_on_its_answer(client):
    answer = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "a"}], seed=2, extra_body={"ignore_eos": True}
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens == SHAPES.max_length


def test_without_a_seed_equal_prompts_get_answers_of_their_own(client):
    how = {"model": "tiny", "max_tokens": 12, "temperature": 1.5, "extra_body": {"ignore_eos": True}}
    answer = client.completions.create(prompt=[TEXT] * 6, **how)
    assert len({choice.text for choice in answer.choices}) > 1
    seeded = client.completions.create(prompt=[TEXT] * 2, seed=4, **how)
    assert seeded.choices[0].text == seeded.choices[1].text


def test_a_tool_that_must_be_called_turns_reasoning_off_and_one_call_can_be_all(client):
    tool = {"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": {"required": True}}}}}
    tool["function"]["strict"] = True
    answer = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "a"}], tools=[tool], tool_choice="required",
        parallel_tool_calls=False, max_tokens=20, seed=1,
    )  # fmt: skip
    assert not answer.choices[0].message.reasoning_content
    assert len(answer.choices[0].message.tool_calls or ()) <= 1


TWO_CALLS = 'so <tool: add>\n{"a": 1}\n</tool>\n<tool: add>\n{"a": 2}\n</tool>'


@pytest.mark.parametrize("parallel, calls", [(None, 2), (True, 2), (False, 1)])
def test_several_calls_are_told_unless_one_is_wanted(parallel, calls):
    """Of an answer as a whole and of its pieces in a stream, however these are cut."""
    tool = {"type": "function", "function": {"name": "add"}}
    body = ChatBody.model_validate(
        {"messages": [{"role": "user", "content": "a"}], "tools": [tool], "reasoning_effort": "none",
         "parallel_tool_calls": parallel, "max_tokens": 5}
    )  # fmt: skip
    engine = Engine(rebuilder(MODEL, VOCABULARY.vocab_size), weights(VOCABULARY.vocab_size), SHAPES)
    served = Served("tiny", "", VOCABULARY, engine, nullcontext, 100)
    whole = Conversation(body, served, Limits()).whole([Piece(TWO_CALLS, finish="stop")])
    told = whole["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["arguments"] for call in told] == ['{"a": 1}', '{"a": 2}'][:calls]
    for size in (1, 7, 50):
        job = Conversation(body, served, Limits())
        parts = [TWO_CALLS[start : start + size] for start in range(0, len(TWO_CALLS), size)]
        chunks = [chunk for part in parts for chunk in job.chunk(0, Piece(part))]
        chunks += job.chunk(0, Piece(finish="stop"))
        told = [call for chunk in chunks for one in chunk["choices"] for call in one["delta"].get("tool_calls", ())]
        assert len(told) == calls


@pytest.mark.parametrize(
    "body", [{"prompt": [[5] * 20] * 3, "prompt_logprobs": 4}, {"prompt": "a" * 100, "echo": True, "logprobs": 1}]
)
def test_no_more_scores_are_told_than_the_limit_has(body):
    engine = Engine(rebuilder(MODEL, VOCABULARY.vocab_size), weights(VOCABULARY.vocab_size), SHAPES)
    served = Served("tiny", "", VOCABULARY, engine, nullcontext, 100)
    Completions(CompletionBody.model_validate(body | {"max_tokens": 1}), served, Limits(scores=300))
    with pytest.raises(ApiError, match="scores, at most 30 are told"):
        Completions(CompletionBody.model_validate(body | {"max_tokens": 1}), served, Limits(scores=30))
