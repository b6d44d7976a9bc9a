"""Programs that use threads, asyncio, multiprocessing and subprocesses, and those that never come to an end."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cwm_jax.tracing import Isolation, Limits
from cwm_jax.tracing.tasks import Message, TaskRun, parse_tasks, record_tasks, render_tasks

ROOT = Path(__file__).parents[2]
TRUSTED = Isolation.LIMITS_ONLY


def run(source: str, limits: Limits = Limits(), isolation: Isolation = TRUSTED, **settings) -> TaskRun:  # noqa: B008
    found = record_tasks(source, limits, isolation, **settings)
    assert parse_tasks(render_tasks(found)) == found
    assert_causal(found)
    return found


def assert_causal(run: TaskRun) -> None:
    spawned, sent, ended = {0}, set(), set()
    for step in run.steps:
        assert step.task in spawned and step.task not in ended
        match step.what:
            case Message("spawn"):
                spawned.add(int(step.what["task"]))
            case Message("send"):
                sent.add(step.what["message"])
            case Message("receive"):
                assert step.what["message"] in sent
            case Message("join"):
                ended.add(int(step.what["task"]))


def value(run: TaskRun) -> str:
    assert run.verdict == "returned", run.reason
    return run.trace(0).frames[-1].value


def messages(run: TaskRun, channel: str = "") -> list[tuple[int, str, str]]:
    """Task, kind and number (of a message, or of a task) of each message; of one kind of channel if it is named."""
    steps = [step for step in run.steps if isinstance(step.what, Message)]
    wanted = [step for step in steps if channel in dict(step.what.about).get("channel", "")]
    return [(step.task, step.what.kind, dict(step.what.about).get("message") or step.what["task"]) for step in wanted]


def test_threads_and_a_queue():
    found = run(
        """\
import queue, threading
def work(tasks, results):
    while (n := tasks.get()) is not None:
        results.put(n * 2)
def main():  # << START_OF_TRACE
    tasks, results = queue.Queue(), queue.Queue()
    worker = threading.Thread(target=work, args=(tasks, results), name="worker")
    worker.start()
    for n in (1, 2, None):
        tasks.put(n)
    worker.join()
    print("done")
    return results.get() + results.get()
"""
    )
    assert value(found) == "6" and found.stdout == "done\n"
    assert [(task.kind, task.parent, task.name) for task in found.tasks] == [
        ("main", None, "main"),
        ("thread", 0, "worker"),
    ]
    taken = [step.what["message"] for step in found.messages("receive") if step.task == 1]
    put = [step.what["message"] for step in found.messages("send") if step.task == 0]
    assert taken == put


@pytest.mark.parametrize(
    "wait",
    ["lock.acquire(); lock.release()", "event.wait()", "semaphore.acquire()", "barrier.wait()", "future.result()"],
)
def test_whoever_waits_hears_from_whoever_wakes_it(wait):
    found = run(
        f"""\
import threading
from concurrent.futures import Future
def wake():
    x = "before"
    lock.release(); event.set(); semaphore.release(); future.set_result(1); barrier.wait()
def main():  # << START_OF_TRACE
    global lock, event, semaphore, barrier, future
    lock, event, semaphore, barrier = threading.Lock(), threading.Event(), threading.Semaphore(0), threading.Barrier(2)
    future = Future()
    lock.acquire()
    thread = threading.Thread(target=wake)
    thread.start()
    {wait}
    x = "after"
    if "barrier" not in {wait!r}:
        barrier.wait()
    thread.join()
"""
    )
    assert found.verdict == "returned"
    lines = [dict(step.what.locals or ()) if not isinstance(step.what, Message) else {} for step in found.steps]
    before = next(i for i, step in enumerate(found.steps) if step.task == 1 and "x" in lines[i])
    after = next(i for i, step in enumerate(found.steps) if step.task == 0 and "x" in lines[i])
    assert found.happened_before(before, after)


def test_a_condition_and_a_timer_on_a_clock_that_leaps():
    found = run(
        """\
import threading, time
def main():  # << START_OF_TRACE
    ready, items = threading.Condition(), []
    def give():
        with ready:
            items.append(time.monotonic() > 3600)
            ready.notify()
    threading.Timer(4000, give).start()
    with ready:
        while not items:
            ready.wait()
    return items, ready.acquire() and ready.wait(5000), time.sleep(1e6)
""",
        Limits(wall_seconds=5),
    )
    assert value(found) == "([True], False, None)"
    assert [kind for _, kind, _ in messages(found, "Condition")] == ["send", "receive"]


def test_asyncio_tasks_queues_groups_and_threads():
    found = run(
        """\
import asyncio, time
def slow(n):
    time.sleep(n)
    return n
