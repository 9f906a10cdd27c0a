"""Cases that kubectl does not cause: other protocol versions, refusals, rights, and clients and pods that misbehave."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator

import pytest

from hatchway.wire import channels, portforwardstreams
from hatchway.wire.spdyevents import DataReceived, GoneAway, StreamAccepted, StreamOpened, StreamReset
from tests.conftest import Cluster, wait_for
from tests.integration.streams.raw import (
    POD,
    Refusal,
    SpdyClient,
    Upgraded,
    WebSocketClient,
    command_path,
    exit_code,
)

_ECHO = command_path("exec", "sh", "-c", "echo out; echo err >&2; exit 3")


@pytest.fixture(autouse=True, scope="module")
def pods(stream_cluster: Cluster) -> None:
    """Create the pods, which all tests of this file need."""


def test_versions_4_and_5_end_with_a_status(cluster: Cluster) -> None:
    for protocol in ("v4.channel.k8s.io", "v5.channel.k8s.io"):
        with WebSocketClient(cluster, _ECHO, protocol) as client:
            assert f"sec-websocket-protocol: {protocol}".encode() in client.head.lower()
            first = next(client.messages())
            assert (first.data, first.is_text) == (b"\1", False)
            found = client.collect()
            assert found[channels.STDOUT] == b"out\n" and found[channels.STDERR] == b"err\n"
            assert exit_code(found) == 3
            assert client.closed is not None and client.closed.code == 1000


@pytest.mark.parametrize("protocol", ["", "channel.k8s.io"])
def test_the_first_version_reports_failures_as_text(cluster: Cluster, protocol: str) -> None:
    with WebSocketClient(cluster, _ECHO, *filter(None, [protocol])) as client:
        found = client.collect()
        assert found[channels.STDOUT] == b"out\n"
        text = b"command terminated with non-zero exit code: command terminated with exit code 3"
        assert found[channels.ERROR] == text
    with WebSocketClient(cluster, command_path("exec", "true"), *filter(None, [protocol])) as client:
        assert channels.ERROR not in client.collect()


def test_base64_channels_are_text(cluster: Cluster) -> None:
    path = command_path("exec", "head", "-c", "5", stdin=True)
    with WebSocketClient(cluster, path, "nope", "v4.base64.channel.k8s.io") as client:
        client.websocket.send_text(b"0" + base64.b64encode(b"12345"))
        client.flush()
        messages = list(client.messages())
    assert all(message.is_text for message in messages)
    assert b"1" + base64.b64encode(b"12345") in [message.data for message in messages]
    assert channels.decode_status(base64.b64decode(messages[-1].data[1:])).exit_code == 0


def test_version_5_ends_standard_input(cluster: Cluster) -> None:
    path = command_path("exec", "cat", stdin=True)
    with WebSocketClient(cluster, path, "v4.channel.k8s.io", "v5.channel.k8s.io") as client:
        assert b"sec-websocket-protocol: v5.channel.k8s.io" in client.head.lower()
        client.write(bytes((channels.STDIN,)) + b"text")
        client.write(bytes((channels.CLOSE, channels.STDIN)))
        assert client.collect()[channels.STDOUT] == b"text"


@pytest.mark.parametrize("version", channels.SPDY_PROTOCOLS)
def test_every_version_over_spdy(cluster: Cluster, version: str) -> None:
    with SpdyClient(cluster, command_path("exec", "sh", "-c", "cat; exit 3", stdin=True), "v9", version) as client:
        assert f"x-stream-protocol-version: {version}".encode() in client.head.lower()
        streams = {kind: client.spdy.open_stream([(b"streamtype", kind)]) for kind in (b"error", b"stdin", b"stdout")}
        streams[b"stderr"] = client.spdy.open_stream([(b"streamtype", b"stderr")])
        client.spdy.send_data(streams[b"stdin"], b"some text", fin=True)
        client.flush()
        found: dict[int, bytes] = {}
        for event in client.events():
            if isinstance(event, DataReceived):
                found[event.stream_id] = found.get(event.stream_id, b"") + event.data
        assert found[streams[b"stdout"]] == b"some text"
        told = found[streams[b"error"]]
        if version.startswith("v4"):
            assert channels.decode_status(told).exit_code == 3
        else:
            assert told.endswith(b"command terminated with exit code 3")


def test_unexpected_streams_end_the_connection(cluster: Cluster) -> None:
    with SpdyClient(cluster, command_path("exec", "cat"), "v4.channel.k8s.io") as client:
        client.spdy.open_stream([(b"streamtype", b"stdin")])
        client.flush()
        assert not [event for event in client.events() if isinstance(event, StreamOpened)]


def test_arguments_may_be_invalid_utf8(cluster: Cluster) -> None:
    path = command_path("exec", "printf", "%s") + "&command=%FF%C3%A9%00"
    with WebSocketClient(cluster, path.removesuffix("%00"), "v4.channel.k8s.io") as client:
        assert client.collect()[channels.STDOUT] == b"\xff\xc3\xa9"
    with WebSocketClient(cluster, path, "v4.channel.k8s.io") as client:
        assert channels.decode_status(client.collect()[channels.ERROR]).exit_code is None


def refused(cluster: Cluster, path: str, *protocols: str, token: str = "admin") -> tuple[int, str]:
    with pytest.raises(Refusal) as caught, WebSocketClient(cluster, path, *protocols, token=token):
        pass
    body = caught.value.body.decode()
    return caught.value.status, json.loads(body)["message"] if body.startswith("{") else body


def test_refusals_before_the_upgrade(cluster: Cluster) -> None:
    v5 = "v5.channel.k8s.io"
    assert refused(cluster, command_path("exec"), v5)[0] == 400
    nothing = command_path("exec", "true", stdout=False, stderr=False)
    assert refused(cluster, nothing, v5) == (400, "you must specify at least 1 of stdin, stdout, stderr")
    status, message = refused(cluster, f"{POD}/exec?command=true&stdout=1", v5)
    # The names of containers that other tests have added to the pod may follow.
    begins = "a container name must be specified for pod pod, choose one of: [main reader shell web open count"
    assert (status, message[: len(begins)]) == (400, begins)
    assert refused(cluster, command_path("exec", "true"), "nope")[0] == 403
    assert refused(cluster, f"{POD}/portforward", "nope")[0] == 403
    assert refused(cluster, f"{POD}/portforward?ports=80,nope")[0] == 400
    answer = cluster.get(command_path("exec", "true"))
    assert (answer.status, answer.json["message"]) == (400, "Upgrade request required")
    assert cluster.request("DELETE", command_path("exec", "true")).status == 405
    for versions, status in (((), 400), (("v9.channel.k8s.io",), 403)):
        with pytest.raises(Refusal) as caught, SpdyClient(cluster, _ECHO, *versions):
            pass
        assert caught.value.status == status
    assert b"x-accepted-stream-protocol-versions: v4.channel.k8s.io" in caught.value.head.lower()


def test_a_container_that_does_not_run_is_not_found(cluster: Cluster) -> None:
    name = "ended"
    command = ["run", name, "--image=hatchway/shell", "--restart=Never", "--command", "--", "true"]
    cluster.kubectl("-n", "streams", *command)
    wait_for(
        lambda: cluster.kubectl("-n", "streams", "get", "pod", name, "-o", "jsonpath={.status.phase}") == "Succeeded"
    )
    for kind in ("exec", "attach"):
        path = command_path(kind, "true", container=name).replace("/pods/pod/", f"/pods/{name}/")
        assert refused(cluster, path, "v5.channel.k8s.io") == (500, f'container not found ("{name}")')


# Rights


@pytest.fixture(scope="module")
def tokens(stream_cluster: Cluster) -> Iterator[dict[str, str]]:
    """Return verb -> a token that has this verb for exec, attach and portforward of pods, and for nodes/proxy."""
    found = {}
    for verbs in ("get", "create", "create,get"):
        name = f"may-{verbs.replace(',', '-')}"
        resources = "pods/exec,pods/attach,pods/portforward,nodes/proxy"
        stream_cluster.kubectl("create", "clusterrole", name, f"--verb={verbs}", f"--resource={resources}")
        stream_cluster.kubectl("-n", "streams", "create", "serviceaccount", name)
        account = f"--serviceaccount=streams:{name}"
        stream_cluster.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", account)
        found[verbs] = stream_cluster.kubectl("-n", "streams", "create", "token", name).strip()
    yield found
    for verbs in found:
        name = f"may-{verbs.replace(',', '-')}"
        stream_cluster.kubectl("delete", f"clusterrole/{name}", f"clusterrolebinding/{name}")


def test_a_websocket_needs_create_and_get(cluster: Cluster, tokens: dict[str, str]) -> None:
    for path in (command_path("exec", "true"), command_path("attach"), f"{POD}/portforward"):
        for verbs in ("get", "create"):
            status, message = refused(cluster, path, "v4.channel.k8s.io", token=tokens[verbs])
            missing = "create" if verbs == "get" else "get"
            assert status == 403 and f"cannot {missing} resource" in message
    with WebSocketClient(cluster, command_path("exec", "true"), "v4.channel.k8s.io", token=tokens["create,get"]) as one:
        assert exit_code(one.collect()) == 0


def test_nodes_proxy_does_not_bypass_these_rights(cluster: Cluster, tokens: dict[str, str]) -> None:
    node = cluster.kubectl("-n", "streams", "get", "pod", "pod", "-o", "jsonpath={.spec.nodeName}")
    proxy = f"/api/v1/nodes/{node}/proxy"
    exec_path = f"{proxy}/exec/streams/pod/main?command=true&output=1"
    assert refused(cluster, exec_path, "v4.channel.k8s.io", token=tokens["get"])[0] == 403
    for path in (f"{proxy}/run/streams/pod/main?cmd=true", f"{proxy}/%72un/streams/pod/main?cmd=true"):
        answer = cluster.get(path, token=tokens["get"])
        assert answer.status in (404, 405), answer.text
        assert cluster.request("POST", path, token=tokens["get"]).status == 403
    answer = cluster.request("POST", f"{proxy}/run/streams/pod/main?cmd=echo+ran", token=tokens["create,get"])
    assert (answer.status, answer.text) == (200, "ran\n")
    answer = cluster.request("POST", f"{proxy}/run/streams/pod/main?cmd=false", token=tokens["create,get"])
    assert answer.status == 500 and "exited with 1" in answer.text


def test_a_node_answers_by_the_pods_uid(cluster: Cluster) -> None:
    pod = json.loads(cluster.kubectl("-n", "streams", "get", "pod", "pod", "-o", "json"))
    proxy = f"/api/v1/nodes/{pod['spec']['nodeName']}/proxy"
    path = f"{proxy}/exec/streams/pod/{pod['metadata']['uid']}/main?command=true&output=1"
    with WebSocketClient(cluster, path, "v4.channel.k8s.io") as client:
        assert exit_code(client.collect()) == 0
    assert refused(cluster, f"{proxy}/exec/streams/pod/other/main?command=true&output=1") == (404, "pod does not exist")
    assert refused(cluster, f"{proxy}/exec/streams/pod/nope?command=true&output=1")[1] == 'container not found ("nope")'
    assert refused(cluster, f"{proxy}/exec/streams/pod")[0] == 404


# Port-forward


@pytest.mark.parametrize("tunnel", [False, True])
def test_streams_of_a_port_forward(cluster: Cluster, tunnel: bool) -> None:
    with SpdyClient(cluster, f"{POD}/portforward", portforwardstreams.SPDY_PROTOCOL, tunnel=tunnel) as client:
        refused_data, refused_error = client.forward(9, 1)
        assert b"connect: connection refused" in client.read(refused_error)
        data, _ = client.forward(9000, 2)
        client.spdy.send_data(data, b"x" * 100_000)
        client.spdy.send_data(data, b"", fin=True)
        client.flush()
        assert client.read(data) == b"100000 bytes"
        assert refused_data != data


def test_one_connection_does_not_delay_another(cluster: Cluster) -> None:
    """With flow control, a stream whose client or pod does not read does not delay other streams."""
    with SpdyClient(cluster, f"{POD}/portforward", portforwardstreams.SPDY_PROTOCOL) as client:
        # This web server reads only the head of a request.
        choked, _ = client.forward(8081, 1)
        client.spdy.send_data(choked, b"GET / HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 50_000_000)
        client.flush()
        for name in range(2, 10):
            data, _ = client.forward(9000, name)
            client.spdy.send_data(data, b"text", fin=True)
            client.flush()
            assert client.read(data) == b"4 bytes"


def test_hundreds_of_connections_in_one_session(cluster: Cluster) -> None:
    with SpdyClient(cluster, f"{POD}/portforward", portforwardstreams.SPDY_PROTOCOL, tunnel=True) as client:
        wanted = {}
        for name in range(200):
            data, _ = client.forward(9000, name)
            client.spdy.send_data(data, b"x" * (name * 100), fin=True)
            wanted[data] = b"%d bytes" % (name * 100)
            client.flush()
        found = dict.fromkeys(wanted, b"")
        ended = 0
        for event in client.events():
            if isinstance(event, DataReceived) and event.stream_id in found:
                found[event.stream_id] += event.data
                ended += event.fin
            if ended == len(wanted):
                break
        assert found == wanted


def test_a_connection_in_one_stream_that_bypasses_the_kubelet(cluster: Cluster) -> None:
    """If the client offers Hatchway's own protocol first, each forwarded connection uses one stream."""
    versions = (portforwardstreams.SINGLE_STREAM_PROTOCOL, portforwardstreams.SPDY_PROTOCOL)
    chosen = portforwardstreams.SINGLE_STREAM_PROTOCOL.encode()
    with SpdyClient(cluster, f"{POD}/portforward", tunnel=True) as client:
        assert b"%b: %b\r\n" % (portforwardstreams.OFFER_FIELD, chosen) in client.head + b"\r\n"
    with SpdyClient(cluster, f"{POD}/portforward", *reversed(versions)) as client:
        assert b"X-Stream-Protocol-Version: portforward.k8s.io" in client.head
    with SpdyClient(cluster, f"{POD}/portforward", *versions) as client:
        assert b"X-Stream-Protocol-Version: " + chosen in client.head and b"\r\nAudit-Id: " in client.head
        refused = client.spdy.open_stream(portforwardstreams.single_headers(9))
        client.flush()
        answer = next(event for event in client.events() if isinstance(event, StreamAccepted))
        assert answer.stream_id == refused
        assert portforwardstreams.refusal_text(answer.headers).endswith("connect: connection refused")
        for port, sent, got in (
            (9000, b"x" * 1_000_000, b"1000000 bytes"),
            (8080, b"GET / HTTP/1.0\r\n\r\n", b"</html>"),
        ):
            stream = client.spdy.open_stream(portforwardstreams.single_headers(port))
            client.spdy.send_data(stream, sent, fin=True)
            client.flush()
            assert got in client.read(stream)
    with pytest.raises(Refusal) as caught:
        SpdyClient(cluster, f"{POD}nope/portforward", *versions)
    assert caught.value.status == 404


