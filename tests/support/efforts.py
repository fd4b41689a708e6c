"""How hard generated tests try: a little and the same each time, or long and ever new."""

import pytest
from hypothesis import HealthCheck, settings

_CALM = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]

settings.register_profile(
    "quick",
    max_examples=100,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=_CALM,
)
settings.register_profile(
    "long", max_examples=20_000, deadline=None, suppress_health_check=_CALM, print_blob=True
)


@pytest.fixture(
    scope="module", autouse=True, params=["quick", pytest.param("long", marks=pytest.mark.fuzz)]
)
def effort(request):
    """Every test of a folder that imports this runs quick, and long in `make fuzz`."""
    before = settings.get_current_profile_name()
    settings.load_profile(request.param)
    yield request.param
    settings.load_profile(before)
