import pytest

from tests.project.test_bootstrap import load

check_project = load("check_project")


@pytest.fixture
def project(tmp_path):
    """Write files into an empty project and return them all."""

    def write(**texts):
        for name, text in texts.items():
            file = tmp_path / name.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return [file for file in tmp_path.rglob("*") if file.is_file()]

    return write


def test_a_long_module_needs_a_reason(tmp_path, project):
    files = project(
        **{
            "src__short.py": "x = 1\n" * 400,
            "src__long.py": "x = 1\n" * 401,
            "src__explained.py": "# long because: one table\n" + "x = 1\n" * 401,
            "tests__long.py": "x = 1\n" * 401,
        }
    )

    findings = list(check_project.long_files(tmp_path, files))

    assert [finding.split(":")[0] for finding in findings] == ["src/long.py"]


@pytest.mark.parametrize(
    "line",
    [
        "cd /wo" + "rk/main",
        "see ../sha" + "red/notes.md",
        "https://py" + "pi.org/simple",
        "mirror: deb.deb" + "ian.org",
    ],
)
def test_a_word_of_another_place_is_found(tmp_path, project, line):
    files = project(**{"README.md": f"fine\n{line}\n"})

    (finding,) = check_project.foreign_words(tmp_path, files)

    assert finding.startswith("README.md:2: ")


@pytest.mark.parametrize(
    "line", ["a/wo" + "rk/b", "/usr/sha" + "re/doc", "bench/wo" + "rk/", "docker.io/library/x"]
)
def test_ordinary_words_are_not(tmp_path, project, line):
    files = project(**{"README.md": line})

    assert not list(check_project.foreign_words(tmp_path, files))


def test_the_lock_may_say_where_files_come_from(tmp_path, project):
    files = project(**{"uv.lock": "https://py" + "pi.org/simple"})

    assert not list(check_project.foreign_words(tmp_path, files))


@pytest.mark.parametrize("name", ["x.new.md", "x.md", "X.added.md", "x.added.txt"])
def test_a_change_note_with_another_name_is_refused(tmp_path, project, name):
    files = project(**{f"changes__{name}": "A sentence."})

    assert list(check_project.malformed_changes(tmp_path, files))


def test_a_change_note_is_a_sentence(tmp_path, project):
    files = project(**{"changes__a.added.md": "A sentence.", "changes__b.added.md": ""})

    findings = list(check_project.malformed_changes(tmp_path, files))

    assert findings == ["changes/b.added.md: is not a sentence"]


def test_a_link_that_leads_nowhere_is_found(tmp_path, project):
    files = project(
        **{"docs__a.md": "[b](b.md) [c](c.md#part) [d](https://example.com)", "docs__b.md": ""}
    )

    findings = list(check_project.broken_links(tmp_path, files))

    assert findings == ["docs/a.md: links to c.md, which is not there"]
