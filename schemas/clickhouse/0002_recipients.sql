-- Who a mail went to, in plain text: apart from the outcomes, for 30 days, so that analysis needs no addresses and an
-- erasure touches one small table. Readers of outcomes need no grant on it.
--
-- ReplacingMergeTree: every outcome of a mail names the same recipient; one row is enough. Read it with FINAL, or with any().
-- PARTITION BY week: the TTL drops whole weeks without rewriting parts.

CREATE TABLE IF NOT EXISTS {database}.recipients
(
    message_id      String CODEC(ZSTD(1)),
    tenant_id       LowCardinality(String),
    recipient       String CODEC(ZSTD(1)),
    recipient_hash  String CODEC(ZSTD(1)),
    seen_at         DateTime('UTC') CODEC(Delta, ZSTD(1)),

    INDEX by_hash recipient_hash TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(seen_at)
PARTITION BY toMonday(seen_at)
ORDER BY (message_id, tenant_id)
TTL seen_at + INTERVAL 30 DAY
SETTINGS
    non_replicated_deduplication_window = 100000,
    ttl_only_drop_parts = 1;
