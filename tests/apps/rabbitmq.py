"""Debian's RabbitMQ: its management page, whose scripts send Authorization, and whose addresses have `%2F` in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.locator("input[name=username]").fill("guest")
    page.locator("input[name=password]").fill("guest")
    page.get_by_role("button", name="Login").click()
    page.get_by_role("link", name="Queues", exact=True).click()
    page.get_by_role("heading", name="Add a new queue").click()
    page.locator("input[name=name]").fill("letters")
    page.get_by_role("button", name="Add queue").click()
    # The page at #/queues/%2F/letters requests /api/queues/%2F/letters.
    page.get_by_role("link", name="letters").click()
    page.get_by_role("heading", name="Queue letters").wait_for()


APP = App(
    name="rabbitmq",
    debian=("rabbitmq-server",),
    sources="rabbitmq",
    command=("/usr/lib/rabbitmq/bin/rabbitmq-server",),
    env={
        "RABBITMQ_NODENAME": "rabbit@localhost",
        "RABBITMQ_MNESIA_BASE": "{work}/mnesia",
        "RABBITMQ_LOG_BASE": "{work}/log",
        "RABBITMQ_ENABLED_PLUGINS_FILE": "{work}/enabled_plugins",
        "RABBITMQ_CONF_ENV_FILE": "{work}/env.conf",
        "RABBITMQ_SERVER_START_ARGS": "-rabbitmq_management listener [{port,{port}}] -rabbit loopback_users []",
    },
    check=check,
    extra=True,
    fails={
        "stranger": "a kube-apiserver keeps Authorization, which its scripts send, to itself: this needs port-forward"
    },
)
