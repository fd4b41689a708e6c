"""What every database promises; SQLite, PostgreSQL and PgBouncer before it run the same suite."""

import asyncio
import json

import pytest

from entrepot.db.database import Transaction
from entrepot.model.errors import Conflict, ManifestUnknown, Unavailable
from tests.db.settings import names, put
from tests.support.pgbouncer import running_pgbouncer

INSERT = "INSERT INTO installation (name, value) VALUES (:name, :value)"
ORGANISATION = """
    INSERT INTO organisations (id, public_id, slug, created_at) VALUES (:id, 'x', 'main', 0)
"""
REPOSITORY = """
    INSERT INTO repositories (id, organisation_id, path, created_at)
    VALUES (1, :organisation_id, :path, 0)
"""
BIGGEST = 2**63 - 1


@pytest.fixture(params=["sqlite", "postgres", pytest.param("pgbouncer", marks=pytest.mark.slow)])
def database_url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{request.getfixturevalue('sqlite_path')}"
    elif request.param == "postgres":
        yield request.getfixturevalue("postgres_url")
    else:
        with running_pgbouncer(request.getfixturevalue("postgres_url"), tmp_path) as url:
            yield url


async def test_a_write_returns_what_its_work_returns(database):
    async def work(tx: Transaction) -> tuple[int, object]:
        changed = await tx.execute(INSERT, name="a", value="1")
        return changed, await tx.fetch_one("SELECT value FROM installation WHERE name = 'a'")

    assert await database.write(work) == (1, ("1",))


@pytest.mark.parametrize("durable", [True, False])
async def test_what_was_written_is_read_by_the_next_statement(database, durable):
    async with database.read() as tx:
        before = await tx.fetch_one("SELECT COUNT(*) FROM installation")
        await database.write(lambda tx: put(tx, "a"), durable=durable)
        after = await tx.fetch_one("SELECT COUNT(*) FROM installation")

    assert (before, after) == ((0,), (1,))


@pytest.mark.parametrize("durable", [True, False])
async def test_what_work_raises_reaches_its_caller_and_undoes_its_changes(database, durable):
    async def work(tx: Transaction) -> None:
        await put(tx, "a")
        raise ManifestUnknown("not here")

    with pytest.raises(ManifestUnknown):
        await database.write(work, durable=durable)

    assert await names(database) == []


async def test_one_failing_write_among_many_undoes_itself_alone(database):
    async def work(tx: Transaction, name: str) -> None:
        await put(tx, name)
        if name == "07":
            raise ManifestUnknown("not here")

    every = [f"{number:02}" for number in range(20)]
    results = await asyncio.gather(
        *(database.write(lambda tx, name=name: work(tx, name)) for name in every),
        return_exceptions=True,
    )

    assert [type(result) for result in results if result] == [ManifestUnknown]
    assert await names(database) == [name for name in every if name != "07"]


async def test_increments_by_many_writers_at_once_are_all_counted(database):
    await database.write(lambda tx: put(tx, "count", "0"))

    async def increment(tx: Transaction) -> None:
        row = await tx.fetch_one(
            """
            UPDATE installation
               SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT)
             WHERE name = 'count'
            RETURNING value
            """
        )
        assert row

    await asyncio.gather(*(database.write(increment, durable=False) for _ in range(50)))

    async with database.read() as tx:
        assert await tx.fetch_one("SELECT value FROM installation") == ("50",)


async def test_a_unique_key_that_exists_is_a_conflict(database):
    await database.write(lambda tx: put(tx, "a"))

    with pytest.raises(Conflict):
        await database.write(lambda tx: tx.execute(INSERT, name="a", value="again"))


async def test_a_foreign_key_that_does_not_exist_is_a_conflict(database):
    with pytest.raises(Conflict):
        await database.write(
            lambda tx: tx.execute("INSERT INTO blob_links VALUES (1, 'sha256:a', 0, 0, NULL)")
        )


async def test_a_row_that_others_refer_to_stays(database):
    async def work(tx: Transaction) -> None:
        await tx.execute(ORGANISATION, id=1)
        await tx.execute(REPOSITORY, organisation_id=1, path="app")

    await database.write(work)

    with pytest.raises(Conflict):
        await database.write(lambda tx: tx.execute("DELETE FROM organisations"))


