"""The report in a real browser: Debian's chromium, driven by selenium."""

import json
import shutil

import pytest
from synthetic_run import STRAWBERRY, record, write_run

from cwm_jax.report.frames import full_locals, verdicts
from cwm_jax.report.run import run_report
from cwm_jax.report.traces import trace_page

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is missing: pip install -r requirements-dev.txt")
pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="chromium is missing: apt-get install -y chromium chromium-driver",
)
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip
# what sticks out of the window and is not inside a box that scrolls or clips
OVERFLOWING = """
const clipped = (node) => node && (getComputedStyle(node).overflowX !== "visible" || clipped(node.parentElement));
const out = (node) => node.getBoundingClientRect().right > innerWidth + 0.5 && !clipped(node.parentElement);
const found = [...document.querySelectorAll("body *")].filter(out).map((node) => node.outerHTML.slice(0, 80));
return document.documentElement.scrollWidth > innerWidth ? ["the page itself", ...found] : found;
"""

WHERE = """
const part = (role) => arguments[0].querySelector(`[data-role=${role}]`);
const [row, ...more] = part("rows").querySelectorAll("[aria-selected=true]");
const box = part("rows").getBoundingClientRect(), place = row.getBoundingClientRect();
return [more.length ? null : +row.dataset.frame + 1, part("position").textContent, part("slider").value,
        part("state-title").textContent, box.top - 1 <= place.top && place.bottom <= box.bottom + 1];
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    options = webdriver.ChromeOptions()
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return run_report(write_run(tmp_path_factory.mktemp("runs") / "tiny"))


@pytest.fixture(autouse=True)
def nothing_complains(chromium):
    yield
    assert chromium.get_log("browser") == []


class Viewer:
    """A trace viewer of the page that is open: what a reader sees and does."""

    def __init__(self, chromium, number: int = 0):
        self.chromium = chromium
        self.root = chromium.find_elements("css selector", ".traces")[number]

    def part(self, role: str):
        return self.root.find_element("css selector", f"[data-role={role}]")

    def all(self, selector: str) -> list:
        return self.root.find_elements("css selector", selector)

    def choose(self, role: str, value: str) -> None:
        self.chromium.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))", self.part(role), value
        )

    def texts(self, role: str, selector: str) -> list[str]:
        script = "return [...arguments[0].querySelectorAll(arguments[1])].map(node => node.textContent)"
        return self.chromium.execute_script(script, self.part(role), selector)

    def programs(self) -> list[str]:
        return self.texts("item", "option")

    def frame(self) -> int:
        """The current frame, from 1, on which all parts of the viewer have to agree."""
        frame, position, slider, title, in_view = self.chromium.execute_script(WHERE, self.root)
        assert position.startswith(f"{frame} /") and slider == f"{frame - 1}" and title == f"State at frame {frame}"
        assert in_view
        return frame

    def state(self) -> list[list[str]]:
        rows = "[...arguments[0].querySelectorAll('tbody tr')].map(r => [...r.children].map(c => c.textContent))"
        return self.chromium.execute_script(f"return {rows}", self.part("state"))


def look(chromium, page, width: int = 1400, scheme: str = "light") -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    chromium.get("about:blank")
    chromium.get(page.as_uri())


def items_of(report) -> list[dict]:
    lines = (report.parent / "predictions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines][1:]


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows(chromium, report, width, scheme):
    look(chromium, report, width, scheme)
    Viewer(chromium, 1).choose("kind", "wrong")
    assert chromium.execute_script("return innerWidth") == width
    assert chromium.execute_script(OVERFLOWING) == []
    ground = chromium.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(252, 252, 250)", "dark": "rgb(20, 23, 27)"}[scheme]
    shown = [svg.is_displayed() for svg in chromium.find_elements("css selector", ".plot:first-of-type svg")][:2]
    assert shown == [width == 1400, width == 400]


def test_nothing_is_loaded(chromium, report):
    look(chromium, report)
    assert chromium.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_every_control_has_a_name(chromium, report):
    look(chromium, report)
    controls = chromium.find_elements("css selector", ".traces :is(select, button, input, [role=listbox])")
    assert len(controls) > 15
    shown = [control for control in controls if control.is_displayed()]
    assert [one.get_attribute("outerHTML")[:90] for one in shown if not one.accessible_name] == []


def test_a_wrong_trace_opens_at_its_first_mismatch(chromium, report):
    look(chromium, report)
    viewer = Viewer(chromium, 1)
    viewer.choose("set", "composed programs")
    viewer.choose("kind", "wrong")
    wrong = [item for item in items_of(report) if item["set"] == "composed" and not item["exact"]]
    for item in wrong[:4]:
        checks = verdicts(item["predicted"], item["actual"])
        assert viewer.frame() == checks.index(False) + 1
        [row] = viewer.all(".first-wrong")
        assert row.get_attribute("aria-selected") == "true" and "✗" in row.text
        assert viewer.texts("rows", ".mark") == ["✓" if exact else "✗" for exact in checks]
        assert f"first mismatch at frame {viewer.frame()}" in viewer.part("verdict").text
        viewer.part("first").click()
        assert viewer.frame() == 1
        viewer.part("mismatch").click()
        assert viewer.frame() == checks.index(False) + 1
        viewer.part("later").click()


def test_keys_step_like_a_debugger(chromium, report):
    look(chromium, report)
    viewer, keys = Viewer(chromium), webdriver.Keys
    body = chromium.find_element("css selector", "body")
    body.send_keys(keys.ARROW_RIGHT, keys.ARROW_RIGHT, keys.ARROW_LEFT, keys.ARROW_RIGHT)
    assert viewer.frame() == 3, "without any focus, the first viewer steps"
    rows = viewer.part("rows")
    for key, frame in ((keys.ARROW_DOWN, 4), (keys.ARROW_UP, 3), (keys.END, 32), (keys.ARROW_RIGHT, 32),
                       (keys.HOME, 1), (keys.ARROW_LEFT, 1), (keys.ARROW_DOWN, 2)):  # fmt: skip
        rows.send_keys(key)
        assert viewer.frame() == frame
    viewer.part("slider").send_keys(keys.ARROW_RIGHT)
    assert viewer.frame() == 3
    viewer.all(".row")[6].click()
    assert viewer.frame() == 7
    for role, frame in (("step", 8), ("back", 7), ("last", 32), ("first", 1)):
        viewer.part(role).click()
        assert viewer.frame() == frame
    assert Viewer(chromium, 1).frame() == 1 or Viewer(chromium, 1).all(".first-wrong"), "the other stays where it was"


def test_the_program_follows_and_states_are_in_full(chromium, report):
    look(chromium, report)
    viewer = Viewer(chromium, 1)
    viewer.choose("kind", "wrong")
    item = next(item for item in items_of(report) if not item["exact"])
    states = {side: full_locals(item[side]) for side in ("predicted", "actual")}
    viewer.part("first").click()
    for place, frame in enumerate(item["actual"]):
        assert [line.strip() for line in viewer.texts("source", ".current")] == [frame["source"].strip()]
        shown = {name: values for name, *values in viewer.state()}
        for column, side in enumerate(("predicted", "actual")):
            told = item[side][place] if place < len(item[side]) else None
            state = {told["event"]: told["value"]} if told and "value" in told else states[side][place] if told else {}
            assert {name: values[column] for name, values in shown.items() if values[column] != "–"} == state
        chromium.execute_script("arguments[0].click()", viewer.part("step"))


def test_filters_list_what_they_say(chromium, report):
    look(chromium, report)
    viewer, items = Viewer(chromium, 1), items_of(report)
    assert len(viewer.programs()) == len(items)
    for kind, mark in (("exact", "✓"), ("wrong", "✗")):
        viewer.choose("kind", kind)
        assert len(viewer.programs()) == sum(item["exact"] == (kind == "exact") for item in items)
        assert all(program.startswith(mark) for program in viewer.programs())
    viewer.choose("set", "human-written")
    viewer.choose("length", "1")
    wanted = [item["name"] for item in items
              if item["set"] == "human_written" and not item["exact"] and 9 <= len(item["actual"]) <= 16]  # fmt: skip
    assert [program.split()[1].rstrip(",") for program in viewer.programs()] == wanted
    assert wanted[0] in viewer.part("verdict").text
    viewer.choose("length", "4")
    assert viewer.programs() == ["none passes these filters"] and not viewer.part("item").is_enabled()


def test_an_example_of_a_failure_opens_in_the_browser(chromium, report):
    look(chromium, report)
    evaluation = json.loads((report.parent / "evaluation.json").read_text())
    example = evaluation["sets"]["human_written"]["failures"][0]["example"]
    Viewer(chromium, 1).choose("kind", "exact")
    link = "a[aria-label='example of branch after if, human-written']"
    chromium.execute_script("document.querySelector(arguments[0]).click()", link)
    text = Viewer(chromium, 1).part("verdict").text
    assert text.startswith(f"{example['name']} · human-written") and "✗" in text


def test_plots_tell_their_values(chromium, report):
    look(chromium, report)
    plot = chromium.find_elements("css selector", ".plot")[0]
    chromium.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", plot)
    tip = plot.find_element("css selector", ".tip")
    assert not tip.is_displayed()
    webdriver.ActionChains(chromium).move_to_element(plot.find_element("css selector", "svg.wide")).perform()
    assert tip.is_displayed() and "composed programs" in tip.text and "traces" in tip.text
    plot.find_element("css selector", "svg.wide").send_keys(webdriver.Keys.HOME)
    assert tip.text.startswith("frames 9-16")


def test_hostile_values_stay_text(chromium, tmp_path):
    hostile = "</script><img src=x onerror='window.taken = 1'><script>window.taken = 1</script>"
    frames = [{**frame, "source": frame["source"].rstrip("\n") + f"  # {hostile}\n"} for frame in record(STRAWBERRY)]
    frames[1]["locals"] = {hostile: hostile * 20}
    page = tmp_path / "hostile.html"
    page.write_text(trace_page(hostile, STRAWBERRY + "# " + hostile, frames, hostile, hostile, frames[:9]))
    for width in (400, 1400):
        look(chromium, page, width)
        Viewer(chromium).part("first").click()
        Viewer(chromium).part("step").click()
        assert Viewer(chromium).state()[0] == [hostile, hostile * 20, hostile * 20]
        assert chromium.execute_script("return window.taken") is None
        assert chromium.execute_script(OVERFLOWING) == []


def test_a_long_run_draws_what_is_looked_at(chromium, tmp_path):
    frames = record(STRAWBERRY) * 200
    page = tmp_path / "long.html"
    page.write_text(trace_page("long", STRAWBERRY, frames, "returned", ""))
    look(chromium, page)
    viewer = Viewer(chromium)
    assert len(viewer.all(".row")) == 300
    viewer.part("last").click()
    assert viewer.frame() == 6400 and len(viewer.all(".row")) == 300
    viewer.all(".more")[0].click()
    assert viewer.frame() == 6100
