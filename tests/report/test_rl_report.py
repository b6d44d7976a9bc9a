import json
import random
import re
import shutil
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from cwm_jax.report.plots import line_plot
from cwm_jax.report.rl import rl_report, rl_tensorboard
from cwm_jax.report.rl.drawing import KINDS
from cwm_jax.report.rl.told import AGES, WAITING
from cwm_jax.rl import objective

ENVIRONMENTS = ("trace", "<b>&bash")
FIGURES = (
    *(f"{what}, {name}" for name in ("trace", "&lt;b&gt;&amp;bash") for what in ("Reward", "Passed", "Length")),
    "Age of tokens", "Where age comes from", "Versions in a trajectory", "Oldest token", "Clipped, by age",
    "Gap of log-probability, by age", "Divergence (k3), by age", "Effective share of samples, by age",
    "Versions over time", "From announced to in use", "Solve rates", "Useful tokens", "Objective", "Surprise",
    "Gradient norm", "Loss on observations", "Tokens a step", "Tokens left out",
)  # fmt: skip
SECTIONS = ("Reward", "Staleness", "Distance from the policy that drew", "Where the time goes", "Versions", "Groups",
            "Updates", "Configuration")  # fmt: skip
STEPS, BEGAN = 12, 1_700_000_000.0


def learner_row(step: int) -> dict:
    """As `LearnerRole` writes it."""
    told = random.Random(step)
    means = {name: [told.random(), told.random(), None, told.random(), None]
             for name in ("gap", "k1", "k3", "ratio", "ess", "clip_low", "clip_high")}  # fmt: skip
    return {
        "began": BEGAN, "time": BEGAN + 10 * step, "step": step, "version": step, "gradient_norm": told.random(),
        "left_out": 2.0, "objective": told.gauss(0, 1e-3), "observation_loss": 3.0, "skipped": 0, "surprise": 0.5,
        "tokens": 60.0, "by_age": {"tokens": [20.0, 30.0, 0.0, 10.0, 0.0], **means}, "age": [20, 30, 0, 10],
        "oldest": 3, "newest": 0, "rejected": {"zero advantage": 2}, "in_queue": 0.5, "in_flight": 0.25,
        "segments": 1.5, "useful": 0.9, "statuses": {"lost <i>": 1} if step == 3 else {},
        "reward": {name: step / STEPS for name in ENVIRONMENTS}, "pass": {name: 0.5 for name in ENVIRONMENTS},
        "length": {name: 40.0 for name in ENVIRONMENTS}, "cut": {name: 0.0 for name in ENVIRONMENTS},
        "solve_rates": [1, 0, 0, 2, 0, 0, 0, 0, 0, 1], "solved": {f"task/{step}": 0.5},
        "hours": {"wait_batch": 4.0 * step, "fwd_bwd": 5.0 * step, "other": 1.0 * step}, "epoch": 1,
    }  # fmt: skip


def sampler_row(host: int, began: float, versions: range) -> dict:
    taken = [{"announced": began + 10 * one, "seen": began + 10 * one + 0.1, "loaded": began + 10 * one + 0.3,
              "version": one, "swapped": began + 10 * one + 0.4 + host} for one in versions]  # fmt: skip
    return {"began": began, "time": began + 50, "version": versions[-1], "made": 100, "read": 200, "reread": 3,
            "swaps": len(taken), "duplicates": 0, "lease_retries": 0, "weights": taken,
            "hours": {"decode": 20.0, "wait_request": 5.0, "wait_env": 5.0, "other": 10.0}}  # fmt: skip


def write_lines(path, rows: list[dict], rest: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + rest)


