"""Classifies the answer to one request without credentials (a page, an API or a login), and its certificate. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from hatchway.exposure import mending
from hatchway.exposure.findings import Exposure, Issue, Location, worst_severity
from hatchway.exposure.ranges import PRIVATE, audience_of

# page, api, login: the kinds of an HTTP answer. other: an HTTP answer of no such kind (an error, a redirect to another
# place). no-http: another protocol. unreachable: no connection from this machine. unasked: no request was sent.
AnswerKind = Literal["page", "api", "login", "other", "no-http", "unreachable", "unasked"]

_PASSWORD = re.compile(rb"<input\b[^>]{0,400}\btype\s*=\s*[\"']?password", re.IGNORECASE)
_TITLE = re.compile(rb"<title[^>]{0,200}>([^<]{1,200})", re.IGNORECASE)
_LOGIN_PATH = re.compile(
    r"(?:^|[/?&._-])(?:log-?in|sign-?in|auth|oauth2?|sso|saml|openid)(?:[/?&=._-]|$)", re.IGNORECASE
)
_PAGES: Final = ("text/html", "application/xhtml+xml")
_LONGEST_TITLE = 60
# The maximum number of characters of a certificate's name, and of a word in a header field.
_LONGEST_NAME, _LONGEST_WORD = 253, 60


@dataclass(frozen=True, slots=True)
class Certificate:
    """A TLS server's certificate.

    names: DNS names and addresses. issuer: the issuer's common name, or its whole name without one.
    begins, ends: the time in which it is valid, with a time zone.
    """

    names: tuple[str, ...]
    issuer: str
    begins: datetime
    ends: datetime

    @classmethod
    def parse(cls, der: bytes) -> Certificate | None:
        """Parse a certificate; return None when it is not valid DER. der: the certificate in DER."""
        from cryptography import x509
        from cryptography.x509.oid import NameOID

        try:
            found = x509.load_der_x509_certificate(der)
            commons = found.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
            issuer = str(commons[0].value) if commons else found.issuer.rfc4514_string()
            names: list[str] = []
            try:
                extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
                names = [*extension.get_values_for_type(x509.DNSName)]
                names += [str(one) for one in extension.get_values_for_type(x509.IPAddress)]
            except x509.ExtensionNotFound:
                names = [str(one.value) for one in found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
            begins, ends = found.not_valid_before_utc, found.not_valid_after_utc
        except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
            return None
        return cls(tuple(name[:_LONGEST_NAME] for name in names[:20]), issuer[:_LONGEST_NAME], begins, ends)

    def problem(self, now: datetime) -> str:
        """Return why the certificate is not valid at this time; "" when it is valid."""
        if now > self.ends:
            return f"its certificate expired on {self.ends:%Y-%m-%d}"
        return f"its certificate is not valid before {self.begins:%Y-%m-%d}" if now < self.begins else ""

    def __str__(self) -> str:
        names = ", ".join(self.names[:3]) or "no name"
        return f"certificate for {names} by {self.issuer}, until {self.ends:%Y-%m-%d}"


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """The result of a probe of a location.

    kind: see `AnswerKind`. told: the result in words. tls: True when the location speaks TLS; None when this is not
        known.
    """

    location: Location
    kind: AnswerKind
    told: str
    tls: bool | None = None
    certificate: Certificate | None = None

    def __str__(self) -> str:
        security = "" if self.tls is None else "; TLS" if self.tls else "; no TLS"
        if self.certificate is not None:
            security += f", {self.certificate}"
        return f"{self.location}: {self.told}{security}"

    def as_dict(self) -> dict[str, Any]:
        """Return the form that `-o json` prints."""
        found: dict[str, Any] = {"at": str(self.location), "kind": self.kind, "told": self.told, "tls": self.tls}
        if (one := self.certificate) is not None:
            found["certificate"] = {
                "names": list(one.names),
                "issuer": one.issuer,
                "notBefore": one.begins.isoformat(),
                "notAfter": one.ends.isoformat(),
            }
        return found


def classify(status: int, fields: dict[str, str], body: bytes) -> tuple[AnswerKind, str]:
    """Return (the kind of a response to `GET /`, a description in words).

    fields: the header fields by their names in lower case. body: the part that was read.
    """
    if status == 401 or "www-authenticate" in fields:
        scheme = fields.get("www-authenticate", "").partition(" ")[0][:_LONGEST_WORD]
        return "login", f"asks for credentials ({status}{', ' + scheme if scheme else ''})"
    if status == 403:
        return "login", "refuses requests without credentials (403)"
    if 300 <= status < 400:
        location = fields.get("location", "")
        kind: AnswerKind = "login" if _LOGIN_PATH.search(_path_of(location)) else "other"
        return kind, f"redirects to {location[:200] or 'nowhere'} ({status})"
    media = fields.get("content-type", "").partition(";")[0].strip().lower()[:_LONGEST_WORD]
    is_page = media in _PAGES or (not media and body.lstrip()[:1] == b"<")
    title = _title_of(body) if is_page else ""
    if _PASSWORD.search(body):
        return "login", f"shows a login{title}"
    if status >= 400:
        return "other", f"answers {status} to GET /{title}"
    if is_page:
        return "page", f"shows a page without credentials{title}"
    return "api", f"answers without credentials ({media or 'no content type'})"


def _path_of(location: str) -> str:
    try:
        return urlsplit(location).path
    except ValueError:
        # The Location is not a valid URL, such as `http://[`.
        return ""


def _title_of(body: bytes) -> str:
    match = _TITLE.search(body)
    if match is None:
        return ""
    title = " ".join(match[1].decode(errors="replace").split())
    return f', "{title[:_LONGEST_TITLE]}"' if title else ""


def with_answers(exposure: Exposure, answers: list[ProbeAnswer], now: datetime) -> Exposure:
    """Return a way in with the results of its probes, and with the findings that follow from them."""
    issues = list(exposure.issues)
    for answer in answers:
        for issue in _issues(exposure, answer, now):
            if issue.rule not in {one.rule for one in issues}:
                issues.append(issue)
    return replace(exposure, answers=tuple(answers), issues=tuple(issues))


def _issues(exposure: Exposure, answer: ProbeAnswer, now: datetime) -> list[Issue]:
    found: list[Issue] = []
    where, kind, namespace, name = str(answer.location), exposure.kind.lower(), exposure.namespace, exposure.name
    see = mending.describe_command(kind, namespace, name)
    is_public = exposure.reach in ("internet", "unknown")
    # A private address may belong to one machine in this network and to another machine in the cluster's network.
    is_certain = audience_of(answer.location.address) is not PRIVATE and exposure.way not in ("Ingress", "route")
    if exposure.shield == "full" and is_certain and answer.kind not in _SILENT:
        found.append(
            Issue(
                "policy-not-enforced",
                "medium",
                f"NetworkPolicies should shield {where}, but it answers: the network plugin does not enforce them",
                see,
            )
        )
    if is_public and answer.kind == "api":
        told = f"{where} {answer.told}: anyone who finds it can use it"
        found.append(Issue("no-credentials", "medium", told, see))
    elif is_public and answer.kind == "page":
        found.append(Issue("no-credentials", "low", f"{where} {answer.told}: everybody can read it", see))
    if answer.kind == "login" and answer.tls is False and exposure.reach not in ("machine", "nobody"):
        severity = worst_severity(["medium" if exposure.reach != "private" else "low"])
        told = f"{where} {answer.told} without TLS: others in the network can read passwords"
        found.append(Issue("login-without-tls", severity, told, see))
    if answer.certificate is not None and (problem := answer.certificate.problem(now)):
        found.append(Issue("bad-certificate", "medium", f"{where} speaks TLS, and {problem}", see))
    return found


_SILENT: Final = ("unreachable", "unasked")
