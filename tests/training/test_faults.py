"""Training meets real faults: signals, damaged files, a full disk, data that is gone or has gone bad.

One run is stopped by SIGTERM; each fault then befalls a copy of it. Whatever happens, the same call must come to the
weights of a run that nothing befell.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cwm_jax import config
from cwm_jax.checkpoints.training import DamagedCheckpoint
from cwm_jax.data.stream import BucketedBatches, StreamConfig
from cwm_jax.files import in_use
from cwm_jax.training.experiment import Experiment

ROOT = Path(__file__).parent.parent.parent


class Runs:
    """Calls of the `train` verb."""

    def __init__(self, gin: Path):
        self._more = [f"--gin_file={gin}", "--gin.SkipBadSteps.patience=4"]
        self._how = {"cwd": ROOT, "text": True, "stderr": subprocess.PIPE}

    def __call__(self, out: Path, number: signal.Signals | None = None, at: int = 0) -> subprocess.CompletedProcess:
        """One call to its end; it gets signal `number` when it has told of step `at`, or at 0 has begun to prepare."""
        command = [sys.executable, "-m", "cwm_jax", "train", "--out", str(out), *self._more]
        with subprocess.Popen(command, stdout=subprocess.PIPE, **self._how) as process:
            while number and process.poll() is None and (last_step(out) < at or not (out / "config.json").exists()):
                time.sleep(0.005)
            if number:
                process.send_signal(number)
            _, errors = process.communicate(timeout=300)
        assert "Traceback" not in errors, errors
        return subprocess.CompletedProcess(command, process.returncode, None, errors)


def last_step(out: Path) -> int:
    try:
        return json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    except (OSError, IndexError, ValueError):
        return 0


def told_steps(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def saved_steps(out: Path) -> list[int]:
    return sorted(int(path.name) for path in (out / "checkpoints").iterdir() if path.name.isdigit())


def weights(out: Path):
    import jax

    from cwm_jax.training.trained import trained

    *_, step, params = trained(out)
    return step, [np.asarray(leaf) for leaf in jax.tree.leaves(params)]


def assert_same_end(out: Path, reference: Path):
    (step, found), (last, expected) = weights(out), weights(reference)
    assert step == last == 40
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def runs(gin_file):
    return Runs(gin_file)


@pytest.fixture(scope="module")
def stopped(runs, tmp_path_factory):
    """A run that got SIGTERM after its 22nd step, and how that call ended."""
    out = tmp_path_factory.mktemp("faults") / "stopped"
    return out, runs(out, signal.SIGTERM, at=22)


@pytest.fixture
def copy(stopped, tmp_path):
    return Path(shutil.copytree(stopped[0], tmp_path / "run"))


def test_sigterm_saves_tells_how_to_go_on_and_exits_0(stopped):
    out, ended = stopped
    assert ended.returncode == 0, ended.stderr
    step = saved_steps(out)[-1]
    assert 22 <= step < 40 and told_steps(out) == list(range(1, step + 1))  # saved where it stood, and all of it told
    assert f"SIGTERM at step {step} of 40" in ended.stderr
    assert f"go on with: python -m cwm_jax train --out {out}" in ended.stderr


def test_sigterm_before_the_first_step_exits_0_as_well(runs, tmp_path):
    ended = runs(tmp_path / "run", signal.SIGTERM)
    assert ended.returncode == 0 and "while it took no steps" in ended.stderr, ended.stderr
    assert "go on with:" in ended.stderr and not (tmp_path / "run" / "checkpoints").exists()


def test_ctrl_c_saves_too_and_damage_gives_way_to_the_checkpoint_before(runs, stopped, copy, trained_run):
    (*_, before) = saved_steps(copy)
    ended = runs(copy, signal.SIGINT, at=before + 2)
    assert ended.returncode == 130, ended.stderr
    newest = saved_steps(copy)[-1]
    assert before < newest == last_step(copy) < 40
    assert f"Ctrl-C at step {newest} of 40" in ended.stderr and "go on with:" in ended.stderr

    flip(largest_file(copy / "checkpoints" / str(newest) / "state"))
    (copy / "checkpoints" / "39.orbax-checkpoint-tmp" / "state").mkdir(parents=True)  # a process died while saving
    before = saved_steps(copy)[-2]
    ended = runs(copy)
    assert ended.returncode == 0, ended.stderr
    assert f"checkpoint of step {newest}" in ended.stderr and f"using that of step {before} instead" in ended.stderr
    assert f"step {newest} is damaged" in ended.stderr and "step 39 was not written to its end" in ended.stderr
    assert list((copy / "checkpoints").glob(f"damaged-{newest}-*/state"))  # nothing is thrown away
    assert_same_end(copy, trained_run)


def largest_file(folder: Path) -> Path:
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip(path: Path, share: float = 0.5):
    content = bytearray(path.read_bytes())
    content[int(len(content) * share)] ^= 0x10
    path.write_bytes(content)


def cut(path: Path):
    os.truncate(path, path.stat().st_size // 2)


DAMAGE = {
    "a file cut off": lambda folder: cut(largest_file(folder / "state")),
    "a file gone": lambda folder: largest_file(folder / "state").unlink(),
    "a byte near the start": lambda folder: flip(largest_file(folder / "state"), 0.1),
    "a byte near the end": lambda folder: flip(largest_file(folder / "state"), 0.95),
    "no metadata of the state": lambda folder: (folder / "state" / "_METADATA").unlink(),
    "no metadata at all": lambda folder: [path.unlink() for path in folder.rglob("*METADATA*")],
    "no fingerprint": lambda folder: shutil.rmtree(folder / "fingerprint"),
    "empty": lambda folder: [shutil.rmtree(path) for path in folder.iterdir() if path.is_dir()],
}


# Orbax leaves parts of a failed load unawaited, which Python tells of.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_readers_too_use_the_checkpoint_before(damage, copy, capfd):
    from cwm_jax.worldmodel.models.local import LocalModel

    before, newest = saved_steps(copy)
    damage(copy / "checkpoints" / str(newest))
    assert LocalModel(copy).step == before
    assert f"checkpoint of step {newest}: " in capfd.readouterr().err
    assert saved_steps(copy) == [before, newest]  # a reader moves nothing


def test_when_no_checkpoint_is_whole_nothing_starts_over(copy):
    from cwm_jax.worldmodel.models.local import LocalModel

    for step in saved_steps(copy):
        cut(largest_file(copy / "checkpoints" / str(step) / "state"))
    one, two = saved_steps(copy)
    with pytest.raises(DamagedCheckpoint, match=f"step {two}: .*; step {one}: .*delete this folder to start") as raised:
        LocalModel(copy)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("damage, words", [(Path.unlink, "is gone"), (cut, "is damaged: 0 of its")])
def test_lost_rows_and_rows_cut_off_are_named(damage, words, copy, gin_file):
    rows = max((copy / "data").glob("rows-*.array_record"))
    damage(rows)
    with pytest.raises((FileNotFoundError, ValueError), match=f"{rows}.* {words}.*delete manifest.json"):
        BucketedBatches(config.load([gin_file], [], Experiment).data.ready(copy), StreamConfig(), 40)


def test_rows_gone_bad_cost_no_step_and_are_made_again(runs, copy, trained_run):
    for rows in (copy / "data").glob("rows-*.array_record"):
        for share in (0.1, 0.2, 0.3):  # the file opens; the rows there cannot be read
            flip(rows, share)
    ended = runs(copy)
    assert ended.returncode == 2 and ".array_record is damaged" in ended.stderr, ended.stderr
    assert "delete manifest.json beside it and give the same command again" in ended.stderr
    assert saved_steps(copy)[-1] == last_step(copy) < 40

    (copy / "data" / "manifest.json").unlink()
    ended = runs(copy)
    assert ended.returncode == 0, ended.stderr
    assert_same_end(copy, trained_run)
    assert told_steps(copy) == list(range(1, 41))  # nothing was done twice


def test_a_full_disk_stops_with_the_fix_and_loses_nothing(runs, stopped, tmp_path, trained_run):
    if os.getuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    used = sum(path.stat().st_size // 4096 + 1 for path in stopped[0].rglob("*")) * 4096
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={used + 100_000}", "tmpfs", disk], capture_output=True)
    if mount.returncode:
        pytest.skip(f"no tmpfs here: {mount.stderr}")
    try:
        out = Path(shutil.copytree(stopped[0], disk / "run"))
        before = saved_steps(out)
        ended = runs(out)
        assert ended.returncode == 1 and "MiB are free there. Make room" in ended.stderr, ended.stderr
        assert str(out) in ended.stderr and "Orbax" not in ended.stderr and saved_steps(out) == before
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        ended = runs(out)
        assert ended.returncode == 0, ended.stderr
        assert_same_end(out, trained_run)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_updates_gone_infinite_stop_the_run_and_leave_the_last_good_checkpoint(stopped, gin_file, tmp_path):
    """A learning rate that explodes after 13 healthy steps."""
    gin = tmp_path / "explodes.gin"
    explodes = f"Experiment.schedule = @WarmupCosine()\nWarmupCosine.warmup = {13 * 1024}\n"
    explodes += f"WarmupCosine.horizon = {21 * 1024}\nWarmupCosine.final = -1e30"  # 1,024 tokens a step
    gin.write_text(gin_file.read_text().replace("WarmupConstantDecay.warmup = 5", explodes))
    shutil.copytree(stopped[0] / "data", tmp_path / "run" / "data")
    ended = Runs(gin)(tmp_path / "run")
    assert ended.returncode == 1, ended.stderr
    assert "4 steps in a row were skipped, up to step 17" in ended.stderr, ended.stderr
    assert "a value is not finite" in ended.stderr and "update norm inf" in ended.stderr
    assert saved_steps(tmp_path / "run") == [8]  # step 16 was due, amid bad ones
    told = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["skipped"] for line in told] == [0] * 13 + [1, 2, 3, 4]
    assert told[-1]["update_norm"] is None and all(line["loss"] < 7 for line in told)  # the weights took no harm


def test_a_folder_in_which_another_process_trains_is_refused(runs, copy):
    before = told_steps(copy)
    with in_use(copy):
        done = runs(copy)
    assert done.returncode == 2 and f"process {os.getpid()} works in {copy}" in done.stderr
    assert told_steps(copy) == before


def test_a_finished_run_whose_checkpoints_are_gone_trains_again(runs, copy, trained_run):
    assert runs(copy).returncode == 0 and (copy / "results.json").exists()
    shutil.rmtree(copy / "checkpoints")
    assert runs(copy).returncode == 0
    assert_same_end(copy, trained_run)
