-- Counts, volumes, waits and latencies per minute, for dashboards and for `sluice status`.
--
-- The view writes what one inserted block adds up to; merges add the rest, so read it with sum() and
-- quantilesTDigestMerge(0.5, 0.9, 0.99)(latency_ms), never row by row.
--
-- The target has a deduplication window of its own: with deduplicate_blocks_in_dependent_materialized_views = 1 on the
-- insert, a repeated batch is left out here as well. ReplacingMergeTree on outcomes could not do that.

CREATE TABLE IF NOT EXISTS {database}.outcomes_per_minute
(
    minute              DateTime('UTC') CODEC(Delta, ZSTD(1)),
    tenant_id           LowCardinality(String),
    site                LowCardinality(String),
    campaign_id         LowCardinality(String),
    template_id         LowCardinality(String),
    variant             LowCardinality(String),
    priority            LowCardinality(String),
    event_type          LowCardinality(String),
    category            LowCardinality(String),
    outcomes            SimpleAggregateFunction(sum, UInt64),
    size_bytes          SimpleAggregateFunction(sum, UInt64),
    duration_ms         SimpleAggregateFunction(sum, Float64),
    wait_queue_ms       SimpleAggregateFunction(sum, UInt64),
    wait_schedule_ms    SimpleAggregateFunction(sum, UInt64),
    wait_rate_ms        SimpleAggregateFunction(sum, UInt64),
    wait_connection_ms  SimpleAggregateFunction(sum, UInt64),
    wait_retry_ms       SimpleAggregateFunction(sum, UInt64),
    latency_ms          AggregateFunction(quantilesTDigest(0.5, 0.9, 0.99), Float32)
        COMMENT 'event_time - queued_at, of outcomes whose queued_at is known'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (tenant_id, minute, event_type, site, campaign_id, template_id, variant, priority, category)
TTL minute + INTERVAL 800 DAY
SETTINGS
    non_replicated_deduplication_window = 100000,
    ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.outcomes_to_minute TO {database}.outcomes_per_minute AS
SELECT
    toStartOfMinute(toDateTime(event_time, 'UTC')) AS minute,
    tenant_id,
    site,
    campaign_id,
    template_id,
    variant,
    priority,
    event_type,
    category,
    count() AS outcomes,
    sum(o.size_bytes) AS size_bytes,
    sum(toFloat64(o.duration_ms)) AS duration_ms,
    sum(o.wait_queue_ms) AS wait_queue_ms,
    sum(o.wait_schedule_ms) AS wait_schedule_ms,
    sum(o.wait_rate_ms) AS wait_rate_ms,
    sum(o.wait_connection_ms) AS wait_connection_ms,
    sum(o.wait_retry_ms) AS wait_retry_ms,
    quantilesTDigestStateIf(0.5, 0.9, 0.99)(
        toFloat32(dateDiff('millisecond', ifNull(queued_at, event_time), event_time)),
        isNotNull(queued_at)
    ) AS latency_ms
FROM {database}.outcomes AS o
GROUP BY minute, tenant_id, site, campaign_id, template_id, variant, priority, event_type, category;
