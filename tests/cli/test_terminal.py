"""What other people put into names, where a terminal would obey it."""

import secrets

NAME = "\x1b]0;title\x07\x9b2Khidden"


def test_a_question_shows_the_name_of_a_token_as_letters(admin):
    token = admin.run("token", "create", "--kind", "user", "--name", f"{NAME}\nnext: rm").err
    token_id = token.partition("made token ")[2].partition(",")[0]

    shown = admin.talk("token", "revoke", token_id, answers={"[y/N]": "n"}, code=1)

    assert not {"\x1b", "\x07", "\x9b"} & set(shown)
    assert not any(line.startswith("next: rm") for line in shown.splitlines())


def test_a_table_of_events_on_a_terminal_shows_names_as_letters(admin, acme):
    admin.run("project", "create", NAME, "--org", acme)

    shown = admin.talk("audit", "--org", acme, "--csv")
    piped = admin.run("audit", "--org", acme, "--csv").out

    assert "hidden" in shown
    assert not {"\x1b", "\x07", "\x9b"} & set(shown)
    assert NAME in piped


def test_a_name_of_two_lines_is_one_line_of_a_table(admin, acme):
    second = f"second-{secrets.token_hex(3)}"
    admin.run("project", "create", f"first\n{second}", "--org", acme)

    shown = admin.talk("project", "list", "--org", acme)

    assert any("first" in line and second in line for line in shown.splitlines())
