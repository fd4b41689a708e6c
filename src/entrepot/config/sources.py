"""Where settings come from: `ENTREPOT_…`, else `entrepot.toml`, else their defaults."""

import difflib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from entrepot.config.tree import Settings
from entrepot.model.errors import SettingsInvalid

# What the command line reads for itself; not settings of the server.
RESERVED = frozenset({"ENTREPOT_SERVER", "ENTREPOT_TOKEN", "ENTREPOT_ORG", "ENTREPOT_CONFIG"})


def load(config: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process; the environment wins over the file. Raises SettingsInvalid."""
    environment = os.environ if environment is None else environment
    if config is None and (named := environment.get("ENTREPOT_CONFIG")):
        config = Path(named)
    known = fields()
    values = _from_file(config, known) if config else {}
    # An empty variable is an unset one: compose files and unit files pass them on.
    values |= {path: text for path, text in _from_environment(environment, known) if text}
    try:
        return Settings.model_validate(_nest(values))
    except ValidationError as error:
        raise SettingsInvalid("; ".join(_explain(error))) from None  # `error` holds the values


def fields() -> dict[str, FieldInfo]:
    """Every setting by its dotted path."""
    return dict(_fields(Settings))


def environment_name(path: str) -> str:
    """`database.url` -> `ENTREPOT_DATABASE__URL`."""
    return "ENTREPOT_" + path.replace(".", "__").upper()


def to_environment(settings: Settings) -> dict[str, str]:
    """The variables from which `load` makes these settings again, in another process."""
    values = {path: _text(_value(settings, path)) for path in fields()}
    return {environment_name(path): text for path, text in values.items() if text}


def _fields(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def _from_file(config: Path, known: Iterable[str]) -> dict[str, Any]:
    try:
        tree = tomllib.loads(config.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"cannot read the settings file {config}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsInvalid(f"{config} is not TOML: {error}") from error
    values = dict(_flatten(tree))
    _refuse_unknown(values, known, f"in {config}")
    return values


def _from_environment(
    environment: Mapping[str, str], known: Iterable[str]
) -> Iterator[tuple[str, str]]:
    paths = {environment_name(path): path for path in known}
    ours = {name for name in environment if name.startswith("ENTREPOT_")} - RESERVED
    _refuse_unknown(ours, paths, "in the environment")
    return ((paths[name], environment[name]) for name in ours)


def _refuse_unknown(given: Iterable[str], known: Iterable[str], where: str) -> None:
    for name in sorted(set(given) - set(known)):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise SettingsInvalid(f"unknown setting {name} {where}{hint}")


def _flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _nest(values: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *sections, name = path.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[name] = value
    return tree


def _explain(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_input=False, include_url=False):
        path = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        # Rules over several settings name them in their sentence.
        yield f"{path} ({environment_name(path)}): {message}" if path in fields() else message


def _value(settings: BaseModel, path: str) -> object:
    value: object = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case SecretStr():
            return value.get_secret_value()
        case tuple():
            return ",".join(str(item) for item in value)
        case _:
            return str(value)
