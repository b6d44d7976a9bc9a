"""Wrong settings, projects, quotas and topologies: a message that says so, before anything starts."""

import pytest
from fake_cloud import EXPERIMENT

STARTS = {"create", "cp", "ssh", "delete"}


def refused(project, *arguments: str, **settings: str | None) -> str:
    """The message; asserts that nothing was started."""
    done = project.script("submit", *(arguments or [EXPERIMENT]), **settings)
    assert done.returncode == 2, done
    assert not [call for call in project.calls if STARTS & set(call)]
    assert not (project.root / "runs").exists()
    return done.stderr


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"TOPOLOGY": "v5p-256"}, "TOPOLOGY=v5p-256: write generation:shape in chips, such as v5p:4x4x8"),
        ({"TOPOLOGY": "v9:2x2x1"}, "the generations are v4, v5e, v5p, v6e, tpu7x"),
        ({"TOPOLOGY": "v5p:4x4x5"}, "a slice of v5p is 2x2x1, 2x2x2, 2x2x4, 2x4x4, or three multiples of 4"),
        ({"TOPOLOGY": "v5p:8x4x4"}, "in rising order such as 4x4x8"),
        ({"TOPOLOGY": "v5p:4x08x8"}, "a slice of v5p is"),
        ({"TOPOLOGY": "v5p:16x20x24"}, "at most 6144 chips"),
        ({"TOPOLOGY": "v6e:4x4x4"}, "a slice of v6e is 1x1, 2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16, with at most 256"),
        ({"TOPOLOGY": "v5e:"}, "a slice of v5e is"),
        ({"TOPOLOGY": "tpu7x:4x4x8"}, "tpu7x is on GKE only, use TARGET=gke"),
        ({"TOPOLOGY": None}, "TOPOLOGY is not set"),
        ({"SLICES": "0"}, "SLICES=0: write a number from 1 on"),
        ({"SLICES": "2", "TARGET": "vm"}, "use TARGET=queued or gke for several"),
        ({"TARGET": "slurm"}, "TARGET=slurm: write gke (xpk), queued (queued resources) or vm"),
        ({"TARGET": "gke", "CLUSTER": None}, "CLUSTER is not set"),
        ({"PROJECT": None}, "PROJECT is not set: see the settings in tpu_scripts/README.md"),
        ({"NAME": "My_Run"}, "NAME=My_Run: write at most 40 small letters"),
        ({"NAME": "a" * 41}, "at most 40"),
        ({"OUT": "runs/x"}, "OUT=runs/x: write gs://bucket/folder, or the absolute path"),
        ({"OUT": None}, "write gs://bucket/folder"),
        ({"OUT": "/mnt/runs"}, "CODE is not set"),
        ({"CAPACITY": "cheap"}, "CAPACITY=cheap: write on-demand, spot or reserved"),
        ({"DRY_RUN": "yes"}, "DRY_RUN=yes: set it to 1"),
    ],
)
def test_settings(project, settings, message):
    assert message in refused(project, **settings)


@pytest.mark.parametrize(
    "part, output, status, settings, message",
    [
        ("auth list", "", 0, {}, "gcloud has no account: run gcloud auth login"),
        ("projects describe", "", 1, {}, "PROJECT=my-project cannot be read as me@example.com"),
        ("accelerator-types", "", 1, {}, "ZONE=us-east5-a offers no v5p-256 (that is v5p:4x4x8) to my-project"),
        ("quotas info", "", 1, {}, "the quotas of my-project cannot be read"),
        ("quotas info", "255", 0, {}, "ForTPUAPI in us-east5-a is 255 cores, 1 of v5p:4x4x8 need 256"),
        ("quotas info", "511", 0, {"SLICES": "2"}, "2 of v5p:4x4x8 need 512"),
        ("quotas info", "0", 0, {"CAPACITY": "spot"}, "quota TPUV5PPreemptiblePerProjectPerZoneForTPUAPI"),
        ("quotas info", "3", 0, {"TARGET": "vm", "TOPOLOGY": "v5e:2x2"}, "quota TPUV5sLitepodServingPerProject"),
        ("get-credentials", "", 1, {"TARGET": "gke"}, "CLUSTER=my-cluster cannot be reached in us-east5"),
        ("get configmap", "", 1, {"TARGET": "gke"}, "was not made by xpk: xpk cluster create --cluster=my-cluster"),
        ("get configmap", '{"v6e-16":"4"}', 0, {"TARGET": "gke"}, "has no v5p-256 (that is v5p:4x4x8)"),
        ("get configmap", '{"v5p-256":"63"}', 0, {"TARGET": "gke", "SLICES": "2"}, "63 VMs of v5p-256, 2 of"),
    ],
)
def test_cloud(project, part, output, status, settings, message):
    project.answers = [(part, output, status)]
    assert message in refused(project, **settings)


@pytest.mark.parametrize(
    "part, output, settings",
    [
        ("quotas info", "256", {}),
        ("quotas info", "-1", {}),
        ("quotas info", "", {}),
        ("quotas info", "0", {"CAPACITY": "reserved"}),
        ("get configmap", '{"v5p-256":"32"}', {"TARGET": "gke"}),
        ("get configmap", '{"tpu-v5p-slice":"AUTOPROVISION"}', {"TARGET": "gke"}),
        ("get configmap", '{"tpu7x-256":"32"}', {"TARGET": "gke", "TOPOLOGY": "tpu7x:4x4x8"}),
    ],
)
def test_enough_is_enough(project, part, output, settings):
    project.answers = [(part, output, 0)]
    done = project.script("check", EXPERIMENT, **settings)
    assert done.returncode == 0, done.stderr
    assert ("cannot tell the quota" in done.stderr) == (output == "")


@pytest.mark.parametrize("tool, target", [("gcloud", "queued"), ("xpk", "gke"), ("kubectl", "gke")])
def test_missing_tools(project, tool, target):
    (project.bin / tool).unlink()
    assert f"{tool} is not installed" in refused(project, TARGET=target)
    assert project.script("submit", EXPERIMENT, TARGET=target, DRY_RUN="1").returncode == 0


def test_experiments(project):
    assert "which experiment?" in refused(project, "--gin.Experiment.steps=10")
    assert "there is no experiment experiments/none.gin; experiments/README.md lists" in refused(
        project, "experiments/none.gin"
    )
    assert "--steps=3: after the experiment come --gin.Class" in refused(project, EXPERIMENT, "--steps=3")
    (project.root / "experiments/new.gin").write_text("Experiment.steps = 1\n")
    assert "experiments/new.gin is not committed, and only commits are sent" in refused(project, "experiments/new.gin")


@pytest.mark.parametrize("script", ["logs", "drill"])
def test_workers(project, script):
    done = project.script(script, "first")
    assert done.returncode == 2 and "first: write the number of a worker" in done.stderr and project.calls == []
