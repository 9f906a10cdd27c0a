"""Every application works in Chromium: directly, by a host name of the door, and under the door's path prefix."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tests.apps
from tests.apps.app import App
from tests.apps.conftest import Starter
from tests.apps.witness import Witness
from tests.door import door_is_there

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_MODULES = (importlib.import_module(f"tests.apps.{one.name}") for one in pkgutil.iter_modules(tests.apps.__path__))
APPS: list[App] = [app for module in _MODULES for app in vars(module).values() if isinstance(app, App)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    every = metafunc.config.getoption("--all-apps")
    asked = metafunc.config.getoption("--app-modes")
    modes = asked.split(",") if asked else ["host", "prefix"] if door_is_there() else ["direct"]
    apps = [app for app in APPS if every or not app.extra]
    # Two separate calls, so that the modes of an application share its fixture.
    metafunc.parametrize("mode", modes)
    metafunc.parametrize("running", apps, indirect=True, ids=[app.name for app in apps])


@pytest.mark.timeout(300)
def test_it_works(running: Starter, mode: str, browser: Browser, request: pytest.FixtureRequest) -> None:
    app = running.app
    for case in (mode, "stranger") if request.config.getoption("--stranger") else (mode,):
        if case in app.fails:
            request.applymarker(pytest.mark.xfail(reason=app.fails[case], strict=True))
    reached = running.reach(mode)
    more = {}
    if app.credentials:
        # With "unauthorized", Playwright sends credentials only after a challenge, as browsers do.
        user, password = app.credentials
        more["http_credentials"] = {"username": user, "password": password, "send": "unauthorized"}
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **more)
    # Heavy pages take long on a busy machine; expected failures have a shorter timeout.
    context.set_default_timeout(10_000 if mode in app.fails else 60_000)
    page = context.new_page()
    witness = Witness(page)
    try:
        app.check(page, reached)
    except Exception as error:
        picture = Path(request.config.rootpath, ".cache/apps", f"{app.name}-{mode}.png")
        witness.picture(picture)
        error.add_note(f"at {page.url}, see {picture}\n{witness.report()}\nThe application:\n{reached.log()}")
        raise
    finally:
        context.close()
