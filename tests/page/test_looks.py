"""Light and dark, phones, and what WCAG 2.2 AA asks that can be measured."""

from __future__ import annotations

from typing import Any

import pytest
from chat_page import ChatPage
from page_server import PageServer, Staged

ANSWER = (
    """Some **bold** text with `code`, and a `long_line` below.

```python
x = "a line that is a good deal longer than the screen of a phone is wide, so it scrolls"
```

- an item

| a | b |
|---|---|
| 1 | 2 |

averylongword"""
    + "andlonger" * 30
)

# Every text with its contrast to what lies behind it, every frame of a field too.
CONTRASTS = """
const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const rgba = (color) => {
  paint.clearRect(0, 0, 1, 1); paint.fillStyle = color; paint.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = paint.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
};
const luminance = ([r, g, b]) => [r, g, b].map((value) => {
  const share = value / 255;
  return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
}).reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
const over = (front, back) => front.slice(0, 3)
  .map((value, i) => value * front[3] + back[i] * (1 - front[3]));
const behind = (element) => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) {
    layers.push(rgba(getComputedStyle(at).backgroundColor));
    if (layers.at(-1)[3] === 1) break;
  }
  return layers.reverse().reduce((back, front) => over(front, back), [255, 255, 255]);
};
const contrast = (color, back) => {
  const [a, b] = [luminance(over(rgba(color), back)), luminance(back)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
};
const found = [];
const visible = (element) => element.checkVisibility({visibilityProperty: true})
  && element.getBoundingClientRect().width > 1;
const note = (element, what, color, back, least) => {
  const ratio = contrast(color, back);
  found.push({what, ratio, least, color});
};
for (const element of document.body.querySelectorAll("*")) {
  if (!visible(element) || element.closest("svg, script, style")) continue;
  const style = getComputedStyle(element);
  for (let at = element; at; at = at.parentElement) {
    if (Number(getComputedStyle(at).opacity) < 1) throw new Error(`opacity of ${at.className}`);
  }
  const text = [...element.childNodes].filter((n) => n.nodeType === 3 && n.data.trim());
  const large = parseFloat(style.fontSize) >= 24
    || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
  if (text.length) {
    note(element, text[0].data.trim().slice(0, 30), style.color, behind(element), large ? 3 : 4.5);
  }
  if (element.matches("input:not([type=checkbox]), textarea")) {
    note(element, `typed in ${element.id}`, style.color, behind(element), 4.5);
    const hint = getComputedStyle(element, "::placeholder");
    note(element, `hint in ${element.id}`, hint.color, behind(element), 4.5);
  }
  if (element.matches(".input, .field, .framed")) {
    note(element, `frame of ${element.id || element.className}`, style.borderTopColor,
      behind(element.parentElement), 3);
  }
  if (element.matches("button")) {
    const icon = element.querySelector("svg");
    if (icon) note(element, `icon of ${element.id}`, style.color, behind(element), 3);
  }
}
return found;
"""
# Things to touch that are smaller than 44 by 44 CSS pixels.
SMALL = """
return [...document.querySelectorAll("button, input, textarea, summary, label.check")]
  .filter((element) => element.checkVisibility() && !element.matches("[type=checkbox]"))
  .map((element) => [element, element.getBoundingClientRect()])
  .filter(([, box]) => box.width < 44 || box.height < 44)
  .map(([element, box]) => `${element.id || element.textContent} ${box.width}x${box.height}`);
"""
OVERFLOW = """
const width = document.documentElement.clientWidth;
const inside = (element) => element.closest("pre, .table, #model, .unseen");
return [document.documentElement.scrollWidth - width,
  [...document.querySelectorAll("body *")]
    .filter((e) => e.checkVisibility() && !inside(e) && !e.matches(".skip"))
    .filter((e) => e.getBoundingClientRect().right > width + 0.5
      || e.getBoundingClientRect().left < -0.5)
    .map((e) => e.id || e.className || e.localName)];
"""


def full_page(chat: ChatPage, server: PageServer) -> None:
    """One of everything that the page can show."""
    server.staged += [Staged.text(ANSWER, "A thought."), Staged.text("half", open_end=True)]
    chat.ask("a question")
    chat.send("another")
    chat.until(lambda: chat.answers[1:] == ["half"])
    chat.keys("\ue00c")
    chat.until(lambda: server.left == 1 and not chat.running)
    server.left = 0
    chat.click("summary")
    chat.run("showNotice('Something is wrong.'); askForKey(); showNotice('Something is wrong.')")
    chat.run("$('key-note').classList.add('failed')")
    chat.run("edit(messages[2]); messages[3].failure = 'broken'; drawAll()")