async def child(n, q):
    await asyncio.sleep(n)
    await q.put(n)
    return n * 10
async def main():  # << START_OF_TRACE
    q = asyncio.Queue()
    tasks = [asyncio.create_task(child(n, q)) for n in (2, 1)]
    first = await q.get()
    both = await asyncio.gather(*tasks)
    async with asyncio.TaskGroup() as group:
        a, b = group.create_task(asyncio.to_thread(slow, 1000)), group.create_task(child(3, q))
    done, _ = await asyncio.wait({asyncio.create_task(child(4, q))})
    return first, both, a.result(), b.result(), len(done)
"""
    )
    assert value(found) == "(1, [20, 10], 1000, 30, 1)"
    kinds = [(task.kind, task.parent) for task in found.tasks[1:]]
    assert kinds == [("asyncio", 0)] * 4 + [("thread", 3)] + [("asyncio", 0)]
    assert [task.name for task in found.tasks[1:3]] == ["Task-2 (child)", "Task-3 (child)"]
    joined = [(step.task, step.what["task"]) for step in found.messages("join")]
    assert {(0, str(n)) for n in (1, 2, 3, 4, 6)} <= set(joined)
    result = next(step.what["message"] for step in found.messages("send") if step.task == 5)
    assert any(step.task == 3 and step.what["message"] == result for step in found.messages("receive"))


def test_an_event_loop_by_hand_and_a_task_that_fails():
    found = run(
        """\
import asyncio
async def fail(future):
    future.set_result(1)
    raise KeyError("x")
async def work():
    future = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(fail(future))
    await asyncio.sleep(0)
    try:
        return await future, await task
    except KeyError as error:
        return error
def main():  # << START_OF_TRACE
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work())
    finally:
        loop.close()
"""
    )
    assert value(found) == "KeyError('x')"
    assert [(step.task, step.what["task"]) for step in found.messages("join")] == [(1, "2"), (0, "1")]


PROCESSES = """\
import multiprocessing as mp, sys
def work(end, results, lock, counter, go):
    go.wait()
    n = end.recv()
    with lock:
        counter.value += n
    end.send(n + 1)
    results.put("done")
    sys.exit(3)
def main():  # << START_OF_TRACE
    mp.set_start_method(METHOD)
    end, other = mp.Pipe()
    results, lock, counter, go = mp.Queue(), mp.Lock(), mp.Value("i", 0), mp.Event()
    child = mp.Process(target=work, args=(other, results, lock, counter, go), name="child")
    child.start()
    end.send(41)
    go.set()
    got = end.recv(), results.get()
    child.join()
    with lock:
        return *got, counter.value, child.exitcode
"""


@pytest.mark.parametrize("isolation", Isolation)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_talk(method, isolation):
    found = run(f"METHOD = {method!r}\n{PROCESSES}", isolation=isolation)
    assert value(found) == "(42, 'done', 41, 3)"
    assert [(task.kind, task.name) for task in found.tasks[1:]] == [("process", "child")]
    assert [frame.event for frame in found.trace(1).frames[:2]] == ["call", "line"]
    talk = [(task, kind) for task, kind, _ in messages(found, "Connection")]
    assert talk == [(0, "send"), (1, "receive"), (1, "send"), (0, "receive")]
    for channel in ("Event", "Lock", "Queue"):
        kinds = [kind for _, kind, _ in messages(found, channel)]
        assert kinds[:2] == ["send", "receive"], channel
    join = next(found.messages("join"))
    assert (join.task, join.what["task"], join.what["status"]) == (0, "1", "3")


@pytest.mark.parametrize(
    "pool", ["multiprocessing.Pool(2)", "futures.ThreadPoolExecutor(2)", "futures.ProcessPoolExecutor(2)"]
)
def test_pools(pool):
    found = run(
        f"""\
import multiprocessing
from concurrent import futures
def square(n):
    return n * n
def main():  # << START_OF_TRACE
    with {pool} as pool:
        return list(pool.map(square, [1, 2, 3]))
"""
    )
    assert value(found) == "[1, 4, 9]"
    calls = [i for i, s in enumerate(found.steps) if s.task and getattr(s.what, "value", None) in ("1", "4", "9")]
    assert len(calls) == 3 and all(found.happened_before(call, len(found.steps) - 1) for call in calls)


def test_forks_pipes_and_deaths_by_signal():
    found = run(
        """\
import os, signal
def main():  # << START_OF_TRACE
    r, w = os.pipe()
    if os.fork() == 0:
        os.write(w, b"y" * 70000)
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(w)
    n = 0
    while data := os.read(r, 10000):
        n += len(data)
    return n, os.wait()[1]
