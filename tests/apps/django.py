"""Django's admin: a log-in by form with CSRF cookie, token and Origin check; a record is made, changed and found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.at("admin/"))
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("lovelace")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Site administration").wait_for()
    page.get_by_role("link", name="Groups").first.click()
    page.get_by_role("link", name="Add group").first.click()
    name = f"engineers by {app.mode}"
    page.get_by_label("Name").fill(name)
    # A script creates the widget for permissions.
    page.locator("#id_permissions_from option").first.wait_for(state="attached")
    page.get_by_role("button", name="Save", exact=True).click()
    page.locator(".success", has_text=name).wait_for()
    page.get_by_role("link", name=name, exact=True).first.wait_for()
    page.get_by_role("button", name="Log out").click()
    page.get_by_text("Thanks for spending").wait_for()


APP = App(
    name="django-admin",
    python=("django==5.2.8",),
    sources="django",
    setup=(
        ("{venv}/bin/python", "manage.py", "migrate", "--verbosity=0"),
        ("{venv}/bin/python", "manage.py", "createsuperuser", "--noinput", "--username=ada", "--email=a@example.com"),
    ),
    command=("{venv}/bin/python", "manage.py", "runserver", "--noreload", "{bind}:{port}"),
    env={"DJANGO_SUPERUSER_PASSWORD": "lovelace", "DJANGO_SETTINGS_MODULE": "site1.settings"},
    check=check,
)