@pytest.fixture
def finished(tmp_path):
    """The folder of a run whose second host was killed once."""
    run = tmp_path / "runs" / "a&b"
    hours_only = {"began": BEGAN, "time": BEGAN + 1, "hours": {"wait_batch": 1.0}, "epoch": 1}
    again = {**learner_row(2), "reward": dict.fromkeys(ENVIRONMENTS, -7.0)}  # made again: the other counts
    rows = [hours_only, learner_row(1), again, *map(learner_row, range(2, STEPS + 1))]
    write_lines(run / "metrics" / "learner.jsonl", rows, '{"began": 17000')
    write_lines(run / "metrics" / "sampler-0.jsonl", [sampler_row(0, BEGAN, range(1, 9))])
    lives = [
        sampler_row(1, BEGAN, range(1, 3)),
        sampler_row(1, BEGAN, range(3, 5)),
        sampler_row(1, BEGAN + 60, range(5, 8)),
    ]
    write_lines(run / "metrics" / "sampler-1.jsonl", lives)
    hours = {"boot": 1.0, "exec": 2.0, "close": 0.5, "idle": 6.0, "other": 0.5}
    write_lines(run / "metrics" / "env.jsonl", [{"began": BEGAN, "time": BEGAN + 10, "hours": hours, "episodes": 3}])
    (run / "held_out").mkdir()
    for version, step, reward in ((1, 0, 0.1), (13, 12, 0.9), (7, 6, 0.4)):
        measured = {name: {"n": 8, "failed": 0, "reward": reward, "pass": reward / 2, "tokens": 4.0}
                    for name in ENVIRONMENTS}  # fmt: skip
        told = {"version": version, "step": step, "environments": measured}
        (run / "held_out" / f"{version}.json").write_text(json.dumps(told))
    (run / "results.json").write_text(json.dumps({
        "identity": {"issued": 60, "consumed": 40, "rejected": 15, "sealed": 3, "in_flight": 2, "residual": 0},
        "rejected": {"zero advantage": 14, "too <u>": 1}, "versions": {"published": 13, "epochs": 1, "taken": 15},
        "kills_survived": 1, "restarts": {"sampler-1": 1}, "tickets_again": 4, "minutes": 2.5,
    }))  # fmt: skip
    (run / "config.gin").write_text("Rl.steps = 12  # </pre>\n")
    (run / "config.json").write_text('{"steps": 12}')
    return run


def scalars(run) -> dict[str, dict[int, float]]:
    """Values by tag and step, from the records of the one TensorBoard file."""
    (path,) = (run / "tensorboard").iterdir()
    data, place, found = path.read_bytes(), 0, {}
    while place < len(data):
        (size,) = struct.unpack_from("<Q", data, place)
        event = Event.FromString(data[place + 12 : place + 12 + size])  # a length and its checksum stand before it
        place += 16 + size
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def main_of(path) -> str:
    return path.read_text(encoding="utf-8").split("<main>")[1].split("</main>")[0]


def test_a_finished_run_shows_every_figure_and_says_what_to_look_for(finished):
    page = main_of(rl_report(finished))
    assert set(re.findall(r"<figcaption>(.*?) <span>", page)) == set(FIGURES)
    assert re.findall("<h2[^>]*>(.*?)</h2>", page) == list(SECTIONS)
    explained = re.findall(r"<figcaption>([^<]*) <span>(?:(?!</figure>).)*</figure><p>", page, re.DOTALL)
    assert set(FIGURES) - set(explained) == {f for f in FIGURES if f.endswith("bash")}, "said once for all environments"


def test_key_figures(finished):
    figures = main_of(rl_report(finished)).split("</dl>")[0]
    for text in (
        "0.10 → 0.90", "passed 5.0 % → 45.0 %", "residual 0", "60 issued = 40 learnt from", "13", "taken 15 times",
        "1.00", "the oldest 3", "40.0 %", "25.0 %", "60.0 %", "sampler-1 1",
    ):  # fmt: skip
        assert text in figures, text


