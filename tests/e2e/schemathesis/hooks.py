"""What is to be known of Kaigi's management API beside its document.

KAIGI_KNOWN is a JSON object: for names of path parameters, values that name something. The first ones are what the test itself stands on;
they are looked at and changed, but not removed.
"""

import json
import os

import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.core.parameters import ParameterLocation

KNOWN = json.loads(os.environ["KAIGI_KNOWN"])

# Of five calls of an operation so many have ids that name something.
KNOWN_OF_FIVE = 4
NOTHING = "f" * 24
_calls = {}

# What the API answers when the room refuses (OWT's code), how OWT refuses attributes of a new room, and what is said when a part of the
# cluster does not work as it should.
REFUSED = 1301
REFUSED_ATTRIBUTES = (2001, "ValidationError", "Error MediaOut conflicts")
BROKEN = ("Timeout to make rpc", "is not reachable", "No answer in time")


@schemathesis.hook
def before_call(context, case, kwargs):
    """Ids that name something get further than ids that do not. What the test stands on is not removed, and keeps its key."""
    given = case.path_parameters or {}
    _calls[case.operation.label] = count = _calls.get(case.operation.label, -1) + 1
    meant_wrong = case.meta is not None and case.meta.is_negative_at(ParameterLocation.PATH)
    if count % 5 < KNOWN_OF_FIVE and not meant_wrong:
        for name in given.keys() & KNOWN.keys():
            given[name] = KNOWN[name][count % len(KNOWN[name])]
    last = case.operation.path.rstrip("/").split("/")[-1]
    for name in given:
        removed = case.method.upper() == "DELETE" and last == "{%s}" % name
        altered = name == "service" and case.method.upper() != "GET" and "webhooks" not in case.operation.path
        if (removed or altered) and given[name] == KNOWN.get(name, [None])[0]:
            given[name] = NOTHING


@schemathesis.check
def refusals_are_no_failures(ctx, response, case):
    """OWT answers 500 when a room refuses: that is declared, and says so by its code. Every other 5xx is a failure of the server."""
    if response.status_code < 500:
        return
    try:
        error = json.loads(response.content)["error"]
    except (ValueError, KeyError, TypeError):
        raise Failure(operation=case.operation.label, title="Server error without the API's form", message=response.text[:500])
    code, *texts = REFUSED_ATTRIBUTES
    if case.operation.label in ("POST /v1/rooms", "POST /v1.1/rooms") and error["code"] == code and error["message"].startswith(tuple(texts)):
        return
    if response.status_code != 500 or error["code"] != REFUSED:
        raise Failure(operation=case.operation.label, title="Server error", message=str(error))
    if "500" not in case.operation.definition.raw["responses"]:
        raise Failure(operation=case.operation.label, title="Undeclared refusal", message=str(error))
    if any(words in error["message"] for words in BROKEN):
        raise Failure(operation=case.operation.label, title="A part of the cluster does not work", message=str(error))
