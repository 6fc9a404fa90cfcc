"""The statements of a PostgreSQL ledger."""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql


class Statements:
    """The statements of one schema. Every value is bound; only the checked name of the schema is put in."""

    def __init__(self, schema: str) -> None:
        def made(text: LiteralString) -> bytes:
            return sql.SQL(text).format(schema=sql.Identifier(schema)).as_bytes(None)

        self.settings = made(
            "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true),"
            " set_config('idle_in_transaction_session_timeout', %s, true), set_config('synchronous_commit',"
            " CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'"
            " ELSE current_setting('synchronous_commit') END, true)",
        )
        self.tail = made(
            "SELECT head.leaf, receipt.leaf, receipt.body FROM {schema}.head"
            " LEFT JOIN {schema}.receipt ON receipt.seq = head.size"
        )
        self.leaf = made("SELECT leaf FROM {schema}.receipt WHERE seq = %s")
        self.head = made("SELECT log, size, leaf, ts, frontier, signer FROM {schema}.head WHERE id = 1 FOR UPDATE")
        # Not now(), which is when the transaction began: a waiter would bring an older time than the row it writes.
        self.clock = made("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        self.holds = made("SELECT id, data FROM {schema}.hold WHERE id = ANY(%b)")
        self.rows = made(
            "SELECT key, data FROM {schema}.counter WHERE key = ANY(%b::bytea[])"
            " OR key IN (SELECT unnest(keys) FROM {schema}.hold WHERE id = ANY(%b::text[])) ORDER BY key FOR UPDATE",
        )
        self.put_rows = made(
            "INSERT INTO {schema}.counter SELECT * FROM unnest(%b::bytea[], %b::bytea[])"
            " ON CONFLICT (key) DO UPDATE SET data = excluded.data",
        )
        self.put_hold = made(
            "INSERT INTO {schema}.hold (id, state, created, due, keys, data) VALUES (%s, %s, %s, %s, %b, %b)"
            " ON CONFLICT (id) DO UPDATE SET state = excluded.state, due = excluded.due, data = excluded.data",
        )
        self.put_receipts = made(
            "INSERT INTO {schema}.receipt SELECT * FROM unnest(%b::bigint[], %b::bytea[], %b::bytea[], %b::bytea[],"
            " %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %b::bigint[], %b::bytea[])",
        )
        self.leases = made("SELECT holder, until FROM {schema}.lease")
        self.put_lease = made(
            "INSERT INTO {schema}.lease VALUES (%s, %s) ON CONFLICT (holder) DO UPDATE SET until = excluded.until"
        )
        self.end_lease = made("DELETE FROM {schema}.lease WHERE holder = %s")
        self.due = made("SELECT id FROM {schema}.hold WHERE due > 0 AND due <= %s ORDER BY due LIMIT %s")
        self.claims = made("SELECT key, data FROM {schema}.claim WHERE key = ANY(%s)")
        self.drop_claim = made("DELETE FROM {schema}.claim WHERE key = %s")
        self.put_claim = made(
            "INSERT INTO {schema}.claim VALUES (%s, %s, %b)"
            " ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, data = excluded.data"
        )
        self.put_head = made("UPDATE {schema}.head SET size = %s, leaf = %b, ts = %s, frontier = %b WHERE id = 1")
        self.put_nodes = made("INSERT INTO {schema}.node SELECT * FROM unnest(%b::int[], %b::bigint[], %b::bytea[])")
        self.put_checkpoint = made("INSERT INTO {schema}.checkpoint VALUES (%s, %s)")
        self.put_signer = made("UPDATE {schema}.head SET signer = %b")
        self.put_key = made("INSERT INTO {schema}.signing_key (public, after, proof) VALUES (%b, %s, %b)")
        self.api_key = made("SELECT data FROM {schema}.api_key WHERE id = %s")
        self.put_api_key = made(
            "INSERT INTO {schema}.api_key VALUES (%s, %s, %s, %b) ON CONFLICT (id) DO UPDATE"
            " SET account = excluded.account, created = excluded.created, data = excluded.data"
        )
        self.put_text = made("INSERT INTO {schema}.policy VALUES (%s, %b) ON CONFLICT DO NOTHING")
        self.put_revocation = made(
            "INSERT INTO {schema}.revocation VALUES (%s, %s, %b)"
            " ON CONFLICT (key) DO UPDATE SET until = excluded.until, data = excluded.data"
        )
        self.values = made("SELECT disclosed, decision FROM {schema}.receipt WHERE seq = %s")
        self.put_values = made("UPDATE {schema}.receipt SET disclosed = %s WHERE seq = %s")
        self.begin = b"BEGIN ISOLATION LEVEL READ COMMITTED"
        self.page = made("SELECT key, data FROM {schema}.counter WHERE key > %b ORDER BY key LIMIT %s")
        self.some_rows = made(
            "SELECT key, data FROM {schema}.counter WHERE key = ANY(%b::bytea[]) ORDER BY key FOR UPDATE"
        )
        self.drop_rows = made("DELETE FROM {schema}.counter WHERE key = ANY(%b::bytea[])")
        self.drop_stale = {
            "hold": made(
                "DELETE FROM {schema}.hold WHERE id IN (SELECT id FROM {schema}.hold WHERE created < %s"
                " AND state NOT IN ('held', 'unknown') ORDER BY created LIMIT %s)"
            ),
            "revocation": made(
                "DELETE FROM {schema}.revocation WHERE key IN"
                " (SELECT key FROM {schema}.revocation WHERE until < %s LIMIT %s)"
            ),
            "claim": made(
                "DELETE FROM {schema}.claim WHERE key IN (SELECT key FROM {schema}.claim WHERE expires < %s LIMIT %s)"
            ),
            "lease": made(
                "DELETE FROM {schema}.lease WHERE holder IN"
                " (SELECT holder FROM {schema}.lease WHERE until < %s LIMIT %s)"
            ),
        }
