"""Label Studio: a user signs up by a form with a CSRF token, and makes a project"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.at("user/signup/"))
    page.locator("#email").fill(f"{app.mode}@example.com")
    page.locator("#password").fill("lovelace1815")
    page.get_by_role("button", name="Create Account").click()
    page.get_by_role("button", name="Create Project").first.click()
    page.locator("#project_name").fill(f"by {app.mode}")
    page.wait_for_load_state("networkidle")
    page.get_by_role("button", name="Save").click()
    page.get_by_text(f"by {app.mode}").first.wait_for()
    page.reload()
    page.get_by_text(f"by {app.mode}").first.wait_for()


APP = App(
    name="label-studio",
    python=("label-studio==1.23.2",),
    command=(
        "{venv}/bin/label-studio",
        "start",
        "--no-browser",
        "--internal-host={bind}",
        "--port={port}",
        "--data-dir={work}",
    ),
    env={"COLLECT_ANALYTICS": "False", "LATEST_VERSION_CHECK": "False"},
    check=check,
    extra=True,
)
