"""A worker that cannot start says so, instead of refusing every request for ever."""

from entrepot.app import Application
from entrepot.config import load
from entrepot.model.clock import SystemClock


async def test_a_worker_whose_database_cannot_be_opened_does_not_start(tmp_path):
    missing = tmp_path / "missing" / "entrepot.db"
    settings = load(
        None,
        {
            "ENTREPOT_DATA": str(tmp_path),
            "ENTREPOT_DATABASE__URL": f"sqlite:///{missing}",
        },
    )
    app = Application(settings, SystemClock())
    sent = []

    async def receive():
        return {"type": "lifespan.startup"}

    async def send(message):
        sent.append(message)

    await app({"type": "lifespan"}, receive, send)

    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert sent[0]["message"]
    app.store.close()
