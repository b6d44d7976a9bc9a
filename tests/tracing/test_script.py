"""Scripts as contexts: the marked function does what the script does when Python runs it."""

import ast
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwm_jax.tracing import Isolation, Job, Trace, record_many
from cwm_jax.tracing.script import CannotTrace, script_context

STDIN = "3\n4 1 5\nlast"
OWN = {
    "called": "def main():\n    print(input())\nmain()",
    "guarded": "import sys\n\ndef solve(n=2):  # the work\n    print(n)\n\nif __name__ == '__main__':\n    solve()\n",
    "header of two lines": "def main(a=1,\n         b=2):\n    print(a, b)\nmain()",
    "carriage returns": "def main():\r\n    print(input())\r\nmain()\r\n",
}
MOVED = {
    "no function at all": "n = int(input())\nfor x in input().split():\n    print(int(x) * n)\n",
    "a helper that reads a variable bound later": "def f(): return n + 1\nn = int(input())\nprint(f())\n",
    "a helper that writes a variable": "c = 0\ndef f():\n    global c\n    c += 1\nf()\nf()\nc += 1\nprint(c)\n",
    "a helper behind the first input": (
        "n = int(input())\ntotal = 0\ndef f(k):\n    global total\n    total += k * n\n    return k and f(k - 1)\n"
        "f(4)\nprint(total)\n"
    ),
    "a variable called like a builtin": "input, max = input, max(3, 5)\nlist = list(input())\nprint(max, list)\n",
    "a builtin of its own for helpers": "import sys\ndef f(): return input()\ninput = sys.stdin.readline\nprint(f())\n",
    "a class that binds what the script binds": "x = int(input())\nclass A:\n    x = x\n    y = x\nprint(A.x, A.y)\n",
    "a class whose methods read variables": "n = int(input())\nclass A:\n    def f(self): return n\nprint(A().f())\n",
    "strings of many lines": 'n = 1\ntext = """a\n b\n\\\n    c"""\nprint(text, f"""{n}\n  {\nn}""", "x\\\ny")\n',
    "statements on the line of an import": "import sys; n = sys.stdin.readline()\nprint(n)\n",
    "tabs": "for i in range(2):\n\tif i:\n\t\tprint(i)\n",
    "comprehensions and lambdas": "k = 2\nprint([x * k for x in range(k) if all(x < k + y for y in range(k))])\n"
    "print(sorted('abc', key=lambda c: -ord(c) * k), {a: b for a, b in zip('ab', input())})\n",
    "its own name for main": "def main(n): return n + 1\nprint(main(int(input())))\nstart = 1\n",
    "a generator called main": "def main():\n    yield print('never')\nmain()\nprint('end')\n",
    "a decorated main": "from functools import cache\n@cache\ndef main(): print('once')\nmain()\n",
    "main bound twice": "def main(): print(1)\ndef main(): print(2)\nmain()\n",
    "more behind the guard": "def f(): print(1)\nif __name__ == '__main__':\n    f()\nprint(2)\n",
    "an alternative to the guard": "def f(): print(1)\nif __name__ == '__main__': f()\nelse: print(2)\n",
    "imports in the middle": "n = int(input())\nimport math\nfrom math import gcd as g\nprint(math.sqrt(n), g(n, 6))\n",
    "loops that leave their variables": "for i in range(3): pass\nelse: print('done')\ntry: 1 / 0\n"
    "except ZeroDivisionError as e: print(e)\nprint(i, __name__)\n",
    "deleted and annotated variables": "n: int = 3\ndel n\ntry: n\nexcept NameError: print('gone')\n",
    "an end before the end": "import sys\nprint(input())\nsys.exit()\nprint('never')\n",
    "exit": "n = int(input())\nprint(n)\nif n: exit(0)\nprint('never')\n",
    "read to the end": "import sys\nfor line in sys.stdin: print(line.strip())\n",
    "walrus and match": "if (n := int(input())) > 2: print(n)\nmatch input().split():\n    case [a, *b]: print(a, b)\n",
    "unicode": "é = input()\nprint('ñ' + é)\n",
}


def printed(trace: Trace) -> str:
    assert trace.verdict in ("returned", "raised") and (not trace.reason or "SystemExit" in trace.reason), trace.reason
    return trace.stdout


def test_scripts_print_what_they_print_under_plain_python():
    scripts = {**OWN, **MOVED}
    jobs = [Job(script_context(code), STDIN) for code in scripts.values()]
    for (name, code), trace in zip(scripts.items(), record_many(jobs, isolation=Isolation.LIMITS_ONLY)):
        words = [sys.executable, "-W", "ignore", "-c", code]
        plain = subprocess.run(words, input=STDIN, capture_output=True, text=True, check=True, timeout=20)
        assert plain.stdout and printed(trace) == plain.stdout, name


