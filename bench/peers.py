"""The benchmarks' other programs: a backend, nginx as a proxy, and wrk as the load; all on loopback."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_COMMON = """
user root; daemon off; master_process off; worker_processes 1; pid {directory}/{name}.pid;
error_log {directory}/{name}.log crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s; server_tokens off; client_max_body_size 0;
  client_body_temp_path {directory}/{name}-body; proxy_temp_path {directory}/{name}-proxy;
  fastcgi_temp_path {directory}/{name}-f; uwsgi_temp_path {directory}/{name}-u; scgi_temp_path {directory}/{name}-s;
"""

_BACKEND = (
    _COMMON
    + """
  server {{
    listen {address}:{port} {ssl} backlog=1024;
    {certificate}
    location / {{ default_type application/json; return 200 '{body}'; }}
    location ~ ^(/version|/api/v1/namespaces/default/services/bench)$ {{
      default_type application/json; return 200 '{{"metadata":{{"name":"bench"}},"spec":{{"ports":[{{"port":80}}]}}}}';
    }}
  }}
}}
"""
)

_PROXY = (
    _COMMON
    + """
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} {ssl} backlog=1024;
    {certificate}
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    }}
  }}
}}
"""
)

# nginx configured like `kubectl proxy`: its hosts and paths, verification of the server's certificate, a token, and the
# client's address in a header field.
_DOOR = (
    _COMMON
    + """
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 64; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port} default_server backlog=1024; return 403; }}
  server {{
    listen 127.0.0.1:{port};
    server_name localhost 127.0.0.1;
    location ~ ^/api/.*/pods/.*/(exec|attach) {{ return 403; }}
    location / {{
      proxy_pass https://backend;
      proxy_ssl_verify on; proxy_ssl_trusted_certificate {ca}; proxy_ssl_name localhost; proxy_ssl_session_reuse on;
      proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host 127.0.0.1:{backend};
      proxy_set_header Authorization "Bearer {token}"; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
"""
)


def find(program: str) -> str | None:
    """Return the path of a program. Also search the directory of Debian's nginx, which is not in a user's PATH."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


def wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 20.0) -> None:
    """Wait until a program listens on `port`. Raises RuntimeError when `process` ends or time runs out first."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with status {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"nothing listens on port {port}")


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that listens on `port`, and end it with the block."""
    process = subprocess.Popen(command)
    try:
        wait_for(port, process)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def nginx() -> str:
    """Return the path of nginx. Raises SystemExit when it is not installed."""
    program = find("nginx")
    if program is None:
        raise SystemExit("nginx is not installed (apt-get install nginx-light): there is nothing to compare with")
    return program


def _nginx(directory: Path, name: str, text: str) -> list[str]:
    config = directory / f"{name}.conf"
    config.write_text(text)
    return [nginx(), "-p", str(directory), "-c", str(config), "-e", str(directory / f"{name}.log")]


def backend(directory: Path, port: int, size: int, certificate: tuple[Path, Path] | None = None) -> list[str]:
    """Return the command of a backend that answers with `size` bytes. certificate: file and key, for TLS."""
    return _nginx(directory, "backend", backend_config(directory, "127.0.0.1", port, size, certificate))


def backend_config(
    directory: Path, address: str, port: int, size: int, certificate: tuple[Path, Path] | None = None
) -> str:
    """Return nginx' configuration for the same backend, to run it elsewhere."""
    return _BACKEND.format(
        directory=directory,
        name="backend",
        address=address,
        port=port,
        body="x" * size,
        ssl="ssl" if certificate else "",
        certificate=_tls_lines(certificate),
    )


def _tls_lines(certificate: tuple[Path, Path] | None) -> str:
    if certificate is None:
        return ""
    return f"ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]}; ssl_session_cache shared:s:1m;"


def nginx_proxy(
    directory: Path,
    port: int,
    backend_port: int,
    certificate: tuple[Path, Path] | None,
) -> list[str]:
    """Return the command of one nginx worker that proxies to a backend with keep-alive. certificate: file and key."""
    text = _PROXY.format(
        directory=directory,
        name="proxy",
        port=port,
        backend=backend_port,
        ssl="ssl" if certificate else "",
        certificate=_tls_lines(certificate),
    )
    return _nginx(directory, "proxy", text)


def nginx_door(directory: Path, port: int, backend_port: int, ca: Path, token: str) -> list[str]:
    """Return the command of one nginx worker that proxies to a TLS server as `kubectl proxy` does."""
    return _nginx(
        directory,
        "door",
        _DOOR.format(directory=directory, name="door", port=port, backend=backend_port, ca=ca, token=token),
    )


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for 127.0.0.1 and localhost (P-256, as embedded clusters have): file and key."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")]), False
        )
        .sign(key, hashes.SHA256())
    )
    file, key_file = directory / "tls.crt", directory / "tls.key"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.touch(mode=0o600)
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file, key_file


@dataclass(frozen=True, slots=True)
class Load:
    """The result of one round of load.

    Attributes:
        rate: requests per second.
        p99: 99th percentile of latency, milliseconds.
        errors: failed requests.
        cpu: microseconds of CPU time of the proxy for a request. Other work of the machine has little effect on it.
    """

    rate: float
    p99: float
    errors: int
    cpu: float


_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60000.0}


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process so far (proc(5)). Raises OSError when it has ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wrk(url: str, connections: int, seconds: float, pid: int, script: Path | None = None) -> Load:
    """Run one round of wrk with keep-alive connections, in one thread to leave the machine's other core to the proxy.

    Args:
        url: the URL to request.
        connections: the number of open connections.
        seconds: the duration of the round.
        pid: the process whose CPU time is measured.
        script: a file of Lua that sets headers. A token in this file is not visible in the list of processes.
    """
    program = find("wrk")
    if program is None:
        raise SystemExit("wrk is not installed (apt-get install wrk): a load made by Python would measure Python")
    command = [program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    if script is not None:
        command += ["-s", str(script)]
    before = cpu_seconds(pid)
    text = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    spent = cpu_seconds(pid) - before
    requests = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", text)
    p99 = re.search(r"99%\s+([0-9.]+)(us|ms|s|m)\b", text)
    if rate is None or p99 is None or requests is None:
        raise RuntimeError(f"wrk printed something unexpected:\n{text}")
    errors = sum(int(found) for found in re.findall(r"(?:connect|read|write|timeout) (\d+)", text))
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors += int(bad[1]) if bad else 0
    return Load(float(rate[1]), float(p99[1]) * _UNITS[p99[2]], errors, spent * 1e6 / max(1, int(requests[1])))
