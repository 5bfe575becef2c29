"""Writes docs/images/chat.png: the chat page with answers of the sample model.

It needs what `make test-page` installs, and Pillow. With Debian's fonts-inter and
fonts-jetbrains-mono it looks as it does on most desktops:

    .venv/bin/python tests/tools/chat_screenshot.py docs/images/chat.png
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
from pathlib import Path

from chat_page import ChatPage, browser
from page_server import serving
from PIL import Image
from selenium import webdriver

from ferrum.builder.build import build
from ferrum.runtime.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE = ROOT / "models" / "samples" / "tinycode-Q4_K_M.gguf"
TURNS = ("import os\nimport sys\n", "class Node:\n    def __init__(self, name")
SEED = 2
FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><include>/etc/fonts/fonts.conf</include>
<match><test name="family"><string>sans</string></test>
<edit name="family" mode="prepend" binding="strong"><string>Inter</string></edit></match>
<match><test name="family"><string>sans-serif</string></test>
<edit name="family" mode="prepend" binding="strong"><string>Inter</string></edit></match>
<match><test name="family"><string>monospace</string></test>
<edit name="family" mode="prepend" binding="strong"><string>JetBrains Mono</string></edit></match>
</fontconfig>"""
# Both pictures on one sheet, the phone's over the corner of the desktop's.
SHEET = """
document.documentElement.innerHTML = "";
const style = document.body.style;
style.cssText = "margin:0;height:100vh;position:relative;background:#ece7e0";
const frames = ["left:28px;top:28px;width:900px;border-radius:12px",
  "right:28px;bottom:28px;width:270px;border-radius:28px;border:5px solid #0d0c0b"];
arguments[0].forEach((data, i) => {
  const image = document.createElement("img");
  image.src = "data:image/png;base64," + data;
  image.style.cssText = `position:absolute;${frames[i]};box-shadow:0 8px 30px rgb(60 40 20 / 22%)`;
  document.body.append(image);
});
"""


def converse(chat: ChatPage, tokens: int) -> None:
    """Two turns, with settings that suit the sample: it is no chat model, but writes Python."""
    chat.click("#open-settings")
    chat.fill("#seed", str(SEED))
    chat.fill("#max_tokens", str(tokens))
    chat.click("#formatted")
    for turn in TURNS:
        chat.ask(turn)
    chat.until(lambda: not chat.running)


def pictures(driver: webdriver.Chrome, url: str) -> list[str]:
    """The page on a desktop in light colours, and on a phone in dark ones (base64 of PNG)."""
    chat = ChatPage(driver, url)
    chat.size(1000, 796, scale=2)
    converse(chat, 80)
    taken = [_picture(chat)]
    chat.click("#theme")
    chat.size(390, 844, phone=True, scale=2)
    chat.run("$('settings').close()")
    taken.append(_picture(chat))
    return taken


def _picture(chat: ChatPage) -> str:
    chat.run("document.activeElement.blur(); follow = true; scrollAlong()")
    time.sleep(0.5)  # what fades has faded
    return chat.driver.get_screenshot_as_base64()


def main() -> None:
    """Take the picture; the argument is where it goes."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "fonts.conf").write_text(FONTS)
        os.environ["FONTCONFIG_FILE"] = f"{folder}/fonts.conf"
        model = Path(folder) / "tinycode.onnx"
        build(SAMPLE, model)
        with serving(model, Settings()) as server, browser() as driver:
            taken = pictures(driver, server.url)
            driver.get("about:blank")
            sheet = ChatPage.__new__(ChatPage)
            sheet.driver = driver
            sheet.size(1200, 772)
            sheet.run(SHEET, taken)
            time.sleep(0.5)
            image = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(sys.argv[1], optimize=True)


if __name__ == "__main__":
    main()
