-- How long delivered mails took and what they waited for: histograms per hour, tenant, site and priority.
--
-- A histogram is rows, not a state: one row for each bucket that has a mail. Percentiles of any selection are then sums of
-- small integers, exact in their counts, the same in whatever order batches came, and read ten times as fast as digests are
-- merged. The price is a known error: a bucket spans 2^(1/8), so a percentile is off by 4.4 % at most.
--   bucket 0: under 1 ms; bucket b: from 2^((b - 1) / 8) ms to 2^(b / 8) ms; 255 holds what is longer than 45 days
-- Waits of less than 1 ms have no row, but for 'total', which every delivered mail with a known beginning has.
--
-- ORDER BY: as outcomes_per_minute, by tenant and time. PARTITION BY month, dropped whole.

CREATE TABLE IF NOT EXISTS {database}.waits_per_hour
(
    hour                DateTime('UTC') CODEC(Delta, ZSTD(1)),
    tenant_id           LowCardinality(String),
    site                LowCardinality(String),
    priority            LowCardinality(String),
    reason              LowCardinality(String) COMMENT 'total, queue, schedule, rate, connection, retry, or attempt',
    bucket              UInt8 CODEC(ZSTD(1)) COMMENT 'which span of time: see waits_per_hour in the documents',
    mails               SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    milliseconds        SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)) COMMENT 'of all these mails together'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (tenant_id, hour, site, priority, reason, bucket)
TTL hour + INTERVAL 400 DAY
SETTINGS
    non_replicated_deduplication_window = 100000,
    ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.outcomes_to_waits TO {database}.waits_per_hour AS
SELECT
    toStartOfHour(toDateTime(event_time, 'UTC')) AS hour,
    tenant_id,
    site,
    priority,
    tupleElement(wait, 1) AS reason,
    if(tupleElement(wait, 2) < 1, 0, toUInt8(least(255, 1 + floor(8 * log2(tupleElement(wait, 2)))))) AS bucket,
    count() AS mails,
    sum(toUInt64(tupleElement(wait, 2))) AS milliseconds
FROM {database}.outcomes AS o
ARRAY JOIN arrayFilter(w -> tupleElement(w, 2) >= 1 OR (tupleElement(w, 1) = 'total' AND isNotNull(queued_at)), [
    ('total', toUInt64(greatest(0, dateDiff('millisecond', ifNull(queued_at, event_time), event_time)))),
    ('queue', toUInt64(wait_queue_ms)),
    ('schedule', toUInt64(wait_schedule_ms)),
    ('rate', toUInt64(wait_rate_ms)),
    ('connection', toUInt64(wait_connection_ms)),
    ('retry', toUInt64(wait_retry_ms)),
    ('attempt', toUInt64(greatest(0, least(o.duration_ms, 1e12))))
]) AS wait
WHERE event_type = 'delivered'
GROUP BY hour, tenant_id, site, priority, reason, bucket;
