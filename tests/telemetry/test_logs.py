import contextlib
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from entrepot.telemetry import logs

SECRET = "Zk3vQ8mN5pR7tW2yB4dF6gH9jL"
SHAPES = [
    f"entrepot_user_{SECRET}",
    f"Authorization: Bearer {SECRET}",
    f"authorization: {SECRET}",
    f"{{'Authorization': 'Basic {SECRET}=='}}",
    f"[(b'authorization', b'Bearer {SECRET}')]",
    f'{{"Proxy-Authorization": "Basic {SECRET}"}}',
    f"eyJhbGciOiJIUzI1NiJ9.{SECRET}.{SECRET}",
    f"postgresql://entrepot:{SECRET}@db/entrepot",
]


@contextlib.contextmanager
def configured(form: logs.Format) -> Iterator[structlog.stdlib.BoundLogger]:
    """Not a fixture: pytest gives set-up and test a standard error each."""
    root = logging.getLogger()
    before = root.handlers, root.level, logging.raiseExceptions
    logs.configure("info", form)
    try:
        yield structlog.get_logger("entrepot.test")
    finally:
        root.handlers, level, logging.raiseExceptions = before
        root.setLevel(level)
        structlog.reset_defaults()


@pytest.mark.parametrize("shape", SHAPES)
@given(before=st.text(alphabet=" ,;:\"'([{=\n", max_size=4), after=st.sampled_from(["", " x", "'"]))
def test_a_credential_is_hidden_wherever_it_stands(shape, before, after):
    assert SECRET not in logs.mask(before + shape + after)


@pytest.mark.parametrize(
    "text",
    [
        "entrepot_request_seconds_bucket",
        "sha256:" + "9f" * 32,
        "GET /v2/team/app/manifests/v1",
        "a basic idea of the bearer",
        "http://localhost:5000/v2/",
    ],
)
def test_what_is_no_credential_stays(text):
    assert logs.mask(text) == text


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_line_shows_a_credential(form, shape, capsys):
    with configured(form) as log:
        log.info("blob.pushed", value=shape, deep={"headers": [shape]})
        logging.getLogger("library").warning("it said %s", shape)
        try:
            int(shape)
        except ValueError:
            log.exception("push.failed")

    written = capsys.readouterr().err
    assert "blob.pushed" in written
    assert "it said" in written
    assert "ValueError" in written
    assert SECRET not in written


@pytest.mark.parametrize("form", ["console", "json"])
def test_an_exception_does_not_show_local_variables(form, capsys):
    password = "hunter" + "2"
    with configured(form) as log:
        try:
            len(password) / 0
        except ZeroDivisionError:
            log.exception("push.failed")

    written = capsys.readouterr().err
    assert "ZeroDivisionError" in written
    assert password not in written


def test_a_line_that_cannot_be_written_is_not_shown_unmasked_instead(capsys, monkeypatch):
    with configured("json") as log:
        monkeypatch.setattr(logs, "mask", lambda _: 1 / 0)
        log.info("blob.pushed", value=SECRET)

    assert SECRET not in capsys.readouterr().err


def test_a_json_line_has_the_context_of_its_request(capsys):
    token = logs.context.set({"request_id": "r1", "tenant": "main"})
    with configured("json") as log:
        log.info("blob.pushed", size=3)
        log.debug("blob.opened")
        logging.getLogger("library").info("did something")
    logs.context.reset(token)

    (line,) = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    assert found.pop("timestamp").endswith("Z")
    assert found == {
        "event": "blob.pushed",
        "level": "info",
        "size": 3,
        "request_id": "r1",
        "tenant": "main",
    }