def background(chat: ChatPage) -> str:
    return chat.find("body").value_of_css_property("background-color")


def test_the_theme_follows_the_system_until_one_is_chosen(chat: ChatPage) -> None:
    light = background(chat)
    chat.media("dark")
    dark = background(chat)
    assert light != dark
    button = chat.find("#theme")
    assert button.get_attribute("aria-label") == "Light theme"
    button.click()
    assert background(chat) == light
    assert button.get_attribute("aria-label") == "Dark theme"
    chat.load()
    assert background(chat) == light
    chat.click("#theme")
    assert background(chat) == dark
    chat.media("light")  # what was chosen last is what the system had: it is followed again
    assert background(chat) == light


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_contrasts_are_what_wcag_aa_asks(
    chat: ChatPage, server: PageServer, scheme: str, phone: bool
) -> None:
    chat.media(scheme)
    full_page(chat, server)
    seen: list[dict[str, Any]] = chat.run(CONTRASTS)
    chat.size(*((390, 844) if phone else (1200, 800)), phone=phone)
    chat.click("#open-settings")
    seen += chat.run(CONTRASTS)
    assert len(seen) > 60
    poor = [
        f"{s['what']}: {s['ratio']:.2f} < {s['least']}" for s in seen if s["ratio"] < s["least"]
    ]
    assert poor == []


@pytest.mark.parametrize("width", [390, 320])
def test_on_a_phone_nothing_is_wider_than_the_screen(
    chat: ChatPage, server: PageServer, width: int
) -> None:
    chat.size(width, 844, phone=True)
    full_page(chat, server)
    assert chat.run(OVERFLOW) == [0, []]
    chat.click("#open-settings")
    assert chat.run(OVERFLOW) == [0, []]
    assert chat.run("return document.querySelector('#settings').matches(':modal')")


def test_on_a_phone_everything_can_be_hit_with_a_thumb(chat: ChatPage, server: PageServer) -> None:
    chat.size(390, 844, phone=True)
    full_page(chat, server)
    assert chat.run(SMALL) == []
    chat.click("#open-settings")
    assert chat.run(SMALL) == []


def test_on_a_phone_fields_are_not_zoomed_into(chat: ChatPage) -> None:
    chat.size(390, 844, phone=True)
    chat.click("#open-settings")
    sizes = "return [...document.querySelectorAll('input, textarea')]"
    sizes += ".map((field) => parseFloat(getComputedStyle(field).fontSize))"
    assert min(chat.run(sizes)) >= 16


def test_the_viewport_leaves_room_for_notches_and_keyboards(chat: ChatPage) -> None:
    viewport = chat.find("meta[name=viewport]").get_attribute("content") or ""
    assert "viewport-fit=cover" in viewport
    assert "interactive-widget=resizes-content" in viewport
    assert "user-scalable" not in viewport


def test_the_message_box_grows_up_to_a_part_of_the_screen(chat: ChatPage) -> None:
    height = "return document.querySelector('#prompt').clientHeight"
    one = chat.run(height)
    chat.find("#prompt").send_keys("a")
    chat.run("setPrompt('line\\n'.repeat(4))")
    several = chat.run(height)
    chat.run("setPrompt('line\\n'.repeat(400))")
    assert one < several < chat.run(height) <= 0.4 * 800 + 1
    chat.run("setPrompt('')")
    assert chat.run(height) == one


def test_settings_move_over_the_page_when_it_becomes_narrow(chat: ChatPage) -> None:
    modal = "return document.querySelector('#settings').matches(':modal')"
    chat.click("#open-settings")
    assert not chat.run(modal)
    chat.size(390, 844, phone=True)
    chat.until(lambda: chat.run(modal))
    chat.size(1200, 800)
    chat.until(lambda: not chat.run(modal) and chat.visible("#settings"))
    assert chat.find("#open-settings").get_attribute("aria-expanded") == "true"


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_nothing_moves_for_those_who_want_that(
    chat: ChatPage, server: PageServer, motion: str
) -> None:
    chat.media("light", motion)
    server.staged.append(Staged.text("an answer", open_end=True))
    chat.send("a question")
    chat.until(lambda: chat.answers == ["an answer"])
    moving = chat.run("return document.getAnimations().length")
    assert (moving == 0) == (motion == "reduce")
    chat.keys("\ue00c")
    chat.until(lambda: server.left == 1)
    server.left = 0
