"""Runs inside Orthanc: puts the real explorer.js on the real pages and answers its requests from a file.

So the browser tests can show every outcome, also ones that a server seldom gives. Standard library only. The section
`DeidTest` of Orthanc's configuration names explorer.js (`Script`), the answers (`Answers`: "METHOD /path" → list of
[status, body], used up in order, the last one stays) and the file that each request is noted in (`Log`).
"""

import fcntl
import json
import threading
from pathlib import Path

import orthanc

LOCK = threading.Lock()
SECTION = json.loads(orthanc.GetConfiguration())["DeidTest"]
ANSWERS, LOG = Path(SECTION["Answers"]), Path(SECTION["Log"])


def serve(output, uri, **request):
    method = request["method"]
    body = request.get("body") or b""
    # The test changes the answers too, from its own process: neither may write over what the other has written.
    with LOCK, ANSWERS.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answers = json.loads(ANSWERS.read_text())
        headers = {name.lower(): value for name, value in request.get("headers", {}).items()}
        line = {"method": method, "uri": uri, "headers": headers, "body": body.decode() if body else ""}
        with LOG.open("a") as log:
            log.write(json.dumps(line) + "\n")
        queue = answers.get(f"{method} {uri}", [[404, {"error": "unknown route", "detail": "not canned"}]])
        status, answer = queue.pop(0) if len(queue) > 1 else queue[0]
        ANSWERS.write_text(json.dumps(answers))
    text = json.dumps(answer)
    if status == 200:
        output.AnswerBuffer(text, "application/json")
    else:
        try:
            output.SendHttpStatus(status, text.encode())
        except TypeError:  # the plugin before 5.0 wants text and its length
            output.SendHttpStatus(status, text, len(text.encode()))


orthanc.RegisterRestCallback("/deid/.*", serve)
orthanc.RegisterRestCallback("/(patients|studies|series|instances)/([^/]+)/deidentify", serve)
orthanc.ExtendOrthancExplorer(Path(SECTION["Script"]).read_text())
