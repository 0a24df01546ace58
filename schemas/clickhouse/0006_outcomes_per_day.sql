-- Counts and volumes per day: what deliverability, campaigns and tenants are told from, over months, in well under a second.
--
-- Fed by the rollup per minute, whose blocks are a fraction of the outcomes': no second pass over every inserted row.
-- Sums only. A digest of latencies in every row would be most of its bytes; latencies by hour are in waits_per_hour.
--
-- ORDER BY: a tenant's days lie together, and within a day what happened, since every question asks for a few types.
-- PARTITION BY month and ttl_only_drop_parts: whole months go, nothing is rewritten.

CREATE TABLE IF NOT EXISTS {database}.outcomes_per_day
(
    day                 Date CODEC(Delta, ZSTD(1)),
    tenant_id           LowCardinality(String),
    site                LowCardinality(String),
    campaign_id         LowCardinality(String),
    template_id         LowCardinality(String),
    variant             LowCardinality(String),
    priority            LowCardinality(String),
    event_type          LowCardinality(String),
    category            LowCardinality(String),
    outcomes            SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    size_bytes          SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    first_minute        SimpleAggregateFunction(min, DateTime('UTC')) CODEC(Delta, ZSTD(1)),
    last_minute         SimpleAggregateFunction(max, DateTime('UTC')) CODEC(Delta, ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (tenant_id, day, event_type, site, campaign_id, template_id, variant, priority, category)
TTL day + INTERVAL 800 DAY
SETTINGS
    non_replicated_deduplication_window = 100000,
    ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.minute_to_day TO {database}.outcomes_per_day AS
SELECT
    toDate(minute) AS day,
    tenant_id,
    site,
    campaign_id,
    template_id,
    variant,
    priority,
    event_type,
    category,
    sum(m.outcomes) AS outcomes,
    sum(m.size_bytes) AS size_bytes,
    min(minute) AS first_minute,
    max(minute) AS last_minute
FROM {database}.outcomes_per_minute AS m
GROUP BY day, tenant_id, site, campaign_id, template_id, variant, priority, event_type, category;