def test_one_stream_needs_the_same_rights(cluster: Cluster, tokens: dict[str, str]) -> None:
    fields = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")]
    fields.append(("X-Stream-Protocol-Version", portforwardstreams.SINGLE_STREAM_PROTOCOL))
    with pytest.raises(Refusal) as caught:
        Upgraded(cluster, "POST", f"{POD}/portforward", fields, tokens["get"])
    assert caught.value.status == 403


def test_invalid_streams_are_reset_and_others_continue(cluster: Cluster) -> None:
    with SpdyClient(cluster, f"{POD}/portforward", portforwardstreams.SPDY_PROTOCOL) as client:
        bad = client.spdy.open_stream([(b"streamtype", b"data"), (b"port", b"99999"), (b"requestid", b"1")])
        client.flush()
        assert next(event for event in client.events() if isinstance(event, StreamReset)).stream_id == bad
        data, _ = client.forward(9000, 2)
        client.spdy.send_data(data, b"text", fin=True)
        client.flush()
        assert client.read(data) == b"4 bytes"


def test_ports_of_a_websocket_without_spdy(cluster: Cluster) -> None:
    """kr8s uses the older protocol, which has the ports in the URL and no SPDY."""
    with WebSocketClient(
        cluster, f"{POD}/portforward?ports=8080,9", "v5.channel.k8s.io", "v4.channel.k8s.io"
    ) as client:
        assert b"sec-websocket-protocol: v4.channel.k8s.io" in client.head.lower()
        client.write(b"\0GET / HTTP/1.0\r\n\r\n")
        found = client.collect()
    assert found[0].startswith((8080).to_bytes(2, "little") + b"HTTP/1.0 200")
    assert found[1] == (8080).to_bytes(2, "little") and found[2] == (9).to_bytes(2, "little")
    assert b"dial tcp4 127.0.0.1:9: connect: connection refused" in found[3]


