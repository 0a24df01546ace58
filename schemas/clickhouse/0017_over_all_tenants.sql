-- Two questions that are asked of all tenants at once: how mail fares at each site, and how long it takes.
--
-- outcomes_per_day and waits_per_hour can answer both, and do for one tenant, whose rows lie together. For all tenants they are
-- long: most of their rows are of one mail, since they are kept apart by tenant, template, variant or site. Over a month of
-- 100 million outcomes sites_per_day has a twentieth of the rows, and waits_of_all_per_hour a hundredth.
--
-- sites_per_day: a column for each kind of outcome rather than a row, so that one row is all that is known of a site on a day.
-- `ended` holds cancelled and dead mails as well. ORDER BY: the day first, since every question is about some.
--
-- Both are fed by the rollups that they shorten, whose blocks are a fraction of the outcomes'.

CREATE TABLE IF NOT EXISTS {database}.sites_per_day
(
    day                 Date CODEC(Delta, ZSTD(1)),
    site                LowCardinality(String),
    composed            SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    delivered           SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    bounced             SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    expired             SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    deferred            SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)) COMMENT 'times, not mails',
    ended               SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1))
        COMMENT 'delivered, bounced, expired, cancelled or dead'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (day, site)
TTL day + INTERVAL 800 DAY
SETTINGS
    non_replicated_deduplication_window = 100000,
    ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.day_to_sites TO {database}.sites_per_day AS
SELECT
    day,
    site,
    sumIf(d.outcomes, event_type = 'composed') AS composed,
    sumIf(d.outcomes, event_type = 'delivered') AS delivered,
    sumIf(d.outcomes, event_type = 'bounced') AS bounced,
    sumIf(d.outcomes, event_type = 'expired') AS expired,
    sumIf(d.outcomes, event_type = 'deferred') AS deferred,
    sumIf(d.outcomes, event_type IN ('delivered', 'bounced', 'expired', 'cancelled', 'dead')) AS ended
FROM {database}.outcomes_per_day AS d
WHERE site != '' AND event_type IN ('composed', 'delivered', 'bounced', 'expired', 'deferred', 'cancelled', 'dead')
GROUP BY day, site;

CREATE TABLE IF NOT EXISTS {database}.waits_of_all_per_hour
(
    hour                DateTime('UTC') CODEC(Delta, ZSTD(1)),
    priority            LowCardinality(String),
    reason              LowCardinality(String) COMMENT 'as in waits_per_hour',
    bucket              UInt8 CODEC(ZSTD(1)) COMMENT 'as in waits_per_hour',
    mails               SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    milliseconds        SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)) COMMENT 'of all these mails together'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, priority, reason, bucket)
TTL hour + INTERVAL 400 DAY
SETTINGS
    non_replicated_deduplication_window = 100000,
    ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.waits_to_waits_of_all TO {database}.waits_of_all_per_hour AS
SELECT
    hour,
    priority,
    reason,
    bucket,
    sum(w.mails) AS mails,
    sum(w.milliseconds) AS milliseconds
FROM {database}.waits_per_hour AS w
GROUP BY hour, priority, reason, bucket;
