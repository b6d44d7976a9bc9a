"""Projects are built in an environment of their own, and their tests run where they can do no harm."""

import socket
import subprocess
import tarfile

import pytest
from tiny_project import BAD, BUILDER, FILES

from cwm_jax.repos import Builder, NotBuilt, SuiteLimits, run_tests
from cwm_jax.repos.build import _unpack

SHORT = SuiteLimits(wall_seconds=60, test_seconds=1.0)


def test_a_green_project(good):
    outcome = run_tests(good, SHORT)
    assert (outcome.verdict, outcome.failed, outcome.detail) == ("green", {}, "")
    assert [name.partition("::")[2] for name in outcome.passed] == [
        "test_counter", "test_plain", "test_raises", "test_changing"
    ]  # fmt: skip


def test_the_environment_is_its_own(good):
    answer = subprocess.run(
        [good.python, "-c", "import tiny.plain, sys; print(tiny.plain.__file__, sys.prefix); import numpy"],
        capture_output=True, text=True,
    )  # fmt: skip
    path, prefix = answer.stdout.split()
    assert path.startswith(prefix) and prefix == str(good.environment)
    assert "No module named 'numpy'" in answer.stderr


def test_harm_is_contained_and_the_rest_goes_on(tiny):
    mark = tiny.folder / "tiny" / "mark"
    with socket.create_server(("127.0.0.1", 0)) as server:
        text = BAD.replace("MARK", str(mark)).replace("PORT", str(server.getsockname()[1]))
        build = tiny.build(test_bad=text, test_good=FILES["tests/test_good.py"])
        outcome = run_tests(build, SHORT)
    assert outcome.verdict == "tests fail"
    reasons = {name.partition("::")[2]: detail for name, detail in outcome.failed.items()}
    assert reasons.keys() == {"test_hangs", "test_writes_outside", "test_opens_a_socket", "test_wrong"}
    assert "more than 1.0 seconds" in reasons["test_hangs"]
    assert "Error" in reasons["test_writes_outside"] and "Error" in reasons["test_opens_a_socket"]
    assert not mark.exists() and (build.source / "src").exists()
    assert {"test_wipes_its_folder", "test_plain"} <= {name.partition("::")[2] for name in outcome.passed}


STUBBORN = """
    def test_cannot_be_interrupted():
        while True:
            try:
                while True:
                    pass
            except BaseException:
                pass
    """


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("def test_hangs():\n    while True: pass", "tests hang"),
        (STUBBORN, "tests hang"),
        ("x = 1", "no tests"),
        ("import pytest\n@pytest.mark.skip\ndef test_x(): pass", "no tests"),
        ("import nowhere", "tests cannot be collected"),
        ("import nowhere\ndef test_x(: pass", "tests cannot be collected"),
        ("import os\ndef test_dies(): os.abort()", "the run died"),
        ("def test_fails(): assert False", "tests fail"),
    ],
)
def test_why_a_project_is_not_green(tiny, text, verdict):
    outcome = run_tests(tiny.build(test_it=text), SuiteLimits(wall_seconds=8, test_seconds=1.0))
    assert outcome.verdict == verdict and outcome.detail


def test_a_build_is_found_again_and_not_mixed_up(good, tmp_path):
    folder = good.source.parent
    assert Builder().build(str(folder.parent / "tiny"), folder) == good
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="holds tiny, not other"):
        Builder().build(str(tmp_path / "other"), folder)


def test_what_cannot_be_built_has_a_reason(tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "pyproject.toml").write_text("[build-system]\nrequires = []\nbuild-backend = 'nowhere'\n")
    with pytest.raises(NotBuilt, match=r"^build failed$") as caught:
        Builder(pip=("--no-index", "--no-build-isolation")).build(str(tmp_path / "broken"), tmp_path / "built")
    assert "nowhere" in caught.value.detail
    with pytest.raises(ValueError, match="NAME==VERSION"):
        Builder().build("inflection", tmp_path / "unpinned")


def test_a_source_distribution_that_reaches_out_is_refused(tmp_path):
    (tmp_path / "x").write_text("x")
    with tarfile.open(tmp_path / "evil-1.0.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "x", "../outside")
    with pytest.raises(NotBuilt, match="cannot be unpacked"):
        _unpack(tmp_path / "evil-1.0.tar.gz", tmp_path / "source")
    assert not (tmp_path.parent / "outside").exists()


def test_commits_of_a_repository(tiny, tmp_path):
    source = tiny.write()

    def git(*words: str) -> str:
        words = ["git", "-C", str(source), "-c", "user.name=nobody", "-c", "user.email=nobody@example.org", *words]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    revisions = []
    for factor in (2, 3):
        helper = source / "src/tiny/helper.py"
        helper.write_text(helper.read_text().replace("FACTOR = 2", f"FACTOR = {factor}"))
        git("add", ".")
        git("commit", "--quiet", "--message", f"factor {factor}")
        revisions.append(git("rev-parse", "HEAD"))
    for factor, revision in zip((2, 3), revisions):
        build = BUILDER.build(f"{source}@{revision}", tmp_path / revision)
        assert build.name == f"tiny@{revision}"
        call = [str(build.python), "-c", "from tiny.helper import double; print(double(5))"]
        assert subprocess.run(call, capture_output=True, text=True, check=True).stdout == f"{5 * factor}\n"
    with pytest.raises(NotBuilt, match="no such revision"):
        BUILDER.build(f"{source}@nothing", tmp_path / "nothing")
