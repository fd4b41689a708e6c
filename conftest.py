"""Makes `tests` importable from the top folder and loads what every run needs."""

pytest_plugins = ["tests.support.skips", "tests.support.left_open"]
