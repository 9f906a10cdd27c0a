"""Content-Security-Policy under the prefix allows, refuses and reports the same as without the prefix."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.behind import Answer, Front, Site, proxy_verb, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

FIRST = "ran('first ' + location.pathname); import('/m.js').then(() => ran('done'), e => ran('failed'))"
# A script that loads further scripts, which 'strict-dynamic' allows.
LOADER = (
    "for (const src of ['/x.js', '/y.js']) { const s = document.createElement('script'); s.src = src; "
    "document.head.append(s) }"
)
SECOND = "ran('second')"
STYLE = "body { color: rgb(1, 2, 3); background: url(/a.png) }"
MAP = '{"imports": {"mapped": "/m.js"}}'
HANDLER = "ran('handler')"
TYPES = "import('/m.js').then(() => ran('typed'))"


def digest(text: str, name: str = "sha256") -> str:
    return f"'{name}-{base64.b64encode(hashlib.new(name, text.encode()).digest()).decode()}'"


PAGE = f"""<!DOCTYPE html><html><head>META<title>x</title><link rel=icon href=data:,>
<link rel=modulepreload href=/m.js><style>{STYLE}</style><script type=importmap>{MAP}</script>
<script>{FIRST}</script><script>{LOADER}</script><script>{SECOND}</script><script type=module>{TYPES}</script>
<script nonce=given>ran('nonce ' + location.pathname)</script></head>
<body onload="{HANDLER}" style="background: url(/b.png)"></body></html>"""
# Runs before the policy applies, so that all refusals are recorded.
RECORDER = (
    "window.all = []; window.ran = x => { all.push(x); return x };"
    "addEventListener('securitypolicyviolation', e => all.push(e.disposition + ' ' + e.effectiveDirective))"
)
POLICIES = {
    "one hash": f"script-src {digest(FIRST)} 'self'",
    "every hash": f"script-src 'self' {digest(FIRST, 'sha384')} {digest(LOADER)} {digest(SECOND, 'sha512')} "
    f"{digest(MAP)} {digest(TYPES)}",
    "strict-dynamic": f"script-src 'strict-dynamic' {digest(FIRST)} {digest(LOADER)} {digest(TYPES)}",
    "hash and nonce": f"script-src 'nonce-given' {digest(FIRST)} 'strict-dynamic'",
    "default-src": f"default-src 'self' data: {digest(FIRST)} {digest(STYLE)}",
    "element directives": f"script-src-elem 'self' {digest(FIRST)}; style-src-elem {digest(STYLE)}",
    "style": f"style-src {digest(STYLE)}",
    "another style": "style-src 'sha256-AAAA'",
    "unsafe-hashes": f"script-src 'unsafe-hashes' {digest(HANDLER)}; style-src 'unsafe-hashes' "
    f"{digest('background: url(/b.png)')}",
    "unsafe-inline": f"script-src 'self' 'unsafe-inline' {digest(FIRST)}",
    "no hash": "script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'",
    "two policies": f"script-src 'self' {digest(FIRST)} {digest(SECOND)}, script-src 'self' {digest(SECOND)} "
    f"{digest(TYPES)}",
}


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with proxy_verb(strays=False) as found:
        yield found


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    pages: dict[str, Any] = {
        "/m.js": "ran('module')",
        "/x.js": "ran('x')",
        "/y.js": "ran('y')",
        "/a.png": "",
        "/b.png": "",
    }
    site = Site(pages)
    with serving(site):
        yield site


def seen(tab: Tab) -> list[str]:
    tab.wait_for_load_state("networkidle")
    style = "getComputedStyle(document.body)"
    found: list[str] = tab.evaluate(f"all.sort().concat({style}.color, String({style}.backgroundImage !== 'none'))")
    return found


def page_with(policy: str, how: str) -> Answer:
    recorder = f"<script nonce=given>{RECORDER}</script>"
    fields = {"Content-Type": "text/html"}
    if how == "meta":
        policies = [one.strip() for one in policy.split(",")]
        metas = "".join(f'<meta http-equiv="Content-Security-Policy" content="{one}">' for one in policies)
        return 200, fields, PAGE.replace("META", recorder + metas)
    allowed = re.sub(r"(script-src|script-src-elem|default-src) ", rf"\1 {digest(RECORDER)} ", policy)
    fields["Content-Security-Policy" if how == "field" else "Content-Security-Policy-Report-Only"] = allowed
    return 200, fields, PAGE.replace("META", recorder)


@pytest.mark.parametrize("how", ["field", "meta", "report"])
def test_policies_allow_and_refuse_the_same_scripts(browser: Browser, front: Front, site: Site, how: str) -> None:
    names = [name.replace(" ", "-") for name in POLICIES]
    for name, policy in zip(names, POLICIES.values(), strict=True):
        site.pages[f"/{name}/"] = lambda _, policy=policy: page_with(policy, how)
    context = browser.new_context()
    try:
        tabs: dict[str, tuple[Tab, Tab]] = {}
        for name in names:
            tabs[name] = context.new_page(), context.new_page()
            tabs[name][0].goto(front.url(site, f"/{name}/"))
            tabs[name][1].goto(f"http://prefix.localhost:{site.port}/{name}/")
        found = {name: (seen(under), seen(plain)) for name, (under, plain) in tabs.items()}
    finally:
        context.close()
    for name, (under, plain) in found.items():
        if how == "report":  # Scripts run and are rewritten, which may cause further reports.
            under, plain = ([one for one in all if not one.startswith("report")] for all in (under, plain))
        assert under == plain, name
