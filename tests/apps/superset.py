"""Superset: a log-in by form with a CSRF token, lists by a router in React, CSP with strict-dynamic"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_label("Username").or_(page.locator("#username")).first.fill("admin")
    page.locator("#password, input[type=password]").first.fill("lovelace")
    page.locator("input[type=submit], button[type=submit]").first.click()
    page.goto(app.at("dashboard/list/"))
    page.get_by_text("Dashboards").first.wait_for()


APP = App(
    name="superset",
    python=("apache-superset==6.1.0", "rich", "cachetools", "flask-caching==2.3.1"),
    setup=(
        ("{venv}/bin/superset", "db", "upgrade"),
        (
            "{venv}/bin/superset",
            "fab",
            "create-admin",
            "--username",
            "admin",
            "--firstname",
            "A",
            "--lastname",
            "L",
            "--email",
            "a@example.com",
            "--password",
            "lovelace",
        ),
        ("{venv}/bin/superset", "init"),
    ),
    command=("{venv}/bin/superset", "run", "-h", "{bind}", "-p", "{port}", "--with-threads"),
    env={
        "FLASK_APP": "superset",
        "SUPERSET_SECRET_KEY": "a secret that is long enough for this",
        "SUPERSET_HOME": "{work}",
    },
    check=check,
    extra=True,
)
