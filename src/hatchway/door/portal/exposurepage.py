"""The HTML of the page "Exposure". Pure. The page works without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final
from urllib.parse import quote, urlencode

from hatchway.door.assets import PREFIX
from hatchway.door.portal.document import document
from hatchway.door.portal.exposurecontent import ExposureReport
from hatchway.door.portal.objectpages import page_path, pages_of
from hatchway.exposure.exposurereport import REACH_WORDS, SHIELD_WORDS, count, findings
from hatchway.exposure.findings import Exposure, Issue, Severity
from hatchway.printable import printable
from hatchway.target import Kind, Target, TargetError

PATH: Final = PREFIX + "exposure"
# The maximum number of findings and other rows on a page. The command line prints all.
MOST_FINDINGS: Final = 200
MOST_WAYS: Final = 1000
_LOCATIONS: Final = 4
# Seconds after which a browser requests the page again while a report is being made.
_REFRESH: Final = 1
_STATES: Final[dict[Severity, str]] = {"high": "down", "medium": "lacking", "low": "partly", "info": "ready"}
_PAGED: Final[dict[str, Kind]] = {"Service": "services", "Pod": "pods", "Node": "nodes"}


def page_address(namespace: str = "", *, again: bool = False) -> str:
    """Return the path of the page.

    namespace: "" for all.
    again: True to make a new report.
    """
    query = {"namespace": namespace} if namespace else {}
    return PATH + ("?" + urlencode({**query, **({"again": "1"} if again else {})}) if query or again else "")


def waiting_page(context: str, namespace: str) -> str:
    """Return the page that is displayed while the first report is made. It reloads automatically."""
    body = (
        _header(context, "connecting", "Looking", namespace, busy=True)
        + '<main id="main"><p class="note" role="status">The objects of the cluster that decide what is reachable are '
        "being read: Services, pods, nodes, NetworkPolicies, Ingresses, Gateways. In a large cluster this takes some "
        "seconds.</p></main>"
    )
    return document("Exposure", body, styles=_STYLES, kind="page-exposure", refresh=_REFRESH)


def report_page(context: str, report: ExposureReport, *, renewing: bool) -> str:
    """Return the page of a report. renewing: True when a newer one is being made; the page then reloads."""
    state, summary = _summary(report)
    found = findings(report.exposures)
    ways = report.exposures[:MOST_WAYS]
    body = (
        _header(context, state, summary, report.asked, busy=renewing, report=report)
        + '<main id="main">'
        + _unchecked(report)
        + (_findings(found, several=not report.namespace) if found else "")
        + _ways(ways, len(report.exposures), several=not report.namespace)
        + "</main>"
    )
    return document(
        "Exposure", body, styles=_STYLES, scripts=_SCRIPTS, kind="page-exposure", refresh=_REFRESH if renewing else 0
    )


_STYLES: Final = ("object.css", "exposure.css")
_SCRIPTS: Final = ("problem.js", "exposure.js")


def _summary(report: ExposureReport) -> tuple[str, str]:
    """Return the state for the coloured mark, and the text beside it."""
    counts = count(report.exposures)
    told = [f"{number} {severity}" for severity, number in counts.items() if number and severity != "info"]
    worst: Severity = next((severity for severity, number in counts.items() if number), "info")
    partly = ", in the objects that could be read" if report.unread else ""
    if told:
        return _STATES[worst], f"{', '.join(told)}{partly}"
    # When some objects could not be read, the cluster is not called safe.
    return ("empty" if report.unread else "ready"), f"No findings{partly}"


def _header(
    context: str, state: str, summary: str, namespace: str, *, busy: bool, report: ExposureReport | None = None
) -> str:
    at = ""
    if report is not None:
        time = datetime.fromtimestamp(report.at, UTC)
        at = f'<time datetime="{time.isoformat(timespec="seconds")}">{time:%H:%M:%S} UTC</time>'
    # While a newer report is made, there is no button for another one.
    again = (
        '<span class="pill" role="status"><span class="dot connecting" aria-hidden="true"></span>Looking</span>'
        if busy
        else f'<a class="button" id="again" href="{escape(page_address(namespace, again=True))}">Look again</a>'
    )
    options = "".join(f'<option value="{_text(one)}">' for one in (report.namespaces if report is not None else ()))
    where = f" in {_text(namespace)}" if namespace else ""
    return (
        f'<header><p class="crumbs"><a href="/">Hatchway</a> <span aria-hidden="true">/</span> exposure{where}</p>'
        '<div class="head"><h1>Exposure</h1>'
        f'<span class="state {state}" id="state"><span class="dot {state}" aria-hidden="true"></span>'
        f'{_text(summary)}</span><span class="gap"></span>{at}{again}</div>'
        f'<p class="reason">What can be reached from outside {_text(context) or "this cluster"}, by whom, and the '
        "commands that fix problems. Objects are read with your rights, and nothing is changed or contacted.</p>"
        f'<form class="controls" action="{PATH}"><label>Namespace <input class="field" name="namespace" '
        f'list="namespaces" value="{_text(namespace)}" placeholder="all" autocomplete="off" spellcheck="false">'
        f'</label><datalist id="namespaces">{options}</datalist><button class="button">Show</button>'
        '<label id="filtering" hidden>Only with <input class="field" id="filter" type="search" autocomplete="off" '
        'spellcheck="false"></label></form></header>'
    )


def _unchecked(report: ExposureReport) -> str:
    """Return the HTML that lists the unread objects, with the rules that would allow the user to read them."""
    narrowed = ""
    if report.asked != report.namespace:
        narrowed = (
            f'<p class="note">You may not list the namespaces, so only <b>{_text(report.namespace)}</b>, the '
            "namespace of your context, was checked. Enter another one above.</p>"
        )
    if not report.unread:
        return narrowed
    lines = "".join(f"<li>{_text(str(one))}</li>" for one in report.unread)
    rules = "".join(_copied(f"rule-{number}", rule, "the rule") for number, rule in enumerate(report.rules))
    shown = (
        f"<details><summary>The missing rules, for an administrator of the cluster</summary>{rules}</details>"
        if rules
        else ""
    )
    return (
        f'{narrowed}<section class="unread" aria-label="Not checked"><h2>Not checked, so it may be unsafe</h2>'
        f"<ul>{lines}</ul>{shown}</section>"
    )


def _findings(found: Sequence[tuple[Exposure, Issue]], *, several: bool) -> str:
    cards = []
    for number, (way, issue) in enumerate(found[:MOST_FINDINGS]):
        severity: Severity = "info" if way.accepted else issue.severity
        word = "on purpose" if way.accepted else issue.severity
        purpose = f'<p class="quiet">On purpose: {_text(way.accepted)}</p>' if way.accepted else ""
        cards.append(
            f'<li class="finding" data-row><p class="which"><span class="mark {_STATES[severity]}">'
            f'<span class="dot {_STATES[severity]}" aria-hidden="true"></span>{word}</span> '
            f'{_object(way, several=several)} <span class="quiet">{_text(way.way)} · {_text(issue.rule)}</span></p>'
            f"<p>{_text(issue.message)}</p>{purpose}"
            f"{_copied(f'mend-{number}', printable(issue.mend, len(issue.mend)), 'the command that fixes it')}</li>"
        )
    return (
        '<section aria-labelledby="findings"><h2 id="findings">Findings</h2>'
        f'<ul class="findings">{"".join(cards)}</ul>{_more(len(found) - MOST_FINDINGS)}</section>'
    )


def _ways(ways: Sequence[Exposure], number: int, *, several: bool) -> str:
    if not ways:
        return '<section><h2 id="ways">Ways in</h2><p class="note">No way in was found.</p></section>'
    rows = []
    for way in ways:
        shown = [f"<li>{_text(str(one))}</li>" for one in way.locations[:_LOCATIONS]]
        if len(way.locations) > _LOCATIONS:
            shown.append(f'<li class="quiet">and {len(way.locations) - _LOCATIONS} more</li>')
        finding = "on purpose" if way.accepted else way.severity if way.issues else "-"
        behind = ", ".join(way.workloads) or ("not known" if way.pods is None else "-")
        rows.append(
            f"<tr data-row><td>{_object(way, several=several)}</td><td>{_text(way.way)}</td>"
            f"<td>{REACH_WORDS[way.reach]}</td><td>{SHIELD_WORDS[way.shield]}</td><td>{_text(behind)}</td>"
            f'<td><ul class="mono">{"".join(shown)}</ul></td>'
            f'<td><span class="mark {_STATES[way.severity]}">{_text(finding)}</span></td></tr>'
        )
    head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    return (
        '<section aria-labelledby="ways"><h2 id="ways">Ways in</h2><div class="table" tabindex="0" role="region" '
        f'aria-labelledby="ways"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        f"{_more(number - len(ways))}</section>"
    )


_COLUMNS: Final = ("Object", "Way", "Reached from", "NetworkPolicies", "Behind it", "At", "Finding")


def _copied(identity: str, text: str, what: str) -> str:
    """Return the HTML of text with a button to copy it.

    identity: the id of its element.
    what: its name for screen readers.
    """
    return (
        f'<div class="snippet"><pre id="{identity}" tabindex="0" aria-label="{what}">{escape(text)}</pre>'
        f'<button class="button copy-text" type="button" data-for="{identity}" aria-label="Copy {what}" hidden>'
        "Copy</button></div>"
    )


def _more(number: int) -> str:
    return f'<p class="note">{number} more; <code>hatchway exposure -o json</code> has all.</p>' if number > 0 else ""


def _object(way: Exposure, *, several: bool) -> str:
    """Return the name of the object, as a link if it has a page. several: True to add its namespace."""
    name = f"<b>{_text(way.spelled)}</b>"
    kind = _PAGED.get(way.kind)
    if kind is not None:
        try:
            target = Target(kind, way.name, way.namespace)
            name = f'<a href="{escape(page_path(target, pages_of(target)[-1]))}">{name}</a>'
        except TargetError:
            pass  # the name is not valid for an object of this kind, so there is no page
    if not several or not way.namespace:
        return name
    in_namespace = f"{PATH}?namespace={quote(way.namespace, safe='')}"
    return f'{name} <span class="quiet">in <a href="{escape(in_namespace)}">{_text(way.namespace)}</a></span>'


def _text(value: str) -> str:
    """Return text from the cluster as HTML, without invisible characters."""
    return escape(printable(value))
