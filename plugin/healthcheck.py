"""Is the plugin there, and its service well? Exit status 0 means yes.

A container whose ``PythonScript`` is missing runs a plain Orthanc that stores identified data and looks healthy: so
this asks for the plugin's own route, which only exists while the plugin is loaded. Standard library only: it runs with
the image's own Python, as the image's health check.

    python3 healthcheck.py [CONFIGURATION]      the configuration that Orthanc runs with; the image's entry point writes
                                                /tmp/orthanc.json
"""

from __future__ import annotations

import base64
import json
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

CONFIGURATION = Path("/tmp/orthanc.json")
SECONDS = 5


def request(configuration: dict[str, Any]) -> urllib.request.Request:
    """The request for the plugin's health on the loopback, with the first registered user where users are asked for."""
    scheme = "https" if configuration.get("SslEnabled") else "http"
    asked = urllib.request.Request(f"{scheme}://127.0.0.1:{configuration.get('HttpPort', 8042)}/deid/health")
    users = configuration.get("RegisteredUsers") or {}
    for name, password in list(users.items())[:1]:
        asked.add_header("Authorization", "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode())
    return asked


def problem(configuration: dict[str, Any]) -> str | None:
    """What is wrong, in a few words; None when Orthanc, the plugin and the service are well."""
    # The certificate is made out to the server's public name; on the loopback there is nobody to impersonate it.
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(request(configuration), timeout=SECONDS, context=trusting) as answer:
            status = json.load(answer).get("Status")
    except urllib.error.HTTPError as error:
        reason = {401: "the registered user is refused", 404: "the plugin is not loaded"}.get(error.code, "")
        return f"GET /deid/health answers {error.code} {reason}".rstrip()
    except (OSError, ValueError) as error:
        return f"GET /deid/health fails: {error}"
    return None if status == "ok" else f"the service is {status}"


def main(arguments: list[str]) -> int:
    """The health check of the image; see the top of this file."""
    path = Path(arguments[0]) if arguments else CONFIGURATION
    try:
        configuration = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        found: str | None = f"{path}: {error}"
    else:
        found = problem(configuration)
    sys.stdout.write(f"unhealthy: {found}\n" if found else "healthy\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