async def test_a_write_that_swallows_a_failed_statement_fails_all_the_same(database):
    await database.write(lambda tx: put(tx, "a"))

    async def work(tx: Transaction) -> None:
        await put(tx, "b")
        try:
            await tx.execute(INSERT, name="a", value="again")
        except Conflict:
            return

    with pytest.raises(Conflict):
        await database.write(work)
    assert await names(database) == ["a"]


async def test_after_a_failed_statement_no_other_runs(database):
    await database.write(lambda tx: put(tx, "a"))

    async def work(tx: Transaction) -> None:
        try:
            await tx.execute(INSERT, name="a", value="again")
        except Conflict:
            await put(tx, "b")

    with pytest.raises(Conflict):
        await database.write(work)
    assert await names(database) == ["a"]


async def test_a_transaction_that_outlives_its_write_is_refused(database):
    async def work(tx: Transaction) -> Transaction:
        return tx

    tx = await database.write(work)

    with pytest.raises(RuntimeError, match="over"):
        await put(tx, "a")


@pytest.mark.parametrize("scan", [True, False])
async def test_a_read_cannot_change_anything(database, scan):
    with pytest.raises(Exception, match=r"read-?only"):
        async with database.read(scan=scan) as tx:
            await tx.execute(INSERT, name="a", value="1")

    assert await names(database) == []


@pytest.mark.parametrize("scan", [True, False])
async def test_values_come_back_as_they_were(database, scan):
    body = bytes(range(256))
    text = "naïve 船 'quoted' %s :name"

    async def work(tx: Transaction) -> None:
        await tx.execute(ORGANISATION, id=BIGGEST)
        await tx.execute(REPOSITORY, organisation_id=BIGGEST, path=text)
        await tx.execute(
            """
            INSERT INTO manifests (
                repository_id, digest, media_type, artifact_type, depth, created_at, pushed_at,
                protected_until, size, body
            )
            VALUES (1, 'd', :media_type, :artifact_type, 0, :least, 0, 0, 256, :body)
            """,
            media_type="",
            artifact_type=None,
            least=-(2**63),
            body=body,
        )

    await database.write(work)

    async with database.read(scan=scan) as tx:
        row = await tx.fetch_one(
            """
            SELECT o.id, r.path, m.media_type, m.artifact_type, m.created_at, m.body
              FROM manifests AS m
              JOIN repositories AS r ON r.id = m.repository_id
              JOIN organisations AS o ON o.id = r.organisation_id
            """
        )
    assert row == (BIGGEST, text, "", None, -(2**63), body)
    assert type(row) is tuple
    assert type(row[5]) is bytes