@pytest.mark.parametrize("code", OWN.values(), ids=OWN)
def test_a_function_that_does_all_the_work_is_marked_and_nothing_else_changes(code):
    code = code.replace("\r\n", "\n")
    assert script_context(code).replace("  # << START_OF_TRACE", "").strip() == code.strip()


@pytest.mark.parametrize("code", MOVED.values(), ids=MOVED)
def test_the_statements_of_other_scripts_stay_as_they_are_and_in_order(code):
    *before, main = ast.parse(script_context(code)).body
    body = main.body[isinstance(main.body[0], ast.Global) :]
    assert [ast.dump(node) for node in [*before, *body]] == [ast.dump(node) for node in ast.parse(code).body]


def test_variables_become_locals_unless_that_changes_what_the_script_does():
    context = script_context("import sys\nk = 2\ndef f(): return n\nn, m = 1, k\nmax = m\nprint(f())\n")
    assert "\n    global max, n\n" in context
    assert context.index("k = 2") < context.index("def main():  # << START_OF_TRACE") < context.index("    n, m = 1, k")
    (trace,) = record_many([context], isolation=Isolation.LIMITS_ONLY)
    assert [name for name, _ in trace.frames[-5].locals] == ["m"]


@pytest.mark.parametrize(("code", "reason"), [
    ("print 1", "does not parse"),
    ("print(1)\0", "does not parse"),
    ("print('\ud800')", "does not parse"),
    ("(" * 9999, "does not parse"),
    ("-" * 100_000 + "1", "does not parse"),
    ("", "does nothing"),
    ("def main(): print(1)", "does nothing"),
    ("print(eval(input()))", "reads variables by name"),
    ("n = 1\nprint(globals()['n'])", "reads variables by name"),
    ("from threading import Thread\nThread(target=print).start()", "starts threads or processes"),
    ("import concurrent.futures as c\nprint(c)", "starts threads or processes"),
    ("print(1)\nfrom math import *", "cannot be moved into a function"),
    ("n = 1\nprint(n)\nglobal n\n", "cannot be moved into a function"),
    ("print('<|frame_sep|>')", "holds words of the trace language"),
    ("print(1)  # << START_OF_TRACE", "holds words of the trace language"),
])  # fmt: skip
def test_a_script_without_a_faithful_context_is_refused(code, reason):
    with pytest.raises(CannotTrace, match=reason):
        script_context(code)


NAMES = st.sampled_from(["a", "b", "f", "max", "A"])
VALUES = st.one_of(NAMES, st.integers(0, 9).map(str), st.builds("(lambda: {})()".format, NAMES))
STATEMENTS = st.one_of(
    st.builds("{} = {}".format, NAMES, VALUES),
    st.builds("{} = [{} for _ in '12']".format, NAMES, VALUES),
    st.builds("def {}():\n    return {}".format, NAMES, VALUES),
    st.builds("def {0}():\n    global {1}\n    {1} = {2}\n    return {1}".format, NAMES, NAMES, VALUES),
    st.builds("class {0}:\n    {1} = {2}\n    def __call__(self): return {2}".format, NAMES, NAMES, VALUES),
    st.builds("try: print(str({0}())[:9])\nexcept Exception as e: print(isinstance(e, NameError))".format, NAMES),
    st.builds("try: print(str({0})[:9])\nexcept NameError: print('unbound')".format, NAMES),
    st.builds("try: del {0}\nexcept NameError: print('unbound')".format, NAMES),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(STATEMENTS, min_size=2, max_size=8).map("\n".join), min_size=10, max_size=20))
def test_names_mean_the_same_wherever_they_are_bound(bodies):
    contexts, expected = [], []
    for body in bodies:
        code = f"from math import pi\n{body}\nprint('end')\n"
        output: list[str] = []
        scope = {"__name__": "__main__", "print": lambda *a, out=output: out.append(" ".join(map(str, a)) + "\n")}
        try:
            exec(code, scope)
        except Exception:
            output.append("raised\n")
        contexts.append(script_context(code))
        expected.append(output)
    for context, output, trace in zip(contexts, expected, record_many(contexts, isolation=Isolation.LIMITS_ONLY)):
        got = {"returned": "", "raised": "raised\n", "module_raised": "raised\n"}[trace.verdict]
        assert trace.stdout + got == "".join(output), context
