"""Recording on Ray loses the shard in hand at most, whatever is killed, and leaves no process behind."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

# Shards of a known length, each of which leaves a note of every process that began it.
DRIVER = """
import errno, os, signal, sys, time
from functools import partial
from pathlib import Path
from cwm_jax.cluster import cluster
from cwm_jax.files import write_whole
from cwm_jax.tracing import shards
from cwm_jax.tracing.shards import make_shards

def write(path, seconds=0.7):
    path.with_name(f"begun {path.name} {os.getpid()}").touch()
    time.sleep(seconds)
    write_whole(path, path.name)

def full(path):
    raise OSError(errno.ENOSPC, "no space", str(path))

def record(folder):
    paths = [Path(folder) / f"shard{number}" for number in range(8)]
    make_shards("recording", {path: partial(write, path) for path in paths}, workers=2)
"""


class Driver:
    """A process that records into `folder`; all that it starts bears its mark."""

    def __init__(self, folder: Path, then: str = "record(sys.argv[1])"):
        script = folder.with_suffix(".py")
        script.write_text(DRIVER + then)
        folder.mkdir(exist_ok=True)
        self.folder, self._mark = folder, f"MARK={uuid.uuid4()}"
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(folder)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.getcwd(), "MARK": self._mark.removeprefix("MARK=")},
            start_new_session=True,
        )  # fmt: skip

    def begun(self) -> list[tuple[str, int]]:
        """The shards that were begun and the processes that did, one entry for each try."""
        tries = (path.name.split()[1:] for path in self.folder.glob("begun *"))
        return sorted((shard, int(process)) for shard, process in tries)

    def finished(self) -> set[str]:
        return {path.name for path in self.folder.glob("shard*")}

    def alive(self) -> list[int]:
        """All that the driver started, itself included, and that still lives."""
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if self._has_mark(path)]

    def _has_mark(self, environment: Path) -> bool:
        try:
            return self._mark.encode() in environment.read_bytes().split(b"\0")
        except OSError:  # it has ended
            return False

    def working(self) -> list[int]:
        """Those of them that do or may do any work: Ray's agents outlive a killed driver by some time, idle."""
        return [process for process in self.alive() if not command(process).endswith("Agent")]

    def until(self, finished: int) -> None:
        """Waits for so many shards, and for two that are in hand then."""
        while len(self.finished()) < finished or len(self.begun()) < finished + 2:
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(0.01)

    def ended(self, idle: bool = True) -> int:
        """The exit status, once nothing that the driver started works any longer; nor lives, unless `idle` may."""
        self.process.wait(timeout=60)
        until = time.monotonic() + 30
        while left := self.working() if idle else self.alive():
            assert time.monotonic() < until, [command(process) for process in left]
            time.sleep(0.05)
        return self.process.returncode


def command(process: int) -> str:
    """The first word of a process's command; empty if it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text().split("\0")[0]
    except OSError:
        return ""


def listening(processes: list[int]) -> set[str]:
    """The addresses, as the kernel writes them, at which these processes wait for others to connect."""
    links = {str(link.readlink()) for process in processes for link in Path(f"/proc/{process}/fd").iterdir()}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in links}


def test_a_killed_worker_loses_the_shard_in_hand_alone(tmp_path):
    driver = Driver(tmp_path / "out")
    driver.until(finished=2)
    assert listening(driver.alive()) == {"0100007F", "0000000000000000FFFF00000100007F"}, "open to the network"
    lost, process = next((shard, process) for shard, process in driver.begun() if shard not in driver.finished())
    os.kill(process, signal.SIGKILL)
    assert driver.ended() == 0, driver.process.stderr.read()
    assert driver.finished() == {f"shard{number}" for number in range(8)}
    tries = [shard for shard, _ in driver.begun()]
    assert {shard for shard in tries if tries.count(shard) > 1} == {lost} and tries.count(lost) == 2


def test_a_killed_driver_leaves_nothing_and_the_next_call_goes_on(tmp_path):
    driver = Driver(tmp_path / "out")
    driver.until(finished=3)
    driver.process.kill()
    driver.ended()
    kept = driver.finished()
    assert 3 <= len(kept) < 8
    times = {shard: (tmp_path / "out" / shard).stat().st_mtime_ns for shard in kept}
    again = Driver(tmp_path / "out")
    assert again.ended() == 0, again.process.stderr.read()
    assert again.finished() == {f"shard{number}" for number in range(8)}
    assert times == {shard: (tmp_path / "out" / shard).stat().st_mtime_ns for shard in kept}
    assert len(again.begun()) <= 8 + 2  # two were in hand


STOPPED = """
class Stopped(KeyboardInterrupt):
    pass

def stop(number, frame):
    raise Stopped(f"by {signal.Signals(number).name}")

signal.signal(signal.SIGTERM, stop)
try:
    record(sys.argv[1])
