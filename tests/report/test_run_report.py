import json
import shutil

import pytest
from synthetic_run import write_run

from cwm_jax.report.run import metrics_by_step, run_report

SECTIONS = {
    "predictions.jsonl": ["Counting the r", 'id="traces"'],
    "evaluation.json": ["How often it is right", "What goes wrong", "state key match"],
    "results.json": ["412 k"],
    "metrics.jsonl": ['id="training"', "Learning rate"],
    "config.gin": ["How to reproduce"],
    "config.json": ["model.d_model"],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "tiny")


def test_a_finished_run_has_every_section(finished):
    page = run_report(finished).read_text(encoding="utf-8")
    for texts in SECTIONS.values():
        assert all(text in page for text in texts)
    assert page.index("Counting the r") < page.index("How often it is right") < page.index('id="traces"')
    assert str(finished.parent.parent) not in page, "no path of the machine on a page"
    assert f"--gin_file={finished.parent.name}/tiny/config.gin" in page


@pytest.mark.parametrize("missing", SECTIONS)
def test_what_is_missing_is_left_out(finished, tmp_path, missing):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / missing).unlink()
    page = run_report(folder).read_text(encoding="utf-8")
    if missing == "predictions.jsonl":  # the examples of the failures can still be browsed
        assert "Counting the r" not in page and 'id="traces"' in page
    else:
        assert not any(text in page for text in SECTIONS[missing])
    for other, texts in SECTIONS.items():
        assert other == missing or texts[-1] in page


def test_training_alone_gives_the_loss_curve(finished, tmp_path):
    shutil.copy(finished / "metrics.jsonl", tmp_path)
    page = run_report(tmp_path).read_text(encoding="utf-8")
    assert "Loss" in page and "4,000" in page and "How often" not in page and "traces" not in page.split("<main>")[1]


def test_an_empty_folder_gives_a_page(tmp_path):
    assert run_report(tmp_path).name == "report.html"


def test_repeated_steps_keep_what_was_told_last(tmp_path):
    rows = [(1, 5.0), (2, 4.0), (3, 3.0), (2, 2.5), (3, 2.0), (4, 1.0)]
    text = "".join(json.dumps({"step": step, "loss": loss}) + "\n" for step, loss in rows)
    (tmp_path / "m.jsonl").write_text(text + '{"step": 5, "lo')
    assert [(row["step"], row["loss"]) for row in metrics_by_step(tmp_path / "m.jsonl")] == [
        (1, 5.0), (2, 2.5), (3, 2.0), (4, 1.0)]  # fmt: skip
    assert metrics_by_step(tmp_path / "none.jsonl") == []


def test_a_broken_line_in_the_middle_is_an_error(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"step": 1, "lo\n{"step": 2, "loss": 1}\n')
    with pytest.raises(ValueError):
        metrics_by_step(tmp_path / "m.jsonl")


def test_every_example_can_be_browsed(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    evaluation = json.loads((folder / "evaluation.json").read_text())
    stranger = evaluation["sets"]["composed"]["failures"][0]["example"]
    stranger["name"] = "not_among_the_predictions"
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    page = run_report(folder).read_text(encoding="utf-8")
    assert page.count("not_among_the_predictions") == 1
    assert 'href="#trace-160"' in page, "it stands after the 160 predictions"


def test_losses_that_are_no_numbers_are_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": NaN}\n{"step": 2, "loss": 1.0}\n{"step": 3}\n')
    assert "Loss" in run_report(tmp_path).read_text(encoding="utf-8")


def test_pages_stay_small(tmp_path):
    folder = write_run(tmp_path / "run", each=175)
    page = run_report(folder)
    assert page.stat().st_size < 1_500_000, "701 traces of 30 frames"
    assert page.stat().st_size < (folder / "predictions.jsonl").stat().st_size / 2