def test_a_ledger_adds_up_over_all_lives(finished):
    page = main_of(rl_report(finished))
    hosts = page[page.index('id="inference-hosts"') : page.index('id="environments"')]
    rows = {name: re.findall(r"<td>(?:<span[^>]*>)?([\d.]+)", cells)
            for name, cells in re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', hosts)}  # fmt: skip
    assert rows["decode"] == ["20.0", "40.0"] and rows["together"] == ["40.0", "80.0"] and rows["lives"] == ["1", "2"]
    assert rows["on the clock"] == ["50.0", "100.0"]


def test_names_are_escaped_and_nothing_is_loaded(finished):
    page = rl_report(finished).read_text(encoding="utf-8")
    assert not re.search(r"<(b|i|u)>|<h1>a&b|# </pre>", page) and "lost &lt;i&gt;" in page and "too &lt;u&gt;" in page
    assert not re.search(r'(src|href)="(?!#|data:)', page) and str(finished.parent.parent) not in page


def test_a_step_that_was_made_again_counts_as_told_last(finished):
    assert '"-7"' not in "".join(re.findall(r'application/json">(.*?)</script>', main_of(rl_report(finished))))
    assert scalars(finished)["reward/trace"][2] == pytest.approx(2 / STEPS)


def test_tensorboard_holds_the_same_scalars(finished):
    rl_report(finished)
    found = scalars(finished)
    for name in ENVIRONMENTS:
        assert found[f"reward/{name}"] == pytest.approx({step: step / STEPS for step in range(1, STEPS + 1)})
        assert found[f"held_out/reward/{name}"] == pytest.approx({0: 0.1, 6: 0.4, 12: 0.9})
    assert found["by_age/tokens/4-7"] == {step: 10.0 for step in range(1, STEPS + 1)}
    assert found["sampler-1/seconds_since_announced/swapped"][7] == pytest.approx(1.4)
    assert "surprise" in found and not any("task/" in tag or tag.startswith(("age/", "began")) for tag in found)


def test_tensorboard_is_written_anew(finished):
    rl_tensorboard(finished)
    first = scalars(finished)
    (finished / "tensorboard" / "events.out.tfevents.1.older").write_bytes(b"")
    (finished / "tensorboard.part").mkdir()  # of one who was killed
    rl_tensorboard(finished)
    assert scalars(finished) == first and not (finished / "tensorboard.part").exists()


@pytest.mark.parametrize("missing", ["results.json", "metrics", "held_out", "config.gin", "config.json",
                                     *(f"metrics/{one}.jsonl" for one in ("learner", "sampler-0", "env"))])  # fmt: skip
def test_what_is_missing_is_left_out(finished, missing):
    path = finished / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = main_of(rl_report(finished))
    gone = {"metrics": "Updates", "metrics/learner.jsonl": "Updates"}.get(missing)
    sections = re.findall("<h2[^>]*>(.*?)</h2>", page)
    assert gone not in sections and "Reward" in sections


@pytest.mark.parametrize("rest", ["", '{"step": 1, "rew'])
def test_a_run_without_a_step_gives_a_page(tmp_path, rest):
    assert "No role has told anything yet" in main_of(rl_report(tmp_path))
    assert scalars(tmp_path) == {}
    hours = {"began": BEGAN, "time": BEGAN, "hours": {"wait_batch": 0.0, "other": 0.0}, "epoch": 1}
    write_lines(tmp_path / "metrics" / "learner.jsonl", [hours], rest)
    write_lines(tmp_path / "metrics" / "sampler-0.jsonl", [], rest)
    assert "Where the time goes" in main_of(rl_report(tmp_path))


def test_one_step_is_drawn_as_dots_and_what_is_not_finite_is_left_out(tmp_path):
    row = {**learner_row(1), "gradient_norm": float("nan"), "age": [], "by_age": {}, "solve_rates": [0] * 10}
    write_lines(tmp_path / "metrics" / "learner.jsonl", [row])
    page = main_of(rl_report(tmp_path))
    assert "<circle" in page and "Surprise" in page
    assert not any(text in page for text in ("Gradient norm", "Age of tokens", "by age", "Solve rates"))


def test_half_a_line_in_the_middle_costs_that_line_alone(finished):
    path = finished / "metrics" / "learner.jsonl"
    rows = [json.dumps(learner_row(step)) for step in (1, 2, 3)]
    path.write_text("\n".join([rows[0], rows[1][:50] + rows[1], rows[2]]))
    rl_report(finished)
    assert list(scalars(finished)["surprise"]) == [1, 3]


def test_a_long_run_gives_a_page_that_is_not_longer(tmp_path):
    write_lines(tmp_path / "metrics" / "learner.jsonl", [learner_row(step) for step in range(1, 2001)])
    assert rl_report(tmp_path).stat().st_size < 1_000_000
    assert len(scalars(tmp_path)["surprise"]) == 2000


def test_only_points_that_were_asked_for_are_dots():
    lines = {"a": [(0, 1), (1, 2)], "b": [(0, 2), (1, 3), (2, 1)], "c": [(1, 1)]}
    markup = line_plot("t", lines, "x", "y", dotted=("b",)).html
    assert re.findall(r'<circle class="(s\d)"', markup) == ["s1", "s1", "s1", "s2"] * 2


def test_what_is_known_of_the_roles_is_what_they_say():
    """The report reads files alone, so it cannot ask."""
    assert [int(re.match(r"\d+", name)[0]) for name in AGES] == list(objective.AGES)
    assert list(KINDS) == list(WAITING)