# Misbehaviour


def test_a_client_that_does_not_read_stops_the_process_and_nothing_else(cluster: Cluster) -> None:
    marker = "/tmp/written"
    script = f"i=0; while :; do head -c 1000000 /dev/zero; i=$((i+1)); echo $i >{marker}; done"
    with WebSocketClient(cluster, command_path("exec", "sh", "-c", script), "v4.channel.k8s.io") as client:
        next(client.messages())

        def written() -> str:
            with WebSocketClient(cluster, command_path("exec", "cat", marker), "v4.channel.k8s.io") as other:
                return other.collect().get(channels.STDOUT, b"").decode()

        def settled() -> bool:
            before = written()
            time.sleep(0.3)
            return before != "" and before == written()

        wait_for(settled)
        # The buffers of the kernel, of TLS and of three programs on the way can hold less than 60 MB.
        assert int(written()) < 60


def test_a_process_that_does_not_read_stops_its_client_and_nothing_else(cluster: Cluster) -> None:
    path = command_path("exec", "sleep", "1000", stdin=True)
    with WebSocketClient(cluster, path, "v4.channel.k8s.io") as client:
        client._socket.settimeout(1)
        with pytest.raises(TimeoutError):
            for _ in range(1000):
                client.write(b"\0" + b"x" * 100_000)
        client.reset()
    with WebSocketClient(cluster, command_path("exec", "true"), "v4.channel.k8s.io") as client:
        assert exit_code(client.collect()) == 0


