"""Problems with the API server (away, not trusted, silent), with credentials for it, and with SSH nodes. Pure."""

from __future__ import annotations

from hatchway.door.problems.problem import RETRY_SECONDS, DoorProblem, describe
from hatchway.target import Target


def certificate(server: str, error: str) -> DoorProblem:
    """Describe a certificate of the API server that was not accepted.

    Args:
        server: the API server's URL.
        error: why the certificate was not accepted.
    """
    return DoorProblem(
        kind="certificate",
        status=502,
        title="The cluster's certificate is not the one expected",
        message=f"connecting to {server}: {error}",
        hint="Either the kubeconfig's certificate authority is out of date, or another server answers at this address "
        "(another cluster, the login page of a VPN or a proxy). Nothing was sent to it.",
        facts=(("API server", server),),
        commands=("kubectl config view --minify", "kubectl cluster-info"),
    )


def cluster_away(server: str, error: str, advice: str = "") -> DoorProblem:
    """Describe an API server that cannot be reached.

    Args:
        server: the API server's name for people.
        error: why connecting failed.
        advice: what to check, as a question or a sentence without a full stop (`kube.trouble.advice`).
    """
    advice = _sentence(advice or "is the cluster running?")
    return DoorProblem(
        kind="cluster-away",
        status=503,
        title="The cluster does not answer",
        message=f"connecting to {server}: {error}",
        hint=f"{advice} The door keeps trying, and the page that you requested appears as soon as the cluster is back.",
        facts=(("API server", server),),
        retry=RETRY_SECONDS,
    )


def cluster_silent(server: str, error: str) -> DoorProblem:
    """Describe an API server that accepts connections and sends nothing.

    Args:
        server: the API server's name for people.
        error: the message of the timeout: what did not arrive, and after how many seconds.
    """
    return DoorProblem(
        kind="time-out",
        status=504,
        title="The cluster did not answer in time",
        message=f"connected to {server}, but it sends nothing: {error}",
        hint="Its API server may be overloaded or starting, or a proxy or a VPN on the way may keep the connection "
        "open but pass nothing on. The door keeps trying.",
        facts=(("API server", server),),
        commands=("kubectl get --raw /readyz",),
        retry=RETRY_SECONDS,
    )


def no_credentials(server: str, error: str, advice: str = "") -> DoorProblem:
    """Describe that the door has no credentials for the cluster, so that no request was sent.

    Args:
        server: the API server's name for people.
        error: why there are no credentials: a credential plugin has failed, or a file cannot be read.
        advice: what to do, as a question or a sentence without a full stop; "" for what is right in most cases.
    """
    advice = _sentence(advice or "log in again as you do for kubectl, or correct the kubeconfig")
    return DoorProblem(
        kind="no-credentials",
        status=503,
        title="There are no credentials for the cluster",
        message=f"getting credentials for {server}: {error}",
        hint=f"{advice} Nothing was sent to the cluster. The door tries again by itself and needs no restart.",
        facts=(("API server", server),),
        commands=("kubectl auth whoami",),
        retry=5,
    )


def credentials_expired(context: str, error: str) -> DoorProblem:
    """Describe credentials that the cluster refuses (401), even after they were renewed.

    Args:
        context: the kubeconfig's context.
        error: the API server's message.
    """
    return DoorProblem(
        kind="credentials-expired",
        status=401,
        title="Your credentials are not accepted any more",
        message=f'the cluster of context "{context}" refuses the credentials: {error}',
        hint="Log in again as you do for kubectl; the door notices by itself and needs no restart.",
        facts=(("Context", context),),
        commands=("kubectl auth whoami",),
        retry=5,
    )


def no_ssh(target: Target, error: str, advice: str) -> DoorProblem:
    """Describe that the node of `--ssh` cannot be reached, or refuses the user.

    Args:
        target: the target as it was requested.
        error: the error of the connection to the node.
        advice: what to do, as a question or a sentence without a full stop; "" for nothing.
    """
    return DoorProblem(
        kind="no-route",
        status=502,
        title="The node of --ssh cannot be used",
        message=f"{describe(target)} is reached from a node by SSH: {error}",
        target=target,
        hint=_sentence(advice) if advice else "",
        facts=(("Route", "ssh"),),
        retry=RETRY_SECONDS,
    )


def _sentence(advice: str) -> str:
    """Return an advice with a capital letter and an end mark."""
    return f"{advice[0].upper()}{advice[1:]}{'' if advice[-1] in '?.' else '.'}"
