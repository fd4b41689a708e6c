"""The page at `/`, which somebody sees who types the registry's address into a browser."""

import re

import httpx


def test_the_first_page_leads_to_the_description_of_the_api(registry):
    page = httpx.get(f"{registry.url}/").text

    (link,) = re.findall(r'<a href="([^"]+)"', page)
    described = httpx.get(f"{registry.url}{link}")

    assert described.status_code == 200
    assert "Entrepot API" in described.text


def test_commands_on_the_pages_wrap_rather_than_hide_their_ends(registry):
    for path in ("/", "/join"):
        page = httpx.get(f"{registry.url}{path}").text
        (style,) = re.findall(r"pre \{([^}]+)\}", page)

        assert "white-space: pre-wrap" in style
