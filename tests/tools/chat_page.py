"""The chat page in a real, headless Chromium, driven as a person would."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

T = TypeVar("T")
PATIENCE = 120.0  # seconds until something that should happen counts as not happening
SWITCHES = (
    "--headless=new",
    "--disable-dev-shm-usage",  # containers often have a small one
    "--disable-component-update",
    "--no-first-run",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """A Chromium of Debian's packages, with what it logs and requests on record."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    for name, found in programs.items():
        if found is None:
            raise RuntimeError(f"[page] no {name} -> Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs["chromium"])
    for switch in SWITCHES:
        options.add_argument(switch)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium's own needs a user
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs["chromedriver"]))
    try:
        yield driver
    finally:
        driver.quit()


class ChatPage:
    """The page of one server, opened without anything remembered."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver, self.url = driver, url
        self.refused: set[int] = set()  # statuses that the test provokes; the console tells them
        self.size(1200, 800)
        self.media()
        driver.get(f"{url}/health")  # the same origin, without the page
        self.run("localStorage.clear(); sessionStorage.clear()")
        self.logs()
        self.load()

    def load(self) -> None:
        """Go to the page, or load it anew."""
        self.driver.get(self.url)
        self.until(lambda: self.visible("#key-form, #notice") or self.shown("#model"))

    # --- the browser around it

    def size(self, width: int, height: int, *, phone: bool = False, scale: float = 1) -> None:
        """The viewport, in CSS pixels."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone},
        )
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})

    def media(self, scheme: str = "light", motion: str = "no-preference") -> None:
        """What the system prefers."""
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": motion}
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": name, "value": value} for name, value in features.items()]},
        )

    def logs(self) -> tuple[list[str], list[str]]:
        """What the console says and which URLs were requested, each since the last call."""
        said = [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if not any(f"status of {status}" in entry["message"] for status in self.refused)
        ]
        events = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        requests = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return said, requests

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of a script that returns one."""
        return self.driver.execute_script(script, *arguments)

    def until(self, condition: Callable[[], T]) -> T:
        """What the condition gives as soon as it is true."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if value := condition():
                return value
            time.sleep(0.02)
        raise AssertionError(f"not within {PATIENCE:g} s; the page shows:\n{self.shown('body')}")

    # --- what is on it

    def find(self, selector: str) -> WebElement:
        """The element, which must be there."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """All elements."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def visible(self, selector: str) -> bool:
        """Whether there is such an element to see."""
        return any(element.is_displayed() for element in self.all(selector))

    def shown(self, selector: str) -> str:
        """The text of an element, as it is in the document."""
        return str(self.find(selector).get_property("textContent"))

    @property
    def prompt(self) -> str:
        """What is typed."""
        return str(self.find("#prompt").get_property("value"))

    @property
    def answers(self) -> list[str]:
        """The answers' texts."""
        return [
            str(body.get_property("textContent")) for body in self.all("article.assistant .body")
        ]

    @property
    def running(self) -> bool:
        """Whether an answer is on its way."""
        return "running" in (self.find("body").get_attribute("class") or "")

    @property
    def focused(self) -> str:
        """The focused element's id, or what else names it."""
        return str(
            self.run(
                "const e = document.activeElement;"
                "return e.id || e.getAttribute('aria-label') || e.className || e.localName"
            )
        )

    # --- what a person does

    def keys(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def shifted(self, key: str) -> None:
        """Press a key with Shift."""
        ActionChains(self.driver).key_down(Keys.SHIFT).send_keys(key).key_up(Keys.SHIFT).perform()

    def click(self, selector: str) -> None:
        """Click an element."""
        self.find(selector).click()

    def fill(self, selector: str, text: str) -> None:
        """Replace a field's text, and leave the field."""
        element = self.find(selector)
        element.click()
        element.send_keys(Keys.CONTROL, "a", Keys.NULL, Keys.DELETE, text, Keys.TAB)

    def send(self, text: str) -> None:
        """Type a message and send it."""
        self.find("#prompt").send_keys(text.replace("\n", Keys.SHIFT + Keys.ENTER + Keys.NULL))
        self.find("#prompt").send_keys(Keys.ENTER)

    def ask(self, text: str) -> str:
        """Send a message; the whole answer."""
        number = len(self.answers)
        self.send(text)
        self.until(lambda: len(self.answers) > number and not self.running)
        return self.answers[-1]
