"""Random programs that read the page's address return the same in Chromium with and without a path prefix.

HATCHWAY_FUZZ=N runs N programs (150 by default); HATCHWAY_FUZZ_SEED is the first seed. A program with different results
is printed with its seed; after the fault is corrected, it is added to `tests/rewriting.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.behind import Front, Site, proxy_verb, serving
from tests.browser.programs import Programs

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

COUNT = int(os.environ.get("HATCHWAY_FUZZ", "150"))
SEED = int(os.environ.get("HATCHWAY_FUZZ_SEED", "0"))
BATCH = 100
PAGE = (
    "<!DOCTYPE html><html><head><title>x</title><link rel=icon href=data:,></head><body><iframe "
    "id=frame></iframe></body></html>"
)
# Definitions that programs share; each result is converted to text.
SHARED = """
var W = window, k = 'location', p = 'pathname', f = x => x, frame = document.getElementById('frame');
function told(run) {
  try { return JSON.stringify(run()) || 'undefined' } catch (e) { return 'threw ' + e.name }
}
"""


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with proxy_verb(strays=False) as found:
        yield found


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site({"/deep/er/": PAGE, "/shared.js": SHARED})
    with serving(site):
        yield site


class Both:
    """One page under the prefix, and one without."""

    def __init__(self, browser: Browser, front: Front, site: Site) -> None:
        self._site = site
        self._context = browser.new_context()
        self._origins = (front.origin, f"http://prefix.localhost:{site.port}")
        self._tabs = (self._tab(front.url(site, "/deep/er/")), self._tab(self._origins[1] + "/deep/er/"))

    def _tab(self, url: str) -> Tab:
        tab = self._context.new_page()
        tab.goto(url + "?q=1#h")
        tab.add_script_tag(url="/shared.js")
        return tab

    def close(self) -> None:
        self._context.close()

    def _plain(self, results: list[str], origin: str) -> list[str]:
        host = origin.removeprefix("http://")
        return [
            one.replace(origin, "ORIGIN")
            .replace(host, "HOST")
            .replace(host.replace(":", "%3A"), "HOST")
            .replace(host.split(":")[1], "PORT")
            for one in results
        ]

    def ask(self, script: str, argument: Any = None) -> tuple[list[str], list[str]]:
        under, plain = (
            self._plain(tab.evaluate(script, argument), origin)
            for tab, origin in zip(self._tabs, self._origins, strict=True)
        )
        return under, plain

    def as_file(self, programs: list[str], kind: str) -> tuple[list[str], list[str]]:
        """Run programs as a served script; if they do not compile together, run them one by one."""
        functions = ",\n".join(f"function () {{ {program}\n}}" for program in programs)
        self._site.pages["/programs.js"] = (
            f"window.programs = [\n{functions}\n]; window.results = window.programs.map(told);"
        )
        results = []
        for tab, origin in zip(self._tabs, self._origins, strict=True):
            found = tab.evaluate(
                "kind => new Promise(done => { window.results = null; const s = document.createElement('script');"
                " s.type = kind; s.src = '/programs.js?' + (window.count = (window.count || 1000) + 1); s.onload = "
                "s.onerror = () => { s.remove(); done(window.results) };"
                " document.head.append(s) })",
                kind,
            )
            results.append(None if found is None else self._plain(found, origin))
        under, plain = results
        if under is not None and plain is not None:
            return under, plain
        if len(programs) > 1:
            return self._apart(programs, kind)
        return under or ["does not compile"], plain or ["does not compile"]

    def _apart(self, programs: list[str], kind: str) -> tuple[list[str], list[str]]:
        middle = len(programs) // 2
        first, second = self.as_file(programs[:middle], kind), self.as_file(programs[middle:], kind)
        return first[0] + second[0], first[1] + second[1]

    def as_text(self, programs: list[str]) -> tuple[list[str], list[str]]:
        return self.ask(
            "list => list.map(text => { let run; try { run = new Function(text) } catch (e) { return 'does not "
            "compile' }"
            " return told(run) })",
            programs,
        )


@pytest.fixture
def both(browser: Browser, front: Front, site: Site) -> Iterator[Both]:
    found = Both(browser, front, site)
    yield found
    found.close()


def _differences(programs: list[str], found: tuple[list[str], list[str]]) -> list[str]:
    return [
        f"{program}\n    under the prefix: {under[:300]}\n    without:          {plain[:300]}"
        for program, under, plain in zip(programs, *found, strict=True)
        if under != plain
    ]


@pytest.mark.parametrize("how", ["file", "module", "text"])
def test_programs_return_the_same(both: Both, how: str) -> None:
    programs = Programs(SEED, sloppy=how != "module")
    wrong: list[str] = []
    for done in range(0, COUNT, BATCH):
        some = [programs.program() for _ in range(min(BATCH, COUNT - done))]
        if how == "text":
            wrong += _differences(some, both.as_text(some))
        else:
            wrong += _differences(some, both.as_file(some, "module" if how == "module" else "text/javascript"))
        if len(wrong) > 20:
            break
    assert not wrong, json.dumps(SEED) + "\n" + "\n".join(wrong)