"""
    )
    assert value(found) == "(70000, 9)"
    assert next(found.messages("join")).what["status"] == "-9"
    sends, receives = ({s.what["message"] for s in found.messages(kind)} for kind in ("send", "receive"))
    assert sends == receives and len(sends) > 1


def test_a_python_that_the_program_starts_is_recorded_and_other_programs_are_not():
    code = "import sys\nfor line in sys.stdin:\n    print(int(line) + 1)\nsys.exit(7)\n"
    found = run(
        f"""\
import subprocess, sys
def main():  # << START_OF_TRACE
    with open("child.py", "w") as file:
        file.write({code!r})
    command = [[sys.executable, "-c", {code!r}], [sys.executable, "child.py"]]
    done = [subprocess.run(words, input="1\\n2\\n", capture_output=True, text=True) for words in command]
    return [(d.stdout, d.returncode) for d in done], subprocess.run(["echo", "hi"], stdout=subprocess.PIPE).stdout
"""
    )
    assert value(found) == "([('2\\n3\\n', 7), ('2\\n3\\n', 7)], b'hi\\n')"
    assert [(task.name, task.code) for task in found.tasks[1:]] == [
        ("python -c", code),
        ("python child.py", code),
        ("echo hi", None),
    ]
    for number in (1, 2):
        assert next(f.source for f in found.trace(number).frames if f.event == "line") == "import sys\n"
        assert found.trace(number).frames[-1].event == "return"
    assert not found.trace(3).frames
    assert [step.what["status"] for step in found.messages("join")] == ["7", "7", "0"]


def test_one_seed_one_schedule():
    source = """\
import threading
def work(n):
    for i in range(20):
        seen.append(n)
seen = []
def main():  # << START_OF_TRACE
    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen
"""
    runs = [run(source, seed=seed) for seed in (0, 0, 1, 2)]
    assert runs[0] == runs[1]
    assert len({value(found) for found in runs}) > 1, "threads interrupt one another, each seed in its own way"
    assert runs[0] == run(source, isolation=Isolation.BUBBLEWRAP)


DEADLOCKS = {
    "two locks": """\
import threading
def grab(first, second, both):
    with first:
        both.wait()
        with second:
            pass
def main():  # << START_OF_TRACE
    a, b, both = threading.Lock(), threading.Lock(), threading.Barrier(2)
    threading.Thread(target=grab, args=(a, b, both)).start()
    threading.Thread(target=grab, args=(b, a, both)).start()
""",
    "itself": "import threading\ndef main():  # << START_OF_TRACE\n    [x.acquire() for x in [threading.Lock()] * 2]\n",
    "an empty queue": "import queue\ndef main():  # << START_OF_TRACE\n    queue.Queue().get()\n",
    "two processes": """\
import multiprocessing
def work(q):
    q.get()
def main():  # << START_OF_TRACE
    process = multiprocessing.Process(target=work, args=(multiprocessing.Queue(),))
    process.start()
    process.join()
""",
    "asyncio": "import asyncio\nasync def main():  # << START_OF_TRACE\n    await asyncio.Event().wait()\n",
    "a pipe": "import os\ndef main():  # << START_OF_TRACE\n    r, w = os.pipe()\n    os.read(r, 1)\n",
}


@pytest.mark.parametrize("isolation", Isolation)
@pytest.mark.parametrize("name", DEADLOCKS)
def test_deadlocks_are_seen_at_once(name, isolation):
    found = run(DEADLOCKS[name], Limits(wall_seconds=1e6), isolation)
    assert (found.verdict, found.complete) == ("deadlock", False)
    assert "every task waits" in found.reason and "the main task" in found.reason
    assert not processes()


ENDLESS = "def spin():\n    while True:\n        x = 1\n"
CUT_SHORT = {
    "fork bomb": ("import os\ndef main():  # << START_OF_TRACE\n    while True:\n        os.fork()\n", "task_limit"),
    "thread bomb": (
        "import threading\ndef work():\n    threading.Thread(target=work).start()\n    event.wait()\n"
        "event = threading.Event()\ndef main():  # << START_OF_TRACE\n    work()\n",
        "task_limit",
    ),
    "endless child": (
        f"import multiprocessing\n{ENDLESS}def main():  # << START_OF_TRACE\n"
        "    child = multiprocessing.Process(target=spin)\n    child.start()\n    child.join()\n",
        "frame_limit",
    ),
    "stuck child": (
        "import subprocess, sys\ndef main():  # << START_OF_TRACE\n"
        "    subprocess.run([sys.executable, '-c', 'sum(range(10**12))'])\n",
        "timeout",
    ),
    "another program": (
        "import subprocess\ndef main():  # << START_OF_TRACE\n    subprocess.run(['sleep', '98765'])\n",
        "timeout",
    ),
    "exit": ("import os, threading\ndef main():  # << START_OF_TRACE\n    os._exit(5)\n", "exited"),
    "crash": ("import os\ndef main():  # << START_OF_TRACE\n    os.abort()\n", "crashed"),
    "no program": ("def main(:  # << START_OF_TRACE\n", "syntax_error"),
    "raises in main": ("def main():  # << START_OF_TRACE\n    1 / 0\n", "raised"),
}


@pytest.mark.parametrize("isolation", Isolation)
@pytest.mark.parametrize("name", CUT_SHORT)
def test_what_never_ends_is_cut_short_and_nothing_is_left(name, isolation):
    source, verdict = CUT_SHORT[name]
    found = run(source, Limits(wall_seconds=1 if verdict == "timeout" else 10, max_frames=300, processes=16), isolation)
    assert found.verdict == verdict and found.reason
    assert not processes()


@pytest.mark.parametrize("isolation", Isolation)
def test_orphans_and_daemons_end_with_the_main_process(isolation):
    found = run(
        f"""\
