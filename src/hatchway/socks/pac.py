"""The proxy auto-configuration by which a browser sends names of the cluster here, and nothing else.

It names no service and no namespace: every web page can have a browser load it, and few can read it.
"""

from __future__ import annotations

import json

# The type that Netscape gave it and that browsers still want.
CONTENT_TYPE = "application/x-ns-proxy-autoconfig"


def pac_file(port: int, domain: str) -> str:
    """Return the file.

    port: of the proxy, on 127.0.0.1.
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
