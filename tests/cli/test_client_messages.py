"""What holds for every command: where it prints, what it says when something is wrong."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import click
import pytest
from click.testing import CliRunner

from entrepot.cli.main import COMMANDS, main
from entrepot.cli.messages import printable
from entrepot.cli.output import relative
from tests.support.server import free_port

HERE = {"serve", "admin"}  # they work without a server
# What only does something, and says so on standard error.
PRINTS_NOTHING = {
    "login",
    "logout",
    "password",
    "docker-login",
    "completion",
    "org delete",
    "org use",
    "org break-glass",
    "member remove",
    "invitation revoke",
    "project delete",
    "project link",
    "project unlink",
    "repository rm",
    "mirror rm",
    "upstream rm",
    "token revoke",
}
DESTROYS = {
    "org delete",
    "org break-glass",
    "member remove",
    "project transfer",
    "project delete",
    "repository rm",
    "retention set",
    "mirror rm",
    "upstream rm",
    "tag rm",
    "token revoke",
}


def commands(command: click.Command, path: str = "") -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    with click.Context(command) as context:
        for name in command.list_commands(context):
            if path or name not in HERE:
                found = command.get_command(context, name)
                assert found is not None
                yield from commands(found, f"{path} {name}".strip())


def having(option: str) -> set[str]:
    return {
        path
        for path, command in commands(main)
        if any(option in parameter.opts for parameter in command.params)
    }


def test_everything_that_prints_takes_json():
    assert having("--json") == {path for path, _ in commands(main)} - PRINTS_NOTHING


def test_everything_that_destroys_takes_yes():
    assert having("--yes") == DESTROYS


def test_every_command_has_help_of_its_own():
    assert all((command.help or "").strip() for _, command in commands(main))
    assert all(help_text for _, help_text in COMMANDS.values())


def test_every_option_of_a_kind_of_ours_says_what_it_takes():
    named = {
        (path, parameter.make_metavar(click.Context(command)))
        for path, command in commands(main)
        for parameter in command.params
        if parameter.make_metavar(click.Context(command)).strip("[]").startswith("_")
    }

    assert named == set()


def test_every_switch_says_what_it_does():
    silent = {
        (path, parameter.name)
        for path, command in commands(main)
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.secondary_opts and not parameter.help
    }

    assert silent == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_is_not_cut_short_at_80_columns(name):
    said = CliRunner().invoke(main, [name, "--help"], terminal_width=80).output

    assert "..." not in said.replace("[ARGS]...", "").replace("[OPTIONS]...", "")


def test_a_server_that_is_not_there_is_named_with_what_to_do(stranger):
    port = free_port()
    stranger.variables = {"ENTREPOT_SERVER": f"localhost:{port}", "ENTREPOT_TOKEN": "x"}

    said = stranger.run("whoami", code=1)

    assert f"cannot reach http://localhost:{port}" in said.err
    assert said.next == ["entrepot serve", "entrepot login SERVER"]


def test_who_is_not_logged_in_is_told_how(address, stranger):
    stranger.variables = {"ENTREPOT_SERVER": address}

    assert stranger.run("org", "list", code=1).next == [f"entrepot login {address}"]


@pytest.mark.parametrize("words", [["show"], ["rm", "--yes"]])
def test_who_names_no_tag_is_told_where_it_goes(admin, words):
    said = admin.run("tag", *words[:1], "acme/app", *words[1:], code=2)

    assert said.next == [f"entrepot tag {words[0]} acme/app:TAG", "entrepot tag list acme/app"]


def test_the_fields_at_fault_are_named(admin, acme):
    said = admin.run("org", "set", acme, "--price", "a lot", code=1)

    assert "price_per_gb_month" in said.err
    assert said.out == ""


def test_a_pipe_gets_tabs_and_a_terminal_columns(admin, acme):
    admin.run("project", "create", "app")

    piped = admin.run("project", "list").out
    shown = admin.talk("project", "list")

    (line,) = piped.splitlines()
    _, name, slug, created = line.split("\t")
    assert (name, slug, created[-1]) == ("app", acme, "Z")
    assert shown.splitlines()[0].split() == ["ID", "NAME", "ORGANISATION", "CREATED"]
    assert "ago" in shown or "now" in shown
    assert all(len(row) <= 100 for row in shown.splitlines())


def test_names_cannot_give_orders_to_a_terminal(admin, acme):
    admin.run("project", "create", "\x1b]0;title\x07\x9b31mred\nline\ttab")

    shown = admin.talk("project", "list")
    piped = admin.run("project", "list").out

    assert not {"\x1b", "\x07", "\x9b"} & set(piped + shown.replace("\x1b[", ""))
    assert piped.count("\n") == 1
    assert piped.count("\t") == 3


def test_printable_keeps_what_people_write():
    assert printable("Zoë 日本\n") == "Zoë 日本\n"


def test_moments_are_told_from_now():
    assert relative("2001-01-01T00:00:00.000000Z").endswith(" d ago")
    assert relative("2999-01-01T00:00:00.000000Z").startswith("in ")


@contextmanager
def scripted(*answers):
    """A server that gives these answers, one per request; None closes the connection instead."""
    left, seen = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            seen.append((self.command, self.path, self.headers, body))
            found = left.pop(0)
            if found is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            status, kind, content = found
            self.send_response(status)
            self.send_header("etag", '"7"')
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815  # as its parent has it

        def log_message(self, *words):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def document(status, value, kind="application/json"):
    return status, kind, json.dumps(value).encode()


def problem(status, detail):
    found = {"status": status, "detail": detail, "request_id": "r-1", "errors": []}
    return document(status, found, "application/problem+json")


def test_a_creation_whose_connection_is_lost_is_sent_once_more_with_its_key(stranger):
    made = {"id": "zzzzzzzzzz", "slug": "acme"}
    with scripted(None, document(201, made)) as (server, seen):
        stranger.variables = {"ENTREPOT_SERVER": server, "ENTREPOT_TOKEN": "x"}

        said = stranger.run("org", "create", "acme")

    first, second = (headers["idempotency-key"] for _, _, headers, _ in seen)
    assert said.out == "zzzzzzzzzz\n"
    assert first == second
    assert len(first) > 30


def test_a_change_whose_connection_is_lost_is_not_sent_again(stranger):
    with scripted(None) as (server, seen):
        stranger.variables = {"ENTREPOT_SERVER": server, "ENTREPOT_TOKEN": "x"}

        said = stranger.run("org", "set", "acme", "--name", "Acme", code=1)

    assert len(seen) == 1
    assert "was lost" in said.err


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (problem(412, "this was changed since you read it"), "entrepot org set acme --name Acme\n"),
        (problem(500, "something went wrong"), "under r-1"),
        (problem(403, "you may not"), "you may not"),
        ((502, "text/html", b"<html>"), "not like an Entrepot server"),
        ((200, "text/html", b"<html>"), "does not answer like an Entrepot server"),
        (document(200, ["no object"]), "does not answer like an Entrepot server"),
        ((302, "text/plain", b""), "answers 302"),
    ],
)
def test_what_a_server_answers_instead_is_one_message(stranger, answer, said):
    with scripted(answer) as (server, _):
        stranger.variables = {"ENTREPOT_SERVER": server, "ENTREPOT_TOKEN": "x"}

        heard = stranger.run("org", "set", "acme", "--name", "Acme", code=1)

    assert heard.out == ""
    assert heard.err.startswith("Error: ")
    assert said in heard.err
    assert "Traceback" not in heard.err


def test_what_was_read_is_changed_only_if_nobody_else_changed_it(stranger):
    shown = document(200, {"id": "zzzzzzzzzz", "slug": "acme"})
    with scripted(shown, (204, "text/plain", b"")) as (server, seen):
        stranger.variables = {"ENTREPOT_SERVER": server, "ENTREPOT_TOKEN": "x"}

        stranger.run("org", "delete", "acme", "--yes")

    (_, _, reading, _), (method, _, deleting, _) = seen
    assert reading["if-match"] is None
    assert (method, deleting["if-match"]) == ("DELETE", '"7"')


def test_lists_are_followed_to_their_end_or_the_limit(stranger):
    def entry(slug):
        return {"slug": slug, "name": "", "id": slug, "created_at": "2026-01-01T00:00:00Z"}

    pages = [
        document(200, {"items": [entry("a"), entry("b")], "next": "2"}),
        document(200, {"items": [entry("c")], "next": None}),
    ]
    with scripted(*pages) as (server, seen):
        stranger.variables = {"ENTREPOT_SERVER": server, "ENTREPOT_TOKEN": "x"}

        listed = json.loads(stranger.run("org", "list", "--json").out)

    assert [found["slug"] for found in listed] == ["a", "b", "c"]
    assert "cursor=2" in seen[1][1]
