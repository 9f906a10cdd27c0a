"""Airflow: a single page application with a base address in its page; a redirect sets a cookie with the user's token"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.wait_for_load_state("networkidle")
    page.get_by_role("link", name="Dags").first.click()
    page.get_by_text("hello").first.click()
    page.get_by_role("button", name="Trigger").first.wait_for()
    page.reload()
    page.get_by_text("hello").first.wait_for()


APP = App(
    name="airflow",
    python=("apache-airflow==3.3.2",),
    sources="airflow",
    setup=(("{venv}/bin/airflow", "db", "migrate"), ("{venv}/bin/airflow", "dags", "reserialize")),
    command=("{venv}/bin/airflow", "api-server", "--host={bind}", "--port={port}", "--workers=1"),
    env={
        "AIRFLOW_HOME": "{work}",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": "{work}/dags",
    },
    check=check,
    extra=True,
)
