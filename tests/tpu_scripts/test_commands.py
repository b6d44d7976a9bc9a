"""What the scripts run: DRY_RUN shows exactly that, and the golden files hold it.

After a wanted change: GOLDEN=write pytest tests/tpu_scripts, then review the diff.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fake_cloud import EXPERIMENT, ROOT, SETTINGS

GOLDEN = ROOT / "tests" / "golden" / "tpu_scripts"
VERBS = ("submit", "resume", "status", "logs", "drill", "cleanup")
VARIANTS = {
    "gke": {"TARGET": "gke"},
    "gke-slices": {"TARGET": "gke", "SLICES": "2", "CREATE_FLAGS": "--priority=high", "PREPARE": "mount /mnt/runs"},
    "queued": {"TARGET": "queued"},
    "queued-slices": {"TARGET": "queued", "SLICES": "2", "CAPACITY": "spot", "TOPOLOGY": "v6e:16x16"},
    "vm": {"TARGET": "vm"},
    "vm-small": {
        "TARGET": "vm",
        "TOPOLOGY": "v5e:2x4",
        "OUT": "/mnt/my runs/a",
        "CODE": "gs://my-bucket/code.tar.gz",
        "PREPARE": "mountpoint -q /mnt || mount -t nfs 10.0.0.2:/runs /mnt",
        "CREATE_FLAGS": "--network=mine --internal-ips",
    },
}


def arguments(verb: str) -> list[str]:
    return [EXPERIMENT, "--gin.Experiment.steps=10", '--gin.Name.text="a b"'] if verb in ("submit", "resume") else []


@pytest.mark.parametrize("variant", VARIANTS)
def test_dry_run_is_the_golden_one_and_runs_nothing(project, variant):
    before = sorted(project.root.rglob("*"))
    shown = ""
    for verb in VERBS:
        done = project.script(verb, *arguments(verb), **VARIANTS[variant], DRY_RUN="1")
        assert (done.returncode, done.stderr) == (0, "")
        shown += f"# {verb}\n{done.stdout}"
    assert project.calls == []
    assert sorted(project.root.rglob("*")) == before
    path = GOLDEN / f"{variant}.txt"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(shown)
    assert shown == path.read_text()


@pytest.mark.parametrize("variant", VARIANTS)
def test_pasted_lines_of_a_dry_run_do_what_the_script_does(project, variant):
    quota = "-1" if variant == "queued-slices" else "1024"
    project.answers = [("quotas info list", quota, 0), ("get configmap", '{"v5p-256":"64"}', 0)]
    for verb in ("submit", "logs", "drill", "cleanup"):
        done = project.script(verb, *arguments(verb), **VARIANTS[variant])
        assert done.returncode == 0, done.stderr
        run = project.calls
        shown = project.script(verb, *arguments(verb), **VARIANTS[variant], DRY_RUN="1").stdout
        assert project.bash("-ec", shown).returncode == 0
        assert project.calls == run != []


@pytest.mark.parametrize("target", ["gke", "vm"])
def test_words_survive_every_shell_on_their_way(project, target):
    words = [
        f"--gin_file={EXPERIMENT}",
        "--gin.A.b='it's'",
        '--gin.A.c="$HOME `x` \\"',
        "--gin.A.d=*\n~#",
        "--gin.A.e=",
    ]
    project.script("submit", EXPERIMENT, *words[1:], TARGET=target, OUT="/mnt/my runs", CODE="gs://b/c")
    (create,) = [call for call in project.calls if "create" in call]
    (command,) = [word for word in create if "worker/train.sh" in word]
    received = project.bash("-c", f"printf '%s\\0' {command.partition('train.sh ')[2]}").stdout
    assert received.split("\0")[:-1] == [*words, "--out", "/mnt/my runs"]


def registered() -> list[str]:
    """The experiment files that the registry links to."""
    return re.findall(r"\]\((\S+\.gin)\)", (ROOT / "experiments" / "README.md").read_text())


@pytest.mark.parametrize("experiment", registered())
def test_any_experiment_of_the_registry(experiment):
    done = subprocess.run(
        [ROOT / "tpu_scripts" / "submit.sh", f"experiments/{experiment}"],
        env=os.environ | SETTINGS | {"DRY_RUN": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"train.sh --gin_file=experiments/{experiment} --out {SETTINGS['OUT']}" in done.stdout


def test_what_is_sent_is_the_commit(project):
    (project.root / EXPERIMENT).write_text("changed")
    (project.root / "new.txt").write_text("new")
    done = project.script("submit", EXPERIMENT, TARGET="gke")
    assert done.returncode == 0 and "uncommitted changes stay here" in done.stderr
    sent = project.root / "runs" / "submit" / "strawberry"
    assert (sent / EXPERIMENT).read_text() == (ROOT / EXPERIMENT).read_text()
    assert not (sent / "new.txt").exists()
    project.script("cleanup", TARGET="gke")
    assert not sent.exists()


def test_the_boot_script_is_a_script(project, tmp_path):
    project.script("submit", *arguments("submit"), **VARIANTS["vm-small"])
    (create,) = [call for call in project.calls if "create" in call]
    (metadata,) = [word for word in create if word.startswith("--metadata=")]
    script = tmp_path / "boot.sh"
    script.write_text(metadata.removeprefix("--metadata=^~~^startup-script="))
    assert script.read_text().startswith("#!/bin/bash\n")
    subprocess.run(["shellcheck", script], check=True, env=with_venv())


@pytest.mark.parametrize(
    "target, state, wanted",
    [
        ("queued", "ACTIVE", ["ssh strawberry-0", "ssh strawberry-1"]),
        ("queued", "WAITING_FOR_RESOURCES", []),
        ("queued", "SUSPENDED", ["queued-resources delete", "queued-resources create"]),
        ("queued", None, ["queued-resources create"]),
        ("vm", "READY", ["ssh strawberry"]),
        ("vm", "CREATING", []),
        ("vm", "PREEMPTED", ["tpu-vm delete", "tpu-vm create"]),
        ("vm", None, ["tpu-vm create"]),
        ("gke", "ended:", []),
        ("gke", "ended:Failed", ["workload delete", "workload create"]),
        ("gke", None, ["workload create"]),
    ],
)
def test_resume_does_what_the_state_asks_for(project, target, state, wanted):
    for part in ("queued-resources describe", "tpu-vm describe", "get jobset"):
        project.answers.append((part, state or "", 0 if state else 1))
    slices = "1" if target == "vm" else "2"
    done = project.script("resume", EXPERIMENT, TARGET=target, SLICES=slices)
    assert done.returncode == 0, done.stderr
    acts = [" ".join(call) for call in project.calls if {"ssh", "delete", "create"} & set(call)]
    assert len(acts) == len(wanted) and all(part in act for part, act in zip(wanted, acts)), acts


def test_status_of_nothing(project):
    project.answers = [("queued-resources describe", "", 1)]
    done = project.script("status")
    assert done.returncode == 2 and "there is no strawberry in us-east5-a of my-project" in done.stderr


def scripts() -> list[Path]:
    return sorted((ROOT / "tpu_scripts").rglob("*.sh"))


def with_venv() -> dict[str, str]:
    """The environment with the tools of this interpreter's venv, shellcheck for one, on PATH."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def test_shellcheck_finds_nothing():
    done = subprocess.run(["shellcheck", *scripts()], env=with_venv(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", scripts(), ids=lambda path: path.name)
def test_scripts_are_short_and_in_the_table(path):
    assert len(path.read_text().splitlines()) < 60
    if os.access(path, os.X_OK):
        assert f"`{path.relative_to(ROOT / 'tpu_scripts')}" in (ROOT / "tpu_scripts" / "README.md").read_text()


def test_settings_are_documented():
    readme = (ROOT / "tpu_scripts" / "README.md").read_text()
    for setting in [*SETTINGS, "SLICES", "CAPACITY", "CODE", "IMAGE", "LOCATION", "PREPARE", "CREATE_FLAGS", "DRY_RUN"]:
        assert f"| `{setting}` |" in readme, setting


def test_a_tpu_vm_gets_the_jax_that_is_tested_here():
    pins = (ROOT / "requirements-tpu.txt").read_text().splitlines()
    assert "-r requirements.txt" in pins
    (jax,) = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("jax==")]
    assert jax.replace("jax", "jax[tpu]", 1) in pins
