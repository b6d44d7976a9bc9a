"""What never enters a trace is found, and what identifies nobody is left alone."""

import ast
import ipaddress
import json
import string
import sysconfig
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.tracing import Frame, Isolation, Trace, record_many
from cwm_jax.tracing.quality import Privacy
from cwm_jax.tracing.quality.privacy import KINDS
from cwm_jax.tracing.wrap import wrap

HERE = Privacy.here()
PRIVACY = Privacy(names=("mirabelle", "node-17"), folders=("/srv/people/mirabelle",))
ALPHANUMERIC = string.ascii_letters + string.digits
around = st.sampled_from(["{}", "x = '{}'", "[1, '{}', None]", "see {}, then", "({})", "{}\n"])


def drawn(prefix, characters, length):
    return st.text(characters, min_size=length, max_size=length).map(prefix.__add__)


secrets = st.one_of(
    drawn("AKIA", string.ascii_uppercase + string.digits, 16),
    drawn("ghp_", ALPHANUMERIC, 36),
    drawn("hf_", string.ascii_letters, 34),
    drawn("glpat-", ALPHANUMERIC, 20),
    drawn("AIza", ALPHANUMERIC, 35),
    drawn("xoxb-1", string.digits, 12),
    drawn("sk-1", ALPHANUMERIC, 40),
    st.just("-----BEGIN RSA PRIVATE " + "KEY-----"),
    drawn("https://mirth:pw", ALPHANUMERIC, 8).map("{}@host.net".format),
)
FOUND = {
    "secret": secrets,
    "IP address": st.ip_addresses(network="10.0.0.0/8").map(str)
    | st.ip_addresses(network="172.16.0.0/12").map(str)
    | st.ip_addresses(network="2a00::/12").map(str),
    "MAC address": st.binary(min_size=6, max_size=6)
    .filter(lambda raw: len(set(raw)) > 1)
    .map(lambda raw: raw.hex(":")),
    "e-mail address": st.from_regex(r"[a-z]{1,8}[.+]?[a-z]{1,8}@[a-z]{2,8}\.(org|de|co\.uk)", fullmatch=True),
    "memory address": st.integers(0x100000, 2**47).map("<A object at {:#x}>".format),
    "path": st.sampled_from(["/home/mirabelle/a.py", "/Users/mi.ra/x", "/tmp/tmpab12_x9z", "/srv/people/mirabelle/x"])
    | st.just(repr(r"C:\Users\mira\x")),
    "user or host": st.sampled_from(["mirabelle", "node-17", "Mirabelle", "on node-17:", "mirabelle_backup"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_finds_each_kind_wherever_it_stands(kind):
    @given(FOUND[kind], around)
    def check(text, place):
        assert kind in PRIVACY.kinds(place.format(text))
        frames = (Frame("line", "x\n", locals=(("a", ".."), ("b", repr(text)))), Frame("return", "x\n", value="1"))
        assert kind in PRIVACY.kinds_in(Trace("", frames))
        assert kind in PRIVACY.kinds_in(Trace("", (Frame("return", "x\n", value=repr(text)),)))
        assert kind in PRIVACY.kinds_in(Trace(f"x = {text!r}", ()))

    check()


@pytest.mark.parametrize(
    "text",
    [
        "version 10.21.32.44", "v12.0.3.1", "package==10.2.3.4", "1.2.3.4", "7.1.4.34", "1.3.6.1.4.1.311", "10.2.3",
        "127.0.0.1", "0.0.0.0", "192.0.2.7", "203.0.113.9", "999.10.10.10", "2001:db8::1", "::1",
        "x[1::2]", "x[100::2]", "12:30:45", "std::cout", "a::b",
        "0x1f", "0x7fffffff", "0xdeadbeef", "MASK = 0x7fffffffffff", "at 0x10",
        "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "2026-11-25",
        "me@example.com", "git@github.com:a/b", "@pytest.mark.skip", "a @ b.T", "you@mail.test",
        "token = 'a_long_placeholder_for_it'", "password = 'hunter2'", "task-" + "a1" * 20, "http://user:password@h/",
        "/usr/bin/env", "/home/user/x", "/tmp/file", "</home>", "mirabelles", "node-170",
    ],
)  # fmt: skip
def test_leaves_alone_what_identifies_nobody(text):
    assert PRIVACY.kinds(f"x = {text!r}") == PRIVACY.kinds(text) == ()


@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 255))
def test_small_version_numbers_are_no_addresses(major, minor, patch, build):
    assert ipaddress.ip_address(f"{major}.{minor}.{patch}.{build}")
    assert PRIVACY.kinds(f"{major}.{minor}.{patch}.{build}") == ()


def test_a_value_that_is_an_address_of_an_object_is_found_and_a_constant_in_source_is_not():
    frame = Frame("return", "x\n", value=str(id(object())))
    assert PRIVACY.kinds_in(Trace("", (frame,))) == ("memory address",)
    assert PRIVACY.kinds_in(Trace(f"x = {frame.value}", ())) == ()


def test_few_false_alarms_over_the_functions_of_the_standard_library():
    """Mail and addresses in its comments and docstrings are found rightly; false alarms are few among these."""
    root, count, alarms = Path(sysconfig.get_path("stdlib")), 0, 0
    for path in [*root.glob("*.py"), *root.glob("email/*.py"), *root.glob("asyncio/*.py"), *root.glob("http/*.py")]:
        source = path.read_text()
        lines = source.split("\n")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                count += 1
                alarms += bool(HERE.kinds("\n".join(lines[node.lineno - 1 : node.end_lineno])))
    assert count > 5000 and alarms < 0.003 * count


def test_no_alarm_on_real_traces_and_this_machine_is_known():
    rows = [json.loads(line) for line in Path("tests/data/cruxeval.jsonl").read_text().splitlines()[:200]]
    contexts = [wrap(row["code"], "f", row["input"]) for row in rows]
    traces = record_many(contexts, isolation=Isolation.LIMITS_ONLY)
    assert [trace.context for trace in traces if HERE.kinds_in(trace)] == []
    assert "path" in HERE.kinds(f"open({str(Path.cwd() / 'x.py')!r})")
    assert "path" in HERE.kinds(json.__file__)
    assert HERE.kinds(str(uuid.UUID(int=7))) == ()


def test_refuses_an_empty_name():
    with pytest.raises(ValueError, match="names"):
        Privacy(names=("",))
