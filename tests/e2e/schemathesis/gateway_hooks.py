"""What is to be known of the RTP gateway's API beside its document.

KAIGI_KNOWN is a JSON object: a service's id as `key`, a `peer` with its `token`, ports and connections by the names that paths have for them.
"""

import json
import os

import schemathesis
from schemathesis.core.parameters import ParameterLocation

KNOWN = json.loads(os.environ["KAIGI_KNOWN"])
# Of five calls of an operation so many name something that is there. Each that waits for an event takes its time.
KNOWN_OF_FIVE = 4
WAITING_OF_FIVE = 1
NOTHING = "nothing"
_calls = {}


@schemathesis.hook
def before_call(context, case, kwargs):
    label = case.operation.label
    _calls[label] = count = _calls.get(label, -1) + 1

    def is_wrong(where):
        return case.meta is not None and case.meta.is_negative_at(where)

    if count % 5 >= (WAITING_OF_FIVE if label.endswith("/events") else KNOWN_OF_FIVE):
        return
    given = case.path_parameters or {}
    if not is_wrong(ParameterLocation.PATH):
        for name in given.keys() & KNOWN.keys():
            # What the test stands on is not removed.
            given[name] = NOTHING if case.method.upper() == "DELETE" else KNOWN[name]
    if case.query and "token" in case.query and not is_wrong(ParameterLocation.QUERY):
        case.query["token"] = KNOWN["token"]
    body = case.body
    if not isinstance(body, dict) or is_wrong(ParameterLocation.BODY):
        return
    for name in ("key", "peer_id", "token"):
        if name in body and not (name == "peer_id" and "key" in body):
            body[name] = KNOWN[name]
    for kind, known in (("video_params", "video"), ("audio_params", "audio")):
        params = (body.get("constraints") or {}).get(kind)
        if isinstance(params, dict):
            params["media_id"] = KNOWN[known]
    if "target_id" in body and count % 2:
        body["target_id"] = KNOWN["target_id"]
