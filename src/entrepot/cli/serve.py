"""`entrepot serve`: settings, the checks before a start, the lines to copy, then the workers."""

import asyncio
import importlib
import os
import shutil
from importlib.metadata import version
from pathlib import Path

import click

from entrepot.cli import preflight
from entrepot.cli.supervisor import Supervisor
from entrepot.config import Settings, environment_name, load, to_environment
from entrepot.telemetry import logs


@click.command()
@click.option("--host", help="Address to listen on [127.0.0.1].")
@click.option("--port", type=int, help="Port to listen on [5000].")
@click.option("--data", type=Path, help="Data folder [./data].")
@click.option("--workers", type=int, help="Server processes [one per core, at most 4].")
@click.option("--config", type=Path, help="Settings file (TOML).")
def serve(config: Path | None, **options: object) -> None:
    """Run the registry.

    Every setting can also come from the environment or the settings file.
    """
    typed = {environment_name(name): str(v) for name, v in options.items() if v is not None}
    run(load(config, {**os.environ, **typed}))


def run(settings: Settings, app: str = "entrepot.app") -> None:
    """Serve `app` until a signal says stop. Raises StartRefused, SettingsInvalid."""
    logs.configure(settings.log.level, settings.log.format)
    os.umask(0o027)  # what the registry holds is not for every user of the machine
    preflight.refuse_unsafe_files(settings)
    preflight.refuse_unusable_certificate(settings)
    with preflight.lock_data_folder(settings.data):
        listeners = preflight.listen(settings.host, settings.port, settings.workers)
        preflight.raise_file_limit()
        settings = settings.model_copy(update={"port": listeners[0].getsockname()[1]})
        _hand_to_workers(settings)
        prepared = asyncio.run(importlib.import_module(app).prepare(settings))
        # One write, so that a stop that comes early leaves no half of what to type.
        click.echo("\n".join([*_greeting(settings), *prepared.start_lines]))
        Supervisor(settings, app, listeners).run()


def _hand_to_workers(settings: Settings) -> None:
    """Give workers these settings, resolved: an edit of the file waits for the next start."""
    os.environ.pop("ENTREPOT_CONFIG", None)
    os.environ.update(to_environment(settings))
    sums = settings.data / "metrics"
    shutil.rmtree(sums, ignore_errors=True)
    sums.mkdir()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(sums)


def _greeting(settings: Settings) -> list[str]:
    scheme = "https" if settings.tls.cert_file else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{scheme}://{host}:{settings.port}"
    public = f", public address {settings.public_url}" if settings.public_url else ""
    return [
        f"entrepot {version('entrepot')} on {address}{public}",
        f"data in {settings.data}",
        *(f"warning: {warning}" for warning in settings.warnings()),
    ]
