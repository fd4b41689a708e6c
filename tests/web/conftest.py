"""Everything here runs quick, and long in `make fuzz`."""

from tests.support.efforts import effort as effort  # noqa: PLC0414  # a fixture
