"""What `rl.sh` runs: the golden files hold its dry runs, its words reach `python -m cwm_jax rl`, its JobSet is one.

After a wanted change: GOLDEN=write pytest tests/tpu_scripts/test_rl_launch.py, then review the diff.
"""

import os
import shlex
import stat
import subprocess

import pytest
import yaml
from fake_cloud import EXPERIMENT, ROOT

GOLDEN = ROOT / "tests" / "golden" / "tpu_scripts"
SHARED = {"OUT": "/mnt/my runs", "CODE": "gs://b/c"}
SLICES = {"NAME": "my-rl", "TOPOLOGY": "v5p:4x8x8", "SAMPLERS": "3", "ENVIRONMENTS": "2", **SHARED}
TARGETS = {
    "rl-queued": {"TARGET": "queued", "CAPACITY": "spot"},
    "rl-gke": {"TARGET": "gke", "PREPARE": "mount '/x y'"},
}
WORDS = [EXPERIMENT, "--gin.Rl.steps=10", '--gin.Name.text="it\'s $HOME"']


@pytest.mark.parametrize("variant", TARGETS)
def test_dry_run_is_the_golden_one_and_runs_nothing(project, variant):
    settings, shown = SLICES | TARGETS[variant], ""
    for arguments in (WORDS, ["--delete"]):
        done = project.script("rl", *arguments, "--dry-run", **settings)
        assert (done.returncode, done.stderr) == (0, "")
        shown += f"# {arguments[0]}\n{done.stdout}"
    assert project.calls == []
    path = GOLDEN / f"{variant}.txt"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(shown)
    assert shown == path.read_text()


@pytest.mark.parametrize("variant", TARGETS)
def test_pasted_lines_of_a_dry_run_do_what_the_script_does(project, variant):
    settings = SLICES | TARGETS[variant]
    project.answers = [("quotas info list", "1024", 0), ("get configmap", '{"v5p-512":"64"}', 0)]
    done = project.script("rl", *WORDS, **settings)
    assert done.returncode == 0, done.stderr
    run = project.calls
    shown = project.script("rl", *WORDS, "--dry-run", **settings).stdout
    assert project.bash("-ec", shown).returncode == 0
    assert project.calls == run != []


def jobs(project) -> dict[str, dict]:
    """The jobs of the JobSet that was applied, by name."""
    (jobset,) = yaml.safe_load_all((project.root / "runs/submit/my-rl.yaml").read_text())
    assert (jobset["kind"], jobset["metadata"]["name"]) == ("JobSet", "my-rl")
    assert jobset["spec"]["successPolicy"]["targetReplicatedJobs"] == ["board"]
    return {job["name"]: job for job in jobset["spec"]["replicatedJobs"]}


def test_the_jobset_has_the_slices(project):
    project.answers = [("get configmap", '{"v5p-512":"64"}', 0)]
    assert project.script("rl", *WORDS, **SLICES, **TARGETS["rl-gke"]).returncode == 0
    found = jobs(project)
    assert list(found) == ["board", "environments", "samplers", "learner"]
    pods = {name: (job["replicas"], job["template"]["spec"]["parallelism"]) for name, job in found.items()}
    assert pods == {"board": (1, 1), "environments": (1, 2), "samplers": (3, 1), "learner": (1, 64)}
    for name, shape in (("samplers", "2x2x1"), ("learner", "4x8x8")):
        pod = found[name]["template"]["spec"]["template"]["spec"]
        assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == shape
        assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": 4}
    tries = {name: job["template"]["spec"]["backoffLimit"] for name, job in found.items()}
    assert tries["learner"] == 0 < tries["samplers"]


RAY = """#!/bin/sh
printf '%s\\n' "ray $*" >>"$CALLS"
case "$*" in *--address*--block) kill $PPID;; esac
"""
PYTHON = """#!/bin/sh
printf '%s\\0' "$@" >"$CALLS.rl"
"""


def plays(project, call: str, **env: str) -> subprocess.CompletedProcess:
    """A machine of the run that is set up; `ray` and `python` only note their calls."""
    venv = project.root / ".venv" / "bin"
    venv.mkdir(parents=True, exist_ok=True)
    for name, script in (("ray", RAY), ("python", PYTHON)):
        (venv / name).write_text(script)
        (venv / name).chmod(stat.S_IRWXU)
    for name in ("requirements.txt", "requirements-tpu.txt"):
        (project.root / name).write_text("")
    (project.root / ".venv" / ".requirements-tpu").write_text("")
    return project.bash("-c", f"bash tpu_scripts/worker/{call}", **env)


def noted(project) -> str:
    path = project.root.parent / "calls"
    said = path.read_text()
    path.unlink()
    return said


def received(project) -> list[str]:
    """What `python` was called with."""
    return (project.root.parent / "calls.rl").read_text().split("\0")[:-1]


RL = ["-m", "cwm_jax", "rl", f"--gin_file={EXPERIMENT}", *WORDS[1:], "--out", "/mnt/my runs"]


def test_each_pod_of_the_jobset_plays_its_role(project):
    project.answers = [("get configmap", '{"v5p-512":"64"}', 0)]
    project.script("rl", *WORDS, **SLICES, TARGET="gke")
    pods = {"board-0-0": "board", "environments-0-1": "env-1", "samplers-2-0": "sampler-2", "learner-0-63": "learner"}
    found = jobs(project)
    for pod, role in pods.items():
        job = found[pod.partition("-")[0]]
        command = job["template"]["spec"]["template"]["spec"]["containers"][0]["command"][2]
        done = plays(project, command.partition("tpu_scripts/worker/")[2], HOSTNAME=f"my-rl-{pod}")
        assert done.returncode == 0, done.stderr
        assert received(project) == [*RL, "--role", role]


def test_each_machine_joins_ray_and_the_first_host_of_the_learner_runs_it(project):
    words = shlex.join(RL[3:])
    done = plays(project, f"ray.sh learner head 64 {words}", TPU_WORKER_ID="0")
    assert done.returncode == 0, done.stderr
    assert noted(project) == 'ray start --address=head:6379 --resources={"learner": 64}\n'
    assert received(project) == [*RL, "--address", "auto"]
    for call, worker, role, amount in (
        (f"learner head 64 {words}", "3", "learner", 64), ("sampler head 1", "0", "sampler", 1),
        ("sampler head 2", "1", "sampler-7", 2), ("environments head", "0", "environments", 1),
    ):  # fmt: skip
        done = plays(project, f"ray.sh {call}", TPU_WORKER_ID=worker, TPU_NAME="my-rl-sampler-7")
        assert done.returncode == 143, "it leaves when it is told to"
        assert noted(project) == f'ray start --address=head:6379 --resources={{"{role}": {amount}}} --block\n'
    plays(project, "ray.sh head head")
    assert noted(project).startswith("ray start --head --port=6379")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"TARGET": "vm"}, "use queued or gke"),
        ({"OUT": "gs://b/runs"}, "buckets keep no links"),
        ({"SAMPLERS": "0"}, "numbers from 1 on"),
        ({"SLICES": "2"}, "the learner is one slice"),
        ({"SAMPLER_TOPOLOGY": "v5p:3x3x3"}, "a slice of v5p is"),
    ],
)
def test_bad_settings_say_what_to_write(project, settings, complaint):
    done = project.script("rl", EXPERIMENT, "--dry-run", **SHARED | settings)
    assert done.returncode == 2 and complaint in done.stderr