async def test_truth_and_sums_are_integers(database):
    async def work(tx: Transaction) -> None:
        for number in range(3):
            await tx.execute(
                "INSERT INTO byte_deltas VALUES (:id, 1, NULL, 0, :bytes, 0)",
                id=number,
                bytes=BIGGEST // 4,
            )

    await database.write(work)

    async with database.read() as tx:
        row = await tx.fetch_one(
            "SELECT SUM(bytes), COUNT(*), EXISTS (SELECT 1 FROM byte_deltas) FROM byte_deltas"
        )
    assert row == (BIGGEST // 4 * 3, 3, 1)
    assert [type(value) for value in row] == [int, int, int]


async def test_keys_are_in_the_order_of_their_bytes(database):
    keys = ["v1", "V2", "v1.0", "v1-0", "_v", "latest", "é", "z", "Z", "10", "9"]

    async def work(tx: Transaction) -> None:
        for key in keys:
            await put(tx, key)

    await database.write(work)

    assert await names(database) == sorted(keys, key=str.encode)
    async with database.read() as tx:
        page = await tx.fetch_all(
            "SELECT name FROM installation WHERE name > :last ORDER BY name LIMIT 2", last="Z"
        )
    assert page == [("_v",), ("latest",)]


async def test_a_json_array_of_values_selects_rows(database):
    async def work(tx: Transaction) -> None:
        for key in "abc":
            await put(tx, key)

    await database.write(work)

    async with database.read() as tx:
        rows = await tx.fetch_all(
            """
            SELECT name
              FROM installation
             WHERE name IN (SELECT value FROM json_each(:names))
             ORDER BY name
            """,
            names=json.dumps(["c", "a", "x"]),
        )
    assert rows == [("a",), ("c",)]


async def test_words_that_look_like_values_are_left_alone(database):
    async with database.read() as tx:
        row = await tx.fetch_one(
            """
            SELECT ':name', '100%', 'it''s :name' -- not :a value, nor 100%
             WHERE 7 % 4 = CAST(:three AS BIGINT)
            """,
            three=3,
        )

    assert row == (":name", "100%", "it's :name")


async def test_the_number_of_changed_rows_is_told(database):
    async def work(tx: Transaction) -> list[int]:
        for key in "abc":
            await put(tx, key)
        return [
            await tx.execute("UPDATE installation SET value = 'x' WHERE name <> 'a'"),
            await tx.execute("INSERT INTO installation VALUES ('a', '') ON CONFLICT DO NOTHING"),
            await tx.execute(
                """
                WITH gone AS (SELECT name FROM installation WHERE value = 'x')
                DELETE FROM installation WHERE name IN (SELECT name FROM gone)
                """
            ),
            await tx.execute("DELETE FROM installation WHERE name = 'x'"),
        ]

    assert await database.write(work) == [2, 0, 2, 0]


async def test_returning_gives_every_changed_row(database):
    async def work(tx: Transaction) -> object:
        for key in "abc":
            await put(tx, key)
        one = await tx.fetch_one("UPDATE installation SET value = 'x' RETURNING value")
        every = await tx.fetch_all("DELETE FROM installation RETURNING name, value")
        return one, sorted(every)

    assert await database.write(work) == (("x",), [("a", "x"), ("b", "x"), ("c", "x")])


@pytest.mark.parametrize("scan", [True, False])
async def test_nothing_found_is_none_or_no_rows(database, scan):
    async with database.read(scan=scan) as tx:
        assert await tx.fetch_one("SELECT name FROM installation") is None
        assert await tx.fetch_all("SELECT name FROM installation") == []


async def test_many_reads_and_scans_at_once_see_what_is_there(database):
    await database.write(lambda tx: put(tx, "a"))

    async def read(scan: bool) -> object:
        async with database.read(scan=scan) as tx:
            return await tx.fetch_one("SELECT name FROM installation")

    results = await asyncio.gather(*(read(number % 2 == 0) for number in range(100)))

    assert results == [("a",)] * 100


async def test_cancelled_writers_leave_the_database_whole(database):
    tasks = [
        asyncio.create_task(database.write(lambda tx, name=f"{number:03}": put(tx, name)))
        for number in range(60)
    ]
    for steps, task in enumerate(tasks):
        if steps % 2:
            task.cancel()
        await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)

    found = await names(database)
    assert {f"{number:03}" for number, result in enumerate(results) if result is None} <= set(found)
    assert all(result is None for result in results[::2])
    await asyncio.gather(*(database.write(lambda tx: put(tx, "after")) for _ in range(30)))


async def test_cancelled_readers_leave_the_database_whole(database):
    async def read(scan: bool) -> None:
        async with database.read(scan=scan) as tx:
            await tx.fetch_all("SELECT name FROM installation")

    tasks = [asyncio.create_task(read(number % 3 == 0)) for number in range(60)]
    for task in tasks:
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    await asyncio.gather(*(read(number % 2 == 0) for number in range(30)))


async def test_a_closed_database_says_so(database):
    await database.close()

    with pytest.raises(Unavailable):
        await database.write(lambda tx: put(tx, "a"))
    for scan in (True, False):
        with pytest.raises(Unavailable):
            async with database.read(scan=scan) as tx:
                await tx.fetch_one("SELECT 1")


async def test_our_own_mistakes_are_not_disguised(database):
    with pytest.raises(Exception, match="no_such_table") as found:
        async with database.read() as tx:
            await tx.fetch_one("SELECT 1 FROM no_such_table")

    assert not type(found.value).__module__.startswith("entrepot")


async def test_byte_seconds_may_outgrow_64_bits(database):
    async def work(tx: Transaction) -> None:
        await tx.execute(
            "INSERT INTO usage_points VALUES (1, 0, 0, :bytes, 0, :seconds)",
            bytes=BIGGEST,
            seconds=0.5,
        )
        await tx.execute(
            """
            UPDATE usage_points
               SET byte_seconds = usage_points.byte_seconds
                                + CAST(grown.bytes AS DOUBLE PRECISION) * :seconds
              FROM (SELECT CAST(SUM(bytes) AS BIGINT) AS bytes FROM usage_points) AS grown
             WHERE usage_points.organisation_id = 1
            """,
            seconds=86_400,
        )

    await database.write(work)

    async with database.read() as tx:
        (row,) = await tx.fetch_all("SELECT bytes, byte_seconds FROM usage_points")
    assert row == (BIGGEST, float(BIGGEST) * 86_400 + 0.5)
