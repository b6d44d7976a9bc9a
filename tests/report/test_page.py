import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwm_jax.report import page
from cwm_jax.report.figures import duration, percent, quantity
from cwm_jax.report.plots import bar_plot, line_plot
from cwm_jax.report.traces import trace_browser

# what HTML cannot hold or folds together: NUL, line ends, lone surrogates (tested apart)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="`"), min_size=1, max_size=30)
HOSTILE = st.sampled_from(["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</script><b>", "&lt;", "'"])


class Reader(HTMLParser):
    """The tags, attributes and texts of a document."""

    def __init__(self, document: str):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(document)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]

    def handle_data(self, data):
        self.texts.append(data)


def page_of(text: str) -> page.Page:
    frame = {"event": "line", "line": 1, "source": text, "locals": {text: text}}
    item = {"set": text, "name": text, "context": text, "exact": True, "predicted": [frame], "actual": [frame]}
    return page.Page(text, text).add(
        page.heading(text),
        page.heading(text, 3),
        page.prose("x" + text),
        page.key_figures([(text, text, text)]),
        page.table([text, text], [[text, text]]),
        page.code(text),
        page.folded(text, page.code(text)),
        page.side_by_side(line_plot(text, {text: [(0, 1), (1, 2)], text + "2": []}, text, text)),
        bar_plot(text, [text], {text: [0.5], text + "2": [None]}, text, text, {text: [text], text + "2": [""]}),
        trace_browser([item, item]),
    )


PLAIN = page_of("plain").html()


@settings(max_examples=50)
@given(TEXT | HOSTILE)
def test_no_text_becomes_markup(text):
    document = page_of(text).html()
    plain, read = Reader(PLAIN), Reader(document)
    assert read.tags == plain.tags
    assert [name for _, name, _ in read.attributes] == [name for _, name, _ in plain.attributes]
    assert read.texts.count(text) >= 10
    assert document.count("</script") == PLAIN.count("</script")


def test_pages_load_nothing():
    read = Reader(PLAIN)
    loads = [(tag, name, value) for tag, name, value in read.attributes if name in ("src", "href", "srcset", "data")]
    assert all(value.startswith(("#", "data:")) for _, _, value in loads), loads
    assert "link" in read.tags and "iframe" not in read.tags
    assert not re.search(r"url\(|@import", PLAIN)


def test_raw_is_taken_as_it_is():
    assert "<b>bold</b>" in page.Page("t").add(page.raw("<b>bold</b>")).html()


@settings(max_examples=50)
@given(st.text(max_size=20))
def test_any_text_can_be_written(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.html"
    assert page_of(text or "x").write(path).read_text(encoding="utf-8").endswith("</html>\n")


def test_lone_surrogates_are_spelled_out(tmp_path):
    assert "\\ud800" in page.Page("a\ud800").write(tmp_path / "p.html").read_text(encoding="utf-8")


def test_a_failed_write_leaves_the_old_page(tmp_path):
    path = page.Page("old").write(tmp_path / "new" / "p.html")
    with pytest.raises(FileNotFoundError):
        page.Page("new").add(page.Block("", assets=("missing.css",))).write(path)
    assert "<title>old</title>" in path.read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]
    assert "<title>new</title>" in page.Page("new").write(path).read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]


def test_assets_stand_once_and_only_where_needed():
    plot = line_plot("p", {"a": [(0, 1), (1, 2)]}, "x", "y")
    document = page.Page("t").add(plot, page.folded("more", plot)).html()
    assert document.count(".plot svg {") == 1 and document.count("const stops = ") == 1
    assert ".plot svg {" not in page.Page("t").add(page.prose("x")).html()
    assert ".panes" not in document


def test_contents_list_the_sections():
    document = page.Page("t").add(*(page.heading(f"Part <{n}>") for n in range(3))).html()
    assert document.count('href="#part-') == 3 and 'id="part-2"' in document


@given(st.floats(0, 1))
def test_only_a_full_share_reads_full(share):
    assert (percent(share) == "100 %") == (share == 1)
    assert (percent(share) == "0 %") == (share == 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(412_345, "412 k"), (1_234_567, "1.23 M"), (9_999, "9,999"), (12.3456, "12.3"), (3.2e10, "32 G"), (1e-5, "1e-05"),
     (0, "0"), (1234.5, "1,234"), (float("nan"), "nan")],
)  # fmt: skip
def test_quantities(value, text):
    assert quantity(value) == text


def test_durations():
    assert [duration(seconds) for seconds in (0, 59.6, 754, 3723)] == ["0:00", "1:00", "12:34", "1:02:03"]


def test_colours_can_be_told_from_their_ground():
    """WCAG 2.2 asks for a contrast of 4.5 between text and ground; both schemes keep to it."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        channels = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    schemes = re.findall(r":root \{(.*?)\}", (page.ASSETS / "page.css").read_text(), re.DOTALL)[:2]
    for scheme in schemes:
        colours = {name: luminance(value) for name, value in re.findall(r"--([\w-]+): (#\w+)", scheme)}
        grounds = {
            "ink": ["paper", "panel", "tint", "tinted", "bad-tint"],
            "faint": ["paper", "panel", "tint", "tinted"],
            "accent": ["paper", "panel"],
            "good": ["panel", "good-tint", "bad-tint", "tinted"],
            "bad": ["panel", "bad-tint", "tinted"],
            **{series: ["panel", "tint", "tinted"] for series in ("s0", "s1", "s2", "s3")},
        }
        for text, ground in ((text, ground) for text, names in grounds.items() for ground in names):
            light, dark = max(colours[text], colours[ground]), min(colours[text], colours[ground])
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)