except Stopped as stopped:
    sys.exit(str(stopped))
"""


@pytest.mark.parametrize("number, then", [(signal.SIGINT, "record(sys.argv[1])"), (signal.SIGTERM, STOPPED)])
def test_a_signal_reaches_the_caller_and_leaves_nothing(tmp_path, number, then):
    driver = Driver(tmp_path / "out", then)
    driver.until(finished=1)
    send = os.killpg if number is signal.SIGINT else os.kill  # as a terminal does; as whoever sends a SIGTERM does
    send(driver.process.pid, number)
    status, errors = driver.ended(idle=False), driver.process.stderr.read()
    if number is signal.SIGINT:
        assert status == -signal.SIGINT and errors.rstrip().endswith("KeyboardInterrupt")
    else:
        assert status == 1 and errors.endswith("by SIGTERM\n")
    assert len(driver.finished()) < 8


def test_sigterm_is_the_callers_after_the_recording_too(tmp_path):
    made = "path = Path(sys.argv[1]) / 'made'; make_shards('x', {path: partial(write, path, 0)}, 1)"
    after = STOPPED.replace("record(sys.argv[1])", f"{made}; os.kill(os.getpid(), 15)")
    driver = Driver(tmp_path / "out", after)
    assert driver.ended() == 1 and driver.process.stderr.read().endswith("by SIGTERM\n")


ERRORS = """
folder = Path(sys.argv[1])
with cluster(2):
    try:
        jobs = {folder / "full": partial(full, folder / "full"), folder / "late": partial(write, folder / "late", 60)}
        make_shards("recording", jobs, 2)
    except OSError as error:
        print(type(error).__name__, error.errno == errno.ENOSPC, error.filename)
    try:
        make_shards("recording", {folder / "killed": partial(os.kill, 0, signal.SIGKILL)}, 2)
    except ChildProcessError as error:
        print(str(error)[:200].replace("raylet", "Ray"))
    shards._SEEN_WITHIN = 0.3
    try:
        make_shards("recording", {folder / "elsewhere": time.time}, 2)
    except FileNotFoundError as error:
        print(error)
    record(folder)
"""


def test_errors_come_as_themselves_and_the_next_recording_goes_well(tmp_path):
    driver = Driver(tmp_path / "out", ERRORS)
    assert driver.ended() == 0, driver.process.stderr.read()
    lines = [line for line in driver.process.stdout.read().splitlines() if "raylet" not in line]
    own, lost, unseen = lines
    assert own == f"OSError True {tmp_path / 'out' / 'full'}"
    assert "lost 5 times at the same job" in lost and "fewer workers" in lost
    assert "elsewhere" in unseen and "folder with --out that all machines of the cluster share" in unseen
    assert not (tmp_path / "out" / "late").exists() and len(driver.finished()) == 8


GIN = """
CorpusConfig.strawberry = 600
CorpusConfig.composed = 600
CorpusConfig.shards = 12
CorpusConfig.tests = 6
"""


def prepare(tmp_path: Path, name: str, *more: str, before: Sequence[str] = ()) -> tuple[subprocess.Popen, Path]:
    gin = tmp_path / "small.gin"
    gin.write_text(GIN)
    command = [sys.executable, "-m", "cwm_jax", "prepare", f"--gin_file={gin}", "--out", str(tmp_path / name)]
    return subprocess.Popen([*before, *command, *more], text=True, stderr=subprocess.PIPE), tmp_path / name / "data"


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def machines():
    """A cluster of two nodes, each of processes of its own, with one core each."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    yield cluster
    cluster.shutdown()


def test_a_node_that_dies_changes_no_byte(machines, tmp_path):
    process, folder = prepare(tmp_path, "cluster", "--address", machines.address)
    while len(list((folder / "shards").glob("*.gz"))) < 3:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    machines.remove_node(next(node for node in machines.worker_nodes), allow_graceful=False)
    before = {path: path.stat().st_mtime_ns for path in (folder / "shards").glob("*.gz")}
    assert len(before) < 12, "all was over before the node died"
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert all(path.stat().st_mtime_ns == when for path, when in before.items()), "a finished shard was made again"
    process, alone = prepare(tmp_path, "alone", before=["taskset", "-c", str(min(os.sched_getaffinity(0)))])
    assert process.wait(timeout=120) == 0
    assert digests(folder) == digests(alone)
    counted = [json.loads((one / "manifest.json").read_text()) for one in (folder, alone)]
    assert counted[0]["tokens"] == counted[1]["tokens"] > 0


def test_an_address_without_a_cluster_is_an_error_that_names_it(tmp_path):
    process, _ = prepare(tmp_path, "nowhere", "--address", "localhost:1")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and "--address localhost:1: no Ray cluster" in errors and "Traceback" not in errors
