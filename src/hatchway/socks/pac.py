"""The proxy auto-configuration with which a browser uses this proxy for names of the cluster only.

The file names no service and no namespace, because other web pages can make a browser load the file, and some of these
pages could read it.
"""

from __future__ import annotations

import json

# The media type that browsers expect.
CONTENT_TYPE = "application/x-ns-proxy-autoconfig"


def pac_file(port: int, domain: str) -> str:
    """Return the content of the file.

    port: the proxy's port on 127.0.0.1.
    domain: the cluster's DNS domain.
    """
    proxy, ends = json.dumps(f"PROXY 127.0.0.1:{port}"), json.dumps([".svc", f".{domain}"])
    return f"""function FindProxyForURL(url, host) {{
  var name = host.toLowerCase().replace(/\\.$/, "");
  var ends = {ends};
  for (var i = 0; i < ends.length; i += 1) {{
    if (name.slice(-ends[i].length) === ends[i]) return {proxy};
  }}
  return "DIRECT";
}}"""
