"""The page in a real browser: it opens from a file, agrees, explains, and nothing leaves it."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

import handmade
import look
import mixture
from data import tictactoe
from data.counts import count, pack
from generate import generate
from proof.proof import prove
from system import checkpoint
from system.checkpoint import Checkpoint
from tests.helpers.browser import chromium
from tests.helpers.tiny import CHARS, tiny_gpt

SIZES = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 360, "height": 740}}
WORD = "yx<z"  # of CHARS


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def odd() -> Checkpoint:
    """A checkpoint of a small model with characters that are hard to show."""
    model = tiny_gpt(vocab_size=len(CHARS), bias=True, shift=0.5)
    settings: dict[str, Any] = {"train": {"dtype": "float32"}}
    return Checkpoint(
        model.config, CHARS, model.state_dict(), settings, "f", optimizer=[], progress={"step": 7}
    )


def counted() -> Checkpoint:
    """The same with counts of a text beside it."""
    saved, V = odd(), len(CHARS)
    text = np.random.default_rng(1).integers(0, V, 400) % np.random.default_rng(2).integers(1, V)
    saved.counts, saved.shares = pack(count([text], V, 3), V), [0.2, 0.4, 0.7]
    return saved


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a page with options of look.py, once for each."""
    folder, written = tmp_path_factory.mktemp("pages"), {}
    files = {"ODD": folder / "odd.pt", "COUNTED": folder / "counted.pt"}
    for path, saved in zip(files.values(), (odd(), counted()), strict=True):
        checkpoint.save(path, saved)

    def page(*options: str) -> Path:
        if options not in written:
            out = folder / f"{len(written)}.html"
            given = [str(files.get(option, option)) for option in options]
            assert look.main([*given, "--out", str(out)]) == 0
            written[options] = out
        return written[options]

    return page