def test_a_background_process_does_not_delay_the_end_of_exec(cluster: Cluster) -> None:
    script = "sleep 1000 & echo started"
    with WebSocketClient(cluster, command_path("exec", "sh", "-c", script), "v4.channel.k8s.io") as client:
        found = client.collect()
    assert (found[channels.STDOUT], exit_code(found)) == (b"started\n", 0)


def test_invalid_terminal_sizes_are_ignored(cluster: Cluster) -> None:
    path = command_path("exec", "sh", "-c", "read x; stty size", tty=True, stdin=True)
    with WebSocketClient(cluster, path, "v5.channel.k8s.io") as client:
        for size in (b'{"Width":70000,"Height":-1}', b"[" * 5000, b"", b'{"Width":65535,"Height":65535}', b"null"):
            client.write(bytes((channels.RESIZE,)) + size)
        client.write(bytes((channels.STDIN,)) + b"\n")
        assert b"65535 65535" in client.collect()[channels.STDOUT]


def test_junk_ends_only_its_own_connection(cluster: Cluster) -> None:
    for junk in (b"\x82\x01\x01", b"\xff" * 100, b"\x82\x80\0\0\0\0"):
        with WebSocketClient(cluster, command_path("exec", "cat", stdin=True), "v4.channel.k8s.io") as client:
            client.send([junk])
            client.collect()
            assert client.closed is not None and client.closed.code == 1002
    with SpdyClient(cluster, f"{POD}/portforward", portforwardstreams.SPDY_PROTOCOL) as client:
        client.send([b"\x80\x03\0\x01\xff\xff\xff\xff" * 10])
        assert all(isinstance(event, GoneAway) for event in client.events())


