"""The table of `entrepot usage`: shares, what is listed nowhere, and prices."""

import pytest

from entrepot.cli import usage


def measured(bytes_count, byte_seconds, price="0.000000"):
    return {
        "bytes": bytes_count,
        "byte_seconds": byte_seconds,
        "gb_months": "0.000000",
        "price": price,
    }


def found(*lines, whole):
    items = [{"name": name, "usage": measured(*numbers)} for name, *numbers in lines]
    return {"items": items, "repositories": measured(*whole)}


def test_the_largest_comes_first_with_its_share():
    lines = usage._lines(found(("a", 1, 25), ("b", 3, 75), whole=(4, 100)))

    assert [(line["name"], line["share"]) for line in lines] == [("b", "0.75"), ("a", "0.25")]


def test_what_is_listed_nowhere_is_one_more_line():
    lines = usage._lines(found(("a", 1, 25, "0.25"), whole=(1, 100, "1.00")))

    assert lines[0]["name"] == "(others, or deleted)"
    assert lines[0]["usage"] == measured(0, 75, "0.75") | {"gb_months": "0.000000"}


def test_rounding_makes_no_line():
    lines = usage._lines(found(("a", 1, 25), whole=(1, 26)))

    assert [line["name"] for line in lines] == ["a"]


def test_nothing_has_no_share():
    assert usage._lines(found(("a", 0, 0), whole=(0, 0)))[0]["share"] == "0"


@pytest.mark.parametrize(
    ("price", "shown"), [("0.000000", "0.00"), ("0.000001", "< 0.01"), ("12.345678", "12.35")]
)
def test_a_price_that_rounds_to_nothing_is_not_nothing(price, shown):
    assert usage._money(price) == shown
