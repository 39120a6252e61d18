"""A database as large as years of service make it, filled by the database itself."""

from __future__ import annotations

from sqlalchemy import Connection, text

TENANTS = 200
"""The first, `ten_0`, owns half of everything."""

DAYS = 120
"""The rows are spread evenly over so many days, up to now."""

# Nearly all jobs are over. One in a thousand has just been queued, one in a thousand runs, one in 10,000 is being cancelled.
_JOB = """
CREATE TEMPORARY TABLE filled ON COMMIT DROP AS
SELECT n,
       'job_' || lpad(to_hex(n), 26, '0') AS id,
       'ten_' || CASE WHEN n % 2 = 0 THEN 0 ELSE n % :tenants END AS tenant_id,
       CASE WHEN n % 1000 = 0 THEN 'queued' WHEN n % 1000 = 2 THEN 'running' WHEN n % 10000 = 4 THEN 'cancelling'
            WHEN n % 50 = 10 THEN 'failed' WHEN n % 50 = 5 THEN 'cancelled' ELSE 'succeeded' END AS status,
       now() - make_interval(secs => (:jobs - n) * :days * 86400.0 / :jobs) AS at
FROM generate_series(1, :jobs) n
"""

_ROWS = {
    "tenants": "SELECT 'ten_' || n AS id, 'tenant ' || n AS name, now() AS created_at FROM generate_series(0, :tenants - 1) n",
    "models": """
        SELECT 'model_' || lpad(to_hex(n), 26, '0') AS id, 'ten_' || n % :tenants AS tenant_id, 'model ' || n AS name, 'ready' AS status,
               '{}'::jsonb AS source, '[]'::jsonb AS files, '{}'::jsonb AS inspection, '[]'::jsonb AS findings,
               now() AS created_at, now() AS updated_at
        FROM generate_series(1, :jobs / 100 + 1) n""",
    "jobs": """
        SELECT id, tenant_id, 'scan' AS kind, status, 'publish' AS stage,
               'model_' || lpad(to_hex(n / 100 + 1), 26, '0') AS model_id, 'dset_' || n / 100 AS dataset_id,
               '{"shards": 2}'::jsonb AS parameters, '{}'::jsonb AS metadata, 'wh_' || n AS webhook_id,
               '{"verdict": "clean"}'::jsonb AS result, at AS created_at, at AS started_at,
               CASE WHEN status IN ('succeeded', 'failed', 'cancelled') THEN at + interval '9 minutes' END AS finished_at,
               CASE WHEN status IN ('succeeded', 'failed', 'cancelled') AND n % 5000 <> 7 THEN at + interval '30 minutes' END AS swept_at
        FROM filled""",
    "steps": """
        SELECT 'step_' || lpad(to_hex(n), 22, '0') || lpad(to_hex(s), 4, '0') AS id, tenant_id, id AS job_id, id AS subject_id,
               (ARRAY['scan', 'scan', 'verdict', 'publish'])[s + 1] AS kind, CASE WHEN s = 1 THEN 1 ELSE 0 END AS shard, 2 AS shards,
               greatest(s - 1, 0) AS position, CASE WHEN s = 3 THEN 'io' ELSE 'gpu' END AS queue,
               CASE WHEN status IN ('succeeded', 'failed', 'cancelled') THEN status
                    WHEN s > 1 THEN 'blocked' WHEN status = 'queued' THEN 'ready' ELSE 'running' END AS status,
               1 AS attempt, 5 AS max_attempts, 0 AS rings,
               CASE WHEN status = 'queued' THEN now() + (n / 1000 % 100 - 10) * interval '1 second' END AS ring_again_at,
               CASE WHEN status IN ('running', 'cancelling') THEN now() + (n % 60) * interval '1 second' END AS lease_expires_at,
               '{"files": []}'::jsonb AS outputs, at AS created_at
        FROM filled, generate_series(0, 3) s""",
    "artifacts": """
        SELECT 'art_' || lpad(to_hex(n), 26, '0') AS id, tenant_id, id AS job_id, 'report.json' AS name, 'report' AS kind,
               'jobs/' || id || '/steps/publish/attempts/1/report.json' AS key, md5(id) AS sha256, 1000 AS bytes,
               'application/json' AS media_type, at AS created_at
        FROM filled""",
    "blobs": """
        SELECT 'blob_' || lpad(to_hex(n), 26, '0') AS id, tenant_id, 'jobs/' || id || '/steps/publish/attempts/1/report.json' AS key,
               md5(id) AS sha256, 1000 AS bytes, at AS created_at
        FROM filled""",
    "blob_references": """
        SELECT 'blob_' || lpad(to_hex(n), 26, '0') AS blob_id, 'art_' || lpad(to_hex(n), 26, '0') AS owner_id
        FROM filled WHERE n % 20000 <> 9""",
    "webhooks": """
        SELECT 'wh_' || n AS id, tenant_id, id AS job_id, 'https://example.com/' AS url, '' AS description,
               '["job.succeeded"]'::jsonb AS events,
               true AS enabled, 1 AS secret_generation, at AS created_at, at AS updated_at
        FROM filled""",
    "webhook_deliveries": """
        SELECT 'msg_' || lpad(to_hex(n), 26, '0') AS id, tenant_id, 'wh_' || n AS webhook_id, 'job.succeeded' AS event_type, '{}' AS body,
               CASE WHEN n % 2000 = 1 THEN 'pending' ELSE 'succeeded' END AS status, 1 AS attempts,
               CASE WHEN n % 2000 = 1 THEN now() + (n / 2000 % 100 - 5) * interval '1 minute' END AS ring_again_at, at AS created_at
        FROM filled""",
    "uploads": """
        SELECT 'upl_' || lpad(to_hex(n), 26, '0') AS id, tenant_id, 'file' AS filename, 1 AS bytes, 1 AS part_size, 'completed' AS status,
               'tenants/' || tenant_id || '/uploads/' || n AS key, '' AS multipart_id, at AS created_at,
               at + interval '150 days' AS expires_at
        FROM filled WHERE n % 10 = 0""",
    "outbox": """
        SELECT n AS id, 'run_step' AS topic, '{"queue": "gpu", "id": "step_1"}'::jsonb AS payload, now() AS created_at
        FROM generate_series(1, least(:jobs / 100, 10000)) n""",
    "events": """
        SELECT (n - 1) * (:events / :jobs) + e AS id, tenant_id, id AS job_id, 'job.progress' AS type,
               jsonb_build_object('stage', 'scan', 'done', e, 'total', 20, 'unit', 'samples', 'eta_seconds', 20 - e) AS data,
               at + e * interval '20 seconds' AS created_at
        FROM filled, generate_series(1, :events / :jobs) e ORDER BY n, e""",
}


def fill(connection: Connection, *, jobs: int, events: int) -> None:
    """Rows for so many jobs, with all that hangs on them, and so many events (a multiple of `jobs`). The tables are empty before."""
    sizes = {"jobs": jobs, "events": events, "tenants": TENANTS, "days": DAYS}
    # As in a restore: foreign keys are not checked row by row.
    connection.execute(text("SET LOCAL session_replication_role = replica"))
    connection.execute(text(_JOB), sizes)
    for table, rows in _ROWS.items():
        columns = ", ".join(connection.execute(text(f"{rows} LIMIT 0"), _used(rows, sizes)).keys())
        connection.execute(text(f"INSERT INTO {table} ({columns}) {rows}"), _used(rows, sizes))
    for table in ("events", "outbox"):
        connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"))  # noqa: S608


def _used(statement: str, sizes: dict[str, int]) -> dict[str, int]:
    return {name: size for name, size in sizes.items() if f":{name}" in statement}
