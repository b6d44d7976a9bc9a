"""Whatever byte of a checkpoint changes, what is restored was saved."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwm_jax.checkpoints.training import Checkpoints, abstract

# Orbax leaves parts of a failed load unawaited, which Python tells of.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def state(step):
    return {"w": jnp.asarray(np.random.default_rng(step).normal(size=(64, 8)), "float32"), "step": jnp.int32(step)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    with Checkpoints(folder, 8) as checkpoints:
        for step in range(1, 17):
            if checkpoints.due(step):
                checkpoints.save(step, state(step))
    return folder


def restored(folder: Path):
    with Checkpoints(folder, 8) as checkpoints:
        return checkpoints.restore(abstract(state(0)))


def files(folder: Path):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_a_flipped_byte_anywhere_never_gives_other_numbers(saved, tmp_path):
    assert restored(saved)[0] == 16
    noticed = set()
    for name in files(saved / "16"):
        for share in (0.03, 0.45, 0.8):
            folder = Path(shutil.copytree(saved, tmp_path / "copy"))
            content = bytearray((folder / "16" / name).read_bytes())
            if content:
                content[int(share * len(content))] ^= 0x02
            (folder / "16" / name).write_bytes(content)
            step, found = restored(folder)
            assert step in (8, 16)
            jax.tree.map(np.testing.assert_array_equal, found, state(step))
            if step == 8:
                noticed.add(name.parts[0])
            shutil.rmtree(folder)
    assert {"state", "fingerprint"} <= noticed


def test_only_the_writer_clears_the_way(saved, tmp_path, capsys):
    folder = Path(shutil.copytree(saved, tmp_path / "copy"))
    (folder / "24.orbax-checkpoint-tmp").mkdir()
    shutil.rmtree(folder / "16" / "state")
    assert restored(folder)[0] == 8
    assert {path.name for path in folder.iterdir()} == {"8", "16", "24.orbax-checkpoint-tmp"}
    with Checkpoints(folder, 8) as checkpoints:
        checkpoints.set_aside(after=8)
        assert checkpoints.latest == 8 and checkpoints.due(16)
    assert {path.name.rpartition("-")[0] or path.name for path in folder.iterdir()} == {"8", "damaged-16"}
    told = capsys.readouterr().err
    assert "step 16 is damaged" in told and "step 24 was not written to its end" in told