def test_an_exec_in_a_container_that_is_killed_ends(cluster: Cluster) -> None:
    name = "killed"
    command = ["run", name, "--image=hatchway/shell", "--restart=Never", "--command", "--", "sleep", "1000"]
    cluster.kubectl("-n", "streams", *command)
    cluster.kubectl("-n", "streams", "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    path = command_path("exec", "sh", "-c", "echo ready; sleep 1000", container=name).replace(
        "/pods/pod/", f"/pods/{name}/"
    )
    with WebSocketClient(cluster, path, "v4.channel.k8s.io") as client:
        assert any(b"ready" in message.data for message in client.messages())
        cluster.kubectl("-n", "streams", "delete", "pod", name, "--now", "--wait=false")
        assert exit_code(client.collect()) == 137


# Watches


def test_a_watch_over_a_websocket_has_one_event_per_message(cluster: Cluster) -> None:
    path = "/api/v1/namespaces/streams/configmaps?watch=1&fieldSelector=metadata.name%3Dwatched"
    with WebSocketClient(cluster, path, "v1.example") as client:
        cluster.kubectl("-n", "streams", "create", "configmap", "watched")
        cluster.kubectl("-n", "streams", "delete", "configmap", "watched")
        messages = client.messages()
        events = [next(messages) for _ in range(2)]
        assert all(event.is_text for event in events)
        assert [json.loads(event.data)["type"] for event in events] == ["ADDED", "DELETED"]
        assert json.loads(events[0].data)["object"]["metadata"]["name"] == "watched"
        client.websocket.close()
        client.flush()
        assert not list(messages)
    assert refused(cluster, "/api/v1/namespaces/streams/configmaps?watch=1&resourceVersion=x")[0] == 400
    assert refused(cluster, "/api/v1/namespaces/streams/nothings?watch=1")[0] == 404
    with WebSocketClient(cluster, "/api/v1/namespaces?watch=1&timeoutSeconds=1") as client:
        assert len(list(client.messages())) >= 4
        assert client.closed is not None and client.closed.code == 1000