@pytest.fixture
def visit(browser: Browser, pages: Callable[..., Path]) -> Iterator[Callable[..., Page]]:
    """Open a page offline, wait until it is ready, and in the end see that nothing went wrong."""
    contexts, wrong = [], []

    def visit(*options: str, **of_context: Any) -> Page:
        context = browser.new_context(**{"viewport": SIZES["desktop"], **of_context}, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: wrong.append(said.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: wrong.append(asked.url) if "file:" not in asked.url else 0)
        page.goto(pages(*options).as_uri())
        ready(page)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert wrong == []


def ready(page: Page) -> None:
    """Wait until the page has done what it was asked to do, and drawn it."""
    expect(page.locator("body")).not_to_have_class(re.compile("busy"), timeout=20_000)
    expect(page.locator("#status")).to_have_text("ready", timeout=20_000)
    drawn(page)


def drawn(page: Page) -> None:
    """Wait until the page has drawn what it was told: it does so once a frame."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def text_of(page: Page) -> str:
    return page.evaluate("app.chars.join('')")


def numbers(text: str) -> list[float]:
    """The numbers in a text of the page, which has real minus signs."""
    found = re.findall(r"[+-]?\d[\d.]*(?:e[+-]\d+)?", text.replace("\N{MINUS SIGN}", "-"))
    return [float(number.rstrip(".")) for number in found]


def write(page: Page, prompt: str, n: int, **options: str) -> str:
    """Fill the form in, press Write, and return the whole text."""
    page.fill("#prompt", prompt)
    page.fill("#length", str(n))
    for name, value in options.items():
        page.fill(f"#{name}", value)
    page.click("#begin")
    ready(page)
    return text_of(page)


ALL = [
    ("--handmade",),
    ("--handmade", "two-head"),
    ("--handmade", "abc"),
    ("--handmade", "copy"),
    ("--handmade", "tictactoe"),
    ("--ckpt", "COUNTED", "--prompt", WORD),
    ("--handmade", "new-head", "--against", "two-head"),
]


@pytest.mark.parametrize("options", ALL, ids=" ".join)
def test_page_agrees_fits_and_is_accessible(
    visit: Callable[..., Page], options: tuple[str, ...]
) -> None:
    page = visit(*options, bypass_csp=True)  # for axe, which is put into the page
    for size, scheme in (("desktop", "light"), ("phone", "dark")):
        page.set_viewport_size(SIZES[size])
        page.emulate_media(color_scheme=scheme)
        page.reload()
        ready(page)
        badge = page.inner_text("#badge")
        assert re.fullmatch(
            r"(✓ \S+ agrees with PyTorch to \d+e-\d+(, mixed with its counts)?\n?)+", badge
        )
        assert ("COUNTED" in options) == ("counts" in badge)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.locator("details.tensor summary").first.click()
        expect(page.locator("table.weights input").first).to_be_visible()
        found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        serious = [each["id"] for each in found if each["impact"] in ("serious", "critical")]
        assert serious == [], (size, scheme)


def test_nothing_can_leave_the_page(browser: Browser, pages: Callable[..., Path]) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(pages("--handmade").as_uri())
        ready(page)
        blocked = page.evaluate(
            """async () => {
              const blocked = [];
              document.addEventListener("securitypolicyviolation",
                (event) => blocked.push(event.effectiveDirective));
              new Image().src = "https://example.com/a.png";
              await fetch("https://example.com/").catch(() => 0);
              document.body.append(Object.assign(document.createElement("script"), { text: "1" }));
              await new Promise((done) => setTimeout(done, 100));
              return blocked.sort();
            }"""
        )
        assert blocked == ["connect-src", "img-src", "script-src-elem"]


def test_every_way_to_choose_a_place(visit: Callable[..., Page]) -> None:
    page = visit("--handmade")
    text = write(page, "abaab", 20)
    assert text == "abaab" + "aab" * 6 + "aa"
    sentence = page.locator("#places .sentence")
    page.hover("#place-3")
    expect(sentence).to_contain_text("After abaa it expects b, 100.0 %. What came was b")
    page.click("#place-4")
    page.hover("#place-2")
    expect(sentence).to_contain_text("After abaab it expects a")
    page.focus("#text")
    page.keyboard.press("ArrowRight")
    expect(sentence).to_contain_text("After abaaba it expects a")
    expect(page.locator("#text")).to_have_attribute("aria-activedescendant", "place-5")
    expect(page.locator("#live")).to_contain_text("After abaaba it expects a")
    page.keyboard.press("Home")
    expect(sentence).to_contain_text("After a it expects b")
    page.keyboard.press("Escape")
    expect(page.locator("#free")).to_be_disabled()
    page.hover("#place-7")
    expect(sentence).to_contain_text("After abaabaab it expects a")


def test_taps_and_buttons_choose_a_place_on_a_phone(visit: Callable[..., Page]) -> None:
    page = visit("--handmade", viewport=SIZES["phone"], has_touch=True)
    page.tap("#place-3")
    sentence = page.locator("#places .sentence")
    expect(sentence).to_contain_text("After abaa it expects b")
    page.tap("#forth")
    expect(sentence).to_contain_text("After abaab it expects a")
    page.tap("#back")
    expect(sentence).to_contain_text("After abaa it expects b")


SAMPLED = [("ODD", odd, "half"), ("COUNTED", counted, "slide")]


@pytest.mark.parametrize(("name", "kept", "window"), SAMPLED)
def test_page_writes_what_sample_writes(
    visit: Callable[..., Page], name: str, kept: Callable[[], Checkpoint], window: str
) -> None:
    page, model = visit("--ckpt", name, "--prompt", WORD), mixture.load(kept())
    page.select_option("#window", window)
    idx = torch.tensor([[CHARS.index(char) for char in WORD]])
    steps = generate(model, idx, 30, torch.Generator(), temperature=0, window=window)
    expected = WORD + "".join(CHARS[new.item()] for new in steps)
    assert write(page, WORD, 30, temperature="0") == expected
    expected = write(page, WORD, 30, temperature="1")
    assert write(page, WORD, 30, temperature="1", seed="2") != expected
    assert write(page, WORD, 30, temperature="1", seed="1") == expected
    page.click("#go-on")
    ready(page)
    assert len(page.evaluate("app.chars")) == len(WORD) + 60


@torch.inference_mode()
def test_net_and_counts_stand_side_by_side(visit: Callable[..., Page]) -> None:
    page, both = visit("--ckpt", "COUNTED", "--prompt", WORD), mixture.load(counted())
    text = write(page, WORD, 20, temperature="1")
    page.click("#place-4")
    drawn(page)
    ids = [CHARS.index(char) for char in text]
    seen, came = torch.tensor([ids[:5]]), ids[5]
    net = both.gpt(seen)[0, -1].softmax(dim=-1)
    [[counts]], [[known]] = both.counts.probs(seen, last=1)
    mixed, share = both(seen)[0, -1].exp(), both.shares[known]
    table = page.locator("table.opinions").first
    [row] = [row for row in table.locator("tbody tr").all() if "came" in row.inner_text()]
    expected = [100 * p[came].item() for p in (net, counts, mixed)]
    assert numbers(" ".join(row.locator("td").all_inner_texts())) == pytest.approx(
        expected, abs=0.06
    )
    context = ["nothing", "the last character", "the last 2 characters"][known]
    said = page.locator("#places p", has_text="The counts know")
    expect(said).to_contain_text(f"The counts know {context}")
    expect(said).to_contain_text(f"There their share is {100 * share:.1f} %")
    winner = "counts" if counts[came] > net[came] else "net"
    expect(page.locator("#places .sentence")).to_contain_text(f"The {winner} guessed it better")
    found = page.evaluate("tally(app.main.text)")
    cells = page.locator("table.opinions").last.locator("tbody tr").all_inner_texts()
    assert [numbers(cell)[0] for cell in cells[:2]] == [found["net"], found["counted"]]
    assert found["net"] + found["counted"] == found["n"] == len(text) - 1
    page.select_option("#shading", "counts")
    drawn(page)
    leads = page.evaluate("app.chars.map((_, place) => better(app.main.text.surprise(place)))")
    for place, lead in enumerate(leads):
        marks = page.locator(f"#place-{place}").get_attribute("class")
        assert ("above" in marks, "below" in marks) == (lead > 0.2, lead < -0.2), lead
        assert "outside" not in marks
    spoil = "(app.main.model.counts.shares.fill(0), app.main.agreement().off)"
    assert page.evaluate(spoil) > 1e-4
    page.get_by_label("mix the counts in").uncheck()
    ready(page)
    drawn(page)
    expect(page.locator("table.opinions")).to_have_count(0)
    shown = numbers(page.locator("#places tbody td").first.inner_text())[0]
    assert shown == pytest.approx(100 * net.max().item(), abs=0.06)
    without = page.locator(".continuations dd").last.inner_text()
    steps = generate(both.gpt, seen, 40, torch.Generator(), temperature=0, window="half")
    assert without == "".join(CHARS[new.item()] for new in steps)


def test_writing_can_be_stopped_and_gone_on_with(visit: Callable[..., Page]) -> None:
    page = visit("--ckpt", "ODD", "--prompt", WORD)
    page.fill("#prompt", WORD)
    page.fill("#length", "9000")
    page.click("#begin")
    page.locator("#place-60").wait_for()
    page.click("#stop")
    expect(page.locator("#status")).to_have_text("stopped")
    length = len(text_of(page))
    page.wait_for_timeout(100)
    assert 60 < len(text_of(page)) == length < 9000
    page.fill("#length", "10")
    page.click("#go-on")
    ready(page)
    assert len(page.evaluate("app.chars")) == page.evaluate("app.view.places.length")
    page.fill("#length", "10000")
    page.click("#go-on")
    expect(page.locator("#complaint")).to_contain_text("more than 10000 characters")


def test_characters_that_the_model_does_not_know_are_named(visit: Callable[..., Page]) -> None:
    page = visit("--handmade")
    page.fill("#prompt", "aéb")
    page.click("#begin")
    expect(page.locator("#complaint")).to_contain_text("“é” (U+00E9)")
    page.check("#skip")
    assert write(page, "aéb", 3) == "abaab"
    page.fill("#prompt", "")
    page.click("#begin")
    expect(page.locator("#complaint")).to_contain_text("no character to start from")


SCRIPTS = "ab 1\u0301\u05d0\u05d1\u0633\u0644\u0627\u202e\n"  # Hebrew, Arabic, a mark, an override


def boxes(page: Page) -> list[dict[str, float]]:
    """Where each place of the text is."""
    found = "app.view.places.map((node) => node.getBoundingClientRect().toJSON())"
    return page.evaluate(found)


def test_texts_of_other_scripts(
    browser: Browser, pages: Callable[..., Path], tmp_path: Path
) -> None:
    """A line runs as its first letter does; marks stand on letters; what is long wraps."""
    model = tiny_gpt(vocab_size=len(SCRIPTS), bias=True)
    saved = Checkpoint(model.config, SCRIPTS, model.state_dict(), {}, "f", [], {"step": 7})
    checkpoint.save(tmp_path / "scripts.pt", saved)
    out = tmp_path / "page.html"
    assert look.main(["--ckpt", str(tmp_path / "scripts.pt"), "--out", str(out)]) == 0
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(out.as_uri())
        ready(page)
        text = "ab\u05d0\u05d1 a\u0301b\n\u05d0\u05d1 ab\u0301\n\u0301\u202e\u05d0"
        assert write(page, text, 0) == text
        left = [box["left"] for box in boxes(page)]
        assert left[0] < left[1] < left[3] < left[2] < left[5]  # in a line from left to right
        assert left[12] < left[13] < left[11] < left[10] < left[9]  # from right to left
        shown = [node.inner_text() for node in page.locator(".place").all()]
        assert shown[6] == shown[14] == "\u0301"
        assert shown[-3:] == ["\u25cc\u0301", "U+202E", "\u05d0"]
        assert boxes(page)[6]["width"] == 0 < boxes(page)[5]["width"]
        page.click("#place-9")
        for key, place in (("ArrowLeft", 10), ("ArrowRight", 9), ("Home", 0), ("ArrowRight", 1)):
            page.keyboard.press(key)
            chosen = ("aria-activedescendant", f"place-{place}")
            expect(page.locator("#text")).to_have_attribute(*chosen)
        assert page.evaluate("app.places[0].sentence(3)").startswith("After \u2068ab")
        for text in ("ab" * 200, "\u05d0\u05d1" * 200):
            write(page, text, 0)
            assert page.evaluate("app.view.box.scrollWidth <= app.view.box.clientWidth")
            assert len({box["top"] for box in boxes(page)}) > 3


def test_what_made_it_so_adds_up(visit: Callable[..., Page]) -> None:
    page = visit("--ckpt", "ODD", "--prompt", WORD)
    page.click("#place-2")
    for target in ("likeliest", "actual", "3"):
        page.select_option("#target-0", target)
        for other in ("runner-up", "mean", "none"):
            page.select_option("#other-0", other)
            drawn(page)
            line = page.locator("#places p", has_text="Sum").inner_text()
            total, score, apart = numbers(line)
            assert total == pytest.approx(score, abs=2e-3) and abs(apart) < 1e-5
            cells = page.locator("table.parts td:nth-child(2)").all_inner_texts()
            parts = numbers(" ".join(cells))
            assert sum(parts) == pytest.approx(total, abs=len(parts) * 6e-4)


def test_a_part_switched_off_changes_what_comes_next(visit: Callable[..., Page]) -> None:
    page = visit("--handmade")
    write(page, "abaab", 10)
    page.click("#place-3")
    page.get_by_role("button", name="Measure each part in all").click()
    ready(page)
    drawn(page)
    measured = page.locator("table.parts td:nth-child(4)").all_inner_texts()
    assert measured == ["", "+2048.0", "0.000", ""]  # b has +1024 from the head, and a -1024
    page.get_by_label("head 0.0", exact=True).uncheck()
    ready(page)
    expect(page.locator("#places .sentence")).to_contain_text("After abaa it expects a")
    drawn(page)
    written = page.locator(".continuations dd").all_inner_texts()
    assert written == [("baa" * 20)[:40], "a" * 40]
    page.get_by_label("head 0.0", exact=True).check()
    ready(page)
    expect(page.locator("#places .sentence")).to_contain_text("After abaa it expects b")


@torch.no_grad()
@pytest.mark.parametrize("name", ["one-head", "two-head", "abc"])
def test_a_break_breaks_as_the_proof_says(visit: Callable[..., Page], name: str) -> None:
    page, saved = visit("--handmade", name), handmade.load(name)
    for each in page.evaluate("app.main.breaks"):
        page.get_by_role("button", name=each["title"], exact=True).click()
        ready(page)
        model = saved.build()
        weights = model.state_dict()
        for weight, at, value in each["edits"]:
            weights[weight].view(-1)[at] = value
        rule = handmade.task_of(name).rule
        contexts = page.evaluate("app.main.task.contexts")
        shortest = 1 if handmade.rule_of(name) else 2
        found = prove(model, saved.chars, rule, text="", shortest=shortest).all
        wrong = [context for context in contexts if context in set(found.wrong)]
        verdict = page.inner_text(".verdict")
        assert f"{len(contexts) - len(wrong)} of {len(contexts)} right" in verdict
        assert (f"the first wrong one is {wrong[0]}." in verdict) if wrong else "✓" in verdict
        expect(page.get_by_text(each["sentence"])).to_be_visible()
    page.get_by_role("button", name="Mend it").click()
    ready(page)
    expect(page.locator(".verdict")).to_contain_text(f"✓ {len(contexts)} of {len(contexts)} right")


def test_weights_are_edited_undone_and_reset(visit: Callable[..., Page]) -> None:
    page = visit("--handmade")
    page.get_by_text("blocks.0.attn.proj.bias").click()
    bias = page.get_by_label("blocks.0.attn.proj.bias, , a", exact=True)
    assert bias.input_value() == "1024"
    bias.fill("nonsense")
    bias.press("Enter")
    expect(bias).to_have_attribute("aria-invalid", "true")
    bias.fill("-1024")
    bias.press("Enter")
    ready(page)
    expect(page.locator(".verdict")).to_contain_text("✗ 30 of 60 right")
    expect(bias).to_have_class(re.compile("edited"))
    bias.press("ArrowUp")
    ready(page)
    assert bias.input_value() == "-1023"
    for now in ("-1024", "1024"):
        page.get_by_role("button", name="Undo").click()
        ready(page)
        assert bias.input_value() == now
    expect(page.locator(".verdict")).to_contain_text("✓ 60 of 60 right")
    expect(page.get_by_role("button", name="Reset all")).to_be_disabled()


def test_a_tile_leads_inside(visit: Callable[..., Page]) -> None:
    page = visit("--handmade", "abc")
    page.get_by_role("button", name=re.compile("^after aabaab comes c")).first.click()
    ready(page)
    assert text_of(page) == "aabaab"
    expect(page.locator("#places .sentence")).to_contain_text("it expects c")


def test_two_models_stand_side_by_side_on_one_text(visit: Callable[..., Page]) -> None:
    page = visit("--handmade", "new-head", "--against", "two-head")
    new_head, two_head = (handmade.load(name).build() for name in ("new-head", "two-head"))
    idx = torch.tensor([[0, 0, 1]])
    steps = generate(new_head, idx, 20, torch.Generator(), temperature=0, window="half")
    text = "aab" + "".join("ab"[new.item()] for new in steps)
    assert write(page, "aab", 20) == text
    page.click("#place-4")
    expect(page.locator("#places .sentence").first).to_contain_text(f"After {text[:5]} it expects")
    drawn(page)
    said = page.locator("#places .sentence").all_inner_texts()
    seen = torch.tensor([["ab".index(char) for char in text[:5]]])
    with torch.inference_mode():
        likeliest = ["ab"[m(seen)[0, -1].argmax().item()] for m in (new_head, two_head)]
    assert [re.search("expects (.),", one)[1] for one in said] == likeliest
    expect(page.locator(".verdict")).to_have_count(2)


def test_a_page_that_disagrees_says_so(
    browser: Browser, pages: Callable[..., Path], tmp_path: Path
) -> None:
    text = pages("--handmade").read_text("utf-8")
    start = text.index('id="weights-0">') + len('id="weights-0">')
    spoilt = tmp_path / "spoilt.html"
    spoilt.write_text(text[:start] + "AADAQ" + text[start + 5 :], "utf-8")
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(spoilt.as_uri())
        expect(page.locator("#badge")).to_contain_text("✗ FAILED: one-head is off from PyTorch")


def test_old_browsers_and_other_needs(visit: Callable[..., Page]) -> None:
    page = visit("--handmade", forced_colors="active", reduced_motion="reduce")
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.fill')).transitionDuration")
        == "0s"
    )
    page.add_init_script("Uint8Array.fromBase64 = undefined;")
    page.reload()
    ready(page)
    expect(page.locator("#badge")).to_contain_text("✓ one-head agrees")


def moves(page: Page, squares: str) -> str:
    """Click on squares, each when the model has answered, and return what was added to the text."""
    before = len(text_of(page))
    for square in squares:
        page.get_by_label(re.compile(f"^square {square}, ")).click(force=True)
        ready(page)
    return text_of(page)[before:]


def on_board(page: Page) -> str:
    """What a screen reader hears of the squares: X, O, or . for a free one."""
    labels = [square.get_attribute("aria-label") for square in page.locator(".square").all()]
    assert [label.split(",")[0] for label in labels] == [f"square {i}" for i in range(1, 10)]
    return "".join(label.split(", ")[1].replace("free", ".") for label in labels)


def test_playing_on_the_board(visit: Callable[..., Page]) -> None:
    """The model answers as the rule does; how a game ended is said; the next one begins."""
    page = visit("--handmade", "tictactoe")
    assert page.inner_text("#told") == "Your turn: you are X." and on_board(page) == "." * 9
    assert page.inner_text("#badge").startswith("✓")
    assert moves(page, "5") == "5" + tictactoe.reply("5")
    assert moves(page, "3") == "3" + tictactoe.reply("513")
    assert on_board(page) == "O.X.X.O.." and page.inner_text("#told") == "Your turn: you are X."
    assert moves(page, "8") == "84\n" and on_board(page) == "O.XOX.OX."
    assert page.inner_text("#told") == "O has won: that is the model. Press New game."
    squares = page.locator(".square[aria-disabled=true]")
    assert squares.count() == 9 and moves(page, "9") == ""  # it is over
    page.get_by_role("button", name="New game").click()
    ready(page)
    assert on_board(page) == "." * 9 and squares.count() == 0
    page.keyboard.press("5")  # the focus is on the board
    ready(page)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    ready(page)
    assert text_of(page).endswith("\n5137") and page.locator(".verdict .good").count() == 1
    assert moves(page, "7") == "7\n"
    said = "You wrote 7, which is not allowed: it is taken. Press New game."
    assert page.inner_text("#told") == said and on_board(page) == "O.X.X.O.."
    page.get_by_role("button", name="New game").click()
    ready(page)
    assert moves(page, "1") == "1" + tictactoe.reply("1")
    page.get_by_role("button", name="New game").click()  # in the middle of one
    ready(page)
    assert text_of(page).endswith("\n15\n") and on_board(page) == "." * 9


def test_a_broken_model_loses(visit: Callable[..., Page]) -> None:
    """What it writes then is shown as it is: a move that is not allowed, or none."""
    page = visit("--handmade", "tictactoe", "--prompt", "\n4")
    assert text_of(page) == "\n4" + tictactoe.reply("4")
    page.evaluate("""async () => {
      const { main } = app, bias = main.model.tensors.get("blocks.0.ffwd.down.bias");
      const [one, end] = ["1", "\\n"].map((char) => main.model.ids.get(char));
      const out = main.model.config.n_embd - main.model.chars.length;
      main.edit(bias.offset + out + end, -2);
      main.edit(bias.offset + out + one, 3);
      await app.weightsChanged(main);
    }""")
    page.get_by_role("button", name="New game").click()
    ready(page)
    assert moves(page, "1") == "11"
    said = "The model wrote 1, which is not allowed: it is taken. Press New game."
    assert page.inner_text("#told") == said and on_board(page) == "X........"
    page.get_by_role("button", name="New game").click()
    ready(page)
    assert text_of(page).endswith("\n11\n") and moves(page, "2") == "21"
    page.fill("#prompt", "\n41625")
    page.fill("#length", "0")
    page.click("#begin")
    ready(page)
    said = "X has won: you have beaten the model. Press New game."
    assert page.inner_text("#told") == said and on_board(page) == "OO.XXX..."
