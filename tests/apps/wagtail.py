"""Wagtail: a log-in, a page that is written in an editor and saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.at("admin/"))
    page.locator("input[name=username]").fill("ada")
    page.locator("input[name=password]").fill("lovelace")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Search").first.wait_for()
    page.get_by_role("link", name="Images").first.click()
    page.get_by_text("Add an image").first.wait_for()


APP = App(
    name="wagtail",
    python=("wagtail==7.1.1", "django==5.2.8"),
    setup=(
        ("{venv}/bin/wagtail", "start", "site1", "."),
        ("{venv}/bin/python", "manage.py", "migrate", "--verbosity=0"),
        ("{venv}/bin/python", "manage.py", "createsuperuser", "--noinput", "--username=ada", "--email=a@example.com"),
    ),
    command=("{venv}/bin/python", "manage.py", "runserver", "--noreload", "{bind}:{port}"),
    env={"DJANGO_SUPERUSER_PASSWORD": "lovelace"},
    check=check,
    extra=True,
)
