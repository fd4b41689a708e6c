"""Answers with their ids taken out, so that what is left can be compared to the byte."""

import re

import httpx

# What differs between any two answers, and tells nothing.
_PASSING = {"date", "x-request-id"}
_REQUEST_ID = re.compile(r'"request_id":"[^"]*"')
_UPLOAD = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def without(answer: httpx.Response, *ids: str) -> tuple[int, list[tuple[str, str]], str]:
    """Status, headers and body, where each of `ids` and every upload is replaced by a word."""

    def plain(text: str) -> str:
        for value in sorted(ids, key=len, reverse=True):
            text = text.replace(value, "ID")
        return _UPLOAD.sub("UPLOAD", text)

    body = _REQUEST_ID.sub("", answer.text)
    headers = [
        (name, plain(value)) for name, value in answer.headers.items() if name not in _PASSING
    ]
    if body != answer.text:  # ids of requests have no fixed length
        headers = [(name, value) for name, value in headers if name != "content-length"]
        headers.append(("length besides the id", str(len(body))))
    return answer.status_code, headers, plain(body)
