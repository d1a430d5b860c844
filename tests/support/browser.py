"""A real browser, Debian's Chromium without a window, as a test uses a page: by role and name, by keyboard, by eye.

Its profile is new, empty and gone afterwards. Whatever the page writes to its console is kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from selenium.common.exceptions import JavascriptException, NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import ActionChains, Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.support.tools import cannot
from tests.support.waiting import eventually

_AXE = Path(__file__).parents[2] / "build" / "axe" / "axe_playwright_python" / "axe.min.js"
_INSTALL = "Chromium, chromedriver or axe-core is not here: .ci/need-chromium && .ci/need-axe .venv"
_OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_FINDINGS = "const done = arguments[0]; axe.run(document).then((result) => done(result.violations));"
HEIGHT = 900


class Browser:
    """One window. Whatever is looked for is waited for."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Load a page, with nothing left of what the last one stored."""
        self.driver.get(url)
        self.run("sessionStorage.clear()")
        self.driver.refresh()

    def looks(self, width: int, scheme: str) -> None:
        """A window of this width, for a user who prefers this colour scheme."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        metrics = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    # ---- what is there ----------------------------------------------------------------------------------------------

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of a script in the page."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        """What the elements show, whether or not that is inside the window; "" where there are none."""
        script = "return [...document.querySelectorAll(arguments[0])].map((node) => node.innerText).join('\\n')"
        return str(self.run(script, selector))

    def sees(self, selector: str, text: str) -> None:
        """Wait until an element shows this."""
        try:
            eventually(lambda: text in self.text(selector), f"{selector} shows {text!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}; the page:\n{self.text('body')}") from None

    def count(self, selector: str) -> int:
        """How many elements there are."""
        return int(self.run("return document.querySelectorAll(arguments[0]).length", selector))

    def button(self, name: str, within: str = "body") -> WebElement:
        """The button that a screen reader calls so."""

        def find() -> WebElement | None:
            with suppress(NoSuchElementException, StaleElementReferenceException):
                buttons = self.driver.find_elements(By.CSS_SELECTOR, f"{within} button")
                return next((button for button in buttons if button.accessible_name == name), None)
            return None

        found = eventually(find, f"there is a button {name!r} in {within}")
        assert found is not None
        return found

    def click(self, name: str, within: str = "body") -> None:
        """Click a button."""
        button = self.button(name, within)
        self.run("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()

    def findings(self) -> list[tuple[str, str, list[str]]]:
        """What axe-core finds seriously wrong: the rule, why, and where."""
        with suppress(JavascriptException):
            self.run(_AXE.read_text())
        found = self.driver.execute_async_script(_FINDINGS)
        serious = [finding for finding in found if finding["impact"] in ("serious", "critical")]
        return [(f["id"], f["help"], [node["html"][:200] for node in f["nodes"]]) for f in serious]

    def complaints(self) -> list[str]:
        """The errors and warnings on the console since this was last asked."""
        entries = self.driver.get_log("browser")
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    # ---- by keyboard ------------------------------------------------------------------------------------------------

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self) -> str:
        """The name of what has the focus, as a screen reader says it."""
        return self.driver.switch_to.active_element.accessible_name

    def walk_to(self, name: str, key: str, at_most: int = 200) -> None:
        """Press a key until something of this name has the focus."""
        passed: list[str] = []
        while self.focused() != name:
            passed.append(self.focused())
            assert len(passed) < at_most, f"the keyboard does not get to {name!r}: {passed}"
            self.press(key)


@contextmanager
def chromium(profile: Path, more: Sequence[str] = ()) -> Iterator[Browser]:
    """A browser with a new profile, for one test or a module of them."""
    paths = [shutil.which("chromium"), shutil.which("chromedriver")]
    if None in paths or not _AXE.exists():
        cannot(_INSTALL)
    options = ChromeOptions()
    options.binary_location = str(paths[0])
    for option in (*_OPTIONS, f"--user-data-dir={profile}", *more):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(str(paths[1])))
    try:
        driver.set_script_timeout(30)
        yield Browser(driver)
    finally:
        driver.quit()
