"""I Hate Money: forms with CSRF tokens that redirect to each other, a session, a Content-Security-Policy"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    project = f"trip-{app.mode}"
    page.goto(app.at("create"))
    page.locator("#name").fill(project)
    page.locator("#id").fill(project)
    page.locator("#password").fill("lovelace42")
    page.locator("#contact_email").fill("ada@example.com")
    page.locator("form button[type=submit], form input[type=submit]").first.click()
    page.wait_for_url(app.at(f"{project}/**"))
    page.goto(app.at(f"{project}/"))
    page.locator("#add-member-form input[type=text], form input[name=name]").first.fill("Grace")
    page.keyboard.press("Enter")
    page.get_by_text("Grace").first.wait_for()
    page.get_by_role("link", name="Statistics").first.click()
    page.wait_for_url(app.at(f"{project}/statistics"))
    page.get_by_role("cell", name="Grace").or_(page.get_by_text("Grace")).first.wait_for()


APP = App(
    name="ihatemoney",
    python=("ihatemoney==7.2.1",),
    sources="ihatemoney",
    command=(
        "{venv}/bin/python",
        "-c",
        "from ihatemoney.run import create_app; create_app().run('{bind}', {port})",
    ),
    env={"IHATEMONEY_SETTINGS_FILE_PATH": "{work}/settings.py"},
    check=check,
    extra=True,
)