def test_the_kubelet_requires_create_for_commands(cluster: Cluster, tokens: dict[str, str]) -> None:
    """A pod can send requests directly to a kubelet, with its own token."""
    pod = json.loads(cluster.kubectl("-n", "streams", "get", "pod", "pod", "-o", "json"))
    url = f"https://{pod['status']['hostIP']}:10250/exec/streams/pod/main?command=true&output=1"
    script = (
        "import ssl, sys, urllib.request, urllib.error\n"
        "request = urllib.request.Request(sys.argv[1], headers={'Authorization': 'Bearer ' + sys.argv[2]})\n"
        "try: urllib.request.urlopen(request, context=ssl._create_unverified_context())\n"
        "except urllib.error.HTTPError as error: print(error.code, error.read().decode())\n"
    )

    def ask(address: str, token: str) -> str:
        path = command_path("exec", "python3", "-c", script, address, token)
        with WebSocketClient(cluster, path, "v4.channel.k8s.io") as client:
            return client.collect()[channels.STDOUT].decode()

    assert ask(url, tokens["get"]).startswith("403 Forbidden")
    assert "verb=create, resource=nodes" in ask(url, tokens["get"])
    assert ask(url.replace("/exec", "/%65xec"), tokens["get"]).startswith("404")
    assert ask(url, tokens["create,get"]) == "400 Upgrade request required\n"
