"""copyparty: a file is uploaded in pieces by workers, and found in its list after a reload"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running
from tests.conftest import wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    name = f"ada-{app.mode}.txt"
    page.locator("#opa_up, [data-dest=up2k]").first.click()
    page.locator("#u2btn").click()
    with page.expect_file_chooser() as chooser:
        page.get_by_text("Files", exact=True).click()
    content = b"by Ada " * 200_000
    chooser.value.set_files({"name": name, "mimeType": "text/plain", "buffer": content})
    page.get_by_text("OK", exact=True).click()
    wait_for(lambda: (app.work / "files" / name).exists() and (app.work / "files" / name).read_bytes() == content)
    page.goto(app.url)
    page.locator("#files").get_by_role("link", name=name).first.wait_for()


APP = App(
    name="copyparty",
    python=("copyparty==1.20.26",),
    setup=(("/bin/mkdir", "{work}/files"),),
    command=("{venv}/bin/copyparty", "-i", "{bind}", "-p", "{port}", "-v", "{work}/files::rwmd", "--no-thumb"),
    check=check,
    extra=True,
)
