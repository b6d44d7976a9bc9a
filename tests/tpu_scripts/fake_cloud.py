"""A copy of the project in which the scripts really run; `gcloud`, `xpk` and `kubectl` only note their calls."""

import json
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXPERIMENT = "experiments/tiny/strawberry.gin"
SETTINGS = {
    "TARGET": "queued",
    "PROJECT": "my-project",
    "ZONE": "us-east5-a",
    "NAME": "strawberry",
    "TOPOLOGY": "v5p:4x4x8",
    "OUT": "gs://my-bucket/runs/strawberry",
    "CLUSTER": "my-cluster",
}
# What the scripts may use of a machine; nothing else is on PATH, no real gcloud for one.
TOOLS = ("bash", "git", "awk", "cut", "sed", "env", "cat", "grep", "wc", "tail", "dirname", "basename", "mkdir")
TOOLS += ("rm", "tar", "gzip", "sleep", "touch", "kill")
# (part of a call, what it prints, its exit status); the first that fits answers, calls that none fits succeed silently.
ANSWERS = [
    ("auth list", "me@example.com", 0),
    ("quotas info list", "1024", 0),
    ("get configmap", '{"v5p-256":"64"}', 0),
]
FAKE = """#!{python}
import json, os, sys
from pathlib import Path
call = [Path(sys.argv[0]).name, *sys.argv[1:]]
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps(call) + "\\n")
for part, output, status in json.loads(os.environ["ANSWERS"]):
    if part in " ".join(call):
        print(output)
        sys.exit(status)
"""


@dataclass
class Project:
    """`answers` come before ANSWERS, `settings` over SETTINGS (None unsets one)."""

    root: Path
    bin: Path
    answers: list[tuple[str, str, int]] = field(default_factory=list)
    settings: dict[str, str | None] = field(default_factory=dict)

    @property
    def calls(self) -> list[list[str]]:
        """The calls of gcloud, xpk and kubectl since the last look."""
        path = self.root.parent / "calls"
        calls = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        path.unlink(missing_ok=True)
        return calls

    def bash(self, *arguments: str, **settings: str | None) -> subprocess.CompletedProcess:
        environment = {
            "PATH": str(self.bin),
            "HOME": str(self.root.parent),
            "CALLS": str(self.root.parent / "calls"),
            "ANSWERS": json.dumps([*self.answers, *ANSWERS]),
        } | {name: value for name, value in (SETTINGS | self.settings | settings).items() if value is not None}
        command = [self.bin / "bash", *arguments]
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=60)

    def script(self, name: str, *arguments: str, **settings: str | None) -> subprocess.CompletedProcess:
        return self.bash(f"tpu_scripts/{name}.sh", *arguments, **settings)


def make_project(tmp_path: Path) -> Project:
    """A committed copy of the scripts and one experiment, under `tmp_path`."""
    root, tools = tmp_path / "project", tmp_path / "bin"
    tools.mkdir()
    for tool in TOOLS:
        (tools / tool).symlink_to(shutil.which(tool))
    for fake in ("gcloud", "xpk", "kubectl"):
        (tools / fake).write_text(FAKE.format(python=sys.executable))
        (tools / fake).chmod(stat.S_IRWXU)
    shutil.copytree(ROOT / "tpu_scripts", root / "tpu_scripts")
    (root / EXPERIMENT).parent.mkdir(parents=True)
    shutil.copy(ROOT / EXPERIMENT, root / EXPERIMENT)
    shutil.copy(ROOT / ".gitignore", root)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *words], cwd=root, check=True, env=os.environ | {"GIT_CONFIG_GLOBAL": os.devnull})
    return Project(root, tools)