import os, subprocess, sys, threading, time
{ENDLESS}
def main():  # << START_OF_TRACE
    if os.fork() == 0:
        while True:
            time.sleep(1)
    subprocess.Popen([sys.executable, "-c", "while True:\\n    x = 1"], start_new_session=True)
    subprocess.Popen(["sleep", "98765"])
    threading.Thread(target=spin, daemon=True).start()
    return 1
""",
        isolation=isolation,
    )
    assert value(found) == "1" and found.unfinished == (1, 2, 3, 4)
    assert not found.trace(4).complete
    assert not processes()


def processes() -> list[str]:
    """Command lines of what a recorded program may have left behind; what is dying has a moment for it."""
    for _ in range(200):
        if not (lines := command_lines()):
            break
        time.sleep(0.01)
    return lines


def command_lines() -> list[str]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if "sleep 98765" in line or f"{ROOT}/cwm_jax/tracing/tasks/child/start.py" in line:
            lines.append(line)
    return lines


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"7",
        b"[]",
        b'["frame", 0, 99, 1, {}]',
        b'["frame", 0, 1, 1, {"x": 5}]',
        b'["wait", NaN, null, true, false]',
        b'["wait", 0.0, Infinity, true, false]',
        b'["wait", 0.0, "x", true, false]',
        b'["spawn", 0]',
        b'["join", 0, "x", null]',
        b'["finish", "no verdict", ""]',
        b"[" * 100_000,
        b"x" * 3_000_000,
    ],
)
def test_a_program_that_forges_records_spoils_its_own_run_alone(line):
    found = run(
        f"""\
import os
line = {line[:40]!r} * {len(line) // len(line[:40])} + b"\\n"
def main():  # << START_OF_TRACE
    sockets = [n for n in range(3, 64) if os.path.exists(f"/proc/self/fd/{{n}}")]
    for n in sockets:
        if "socket" in os.readlink(f"/proc/self/fd/{{n}}"):
            os.set_blocking(n, False)
            try:
                os.write(n, line)
            except OSError:
                pass
""",
        Limits(wall_seconds=3),
    )
    assert found.verdict in ("corrupted", "timeout", "exited"), found.verdict
    assert not processes()


def test_a_program_that_passes_off_our_own_socket_is_not_trusted():
    found = run(
        """\
import os, socket
def main():  # << START_OF_TRACE
    for n in range(3, 64):
        try:
            control = socket.socket(fileno=os.dup(n))
            if control.type == socket.SOCK_SEQPACKET:
                os.fork()
                socket.send_fds(control, [b"p1"], [n])
        except OSError:
            pass
""",
        Limits(wall_seconds=3),
        Isolation.BUBBLEWRAP,
    )
    assert not found.complete or found.verdict == "returned"
    assert not processes()


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"<\|spawn_sep\|>"):
        record_tasks("x = '<|spawn_sep|>'")


def test_the_command_line(tmp_path):
    path = tmp_path / "stuck.py"
    path.write_text(DEADLOCKS["itself"])
    words = [sys.executable, "-m", "cwm_jax", "trace", str(path), "--unsafe", "--format"]
    text = subprocess.run([*words, "tasks"], cwd=ROOT, capture_output=True, text=True)
    assert text.returncode == 3 and text.stderr.startswith("trace: deadlock: ")
    assert parse_tasks(text.stdout) == run(DEADLOCKS["itself"])
    shown = json.loads(subprocess.run([*words, "tasks-json"], cwd=ROOT, capture_output=True, text=True).stdout)
    assert shown["verdict"] == "deadlock" and shown["text"] == text.stdout
    assert [step["by"] for step in shown["steps"]] == [0] * len(shown["steps"])
