-- What servers said when they did not take a mail, per day, as patterns: what is an id, a number, an address or a host in a
-- reply is replaced, so that the same sentence is one row however often it was said.
--
-- Only failures are read, so this costs an insert little. Replies that are unique in spite of this are a row each, which
-- is no more than the failures themselves.
-- TTL 90 days: a reply may quote a name, which no erasure could find here.
-- ORDER BY: by tenant and time, then what the questions group by; the pattern last, since it is the longest.

CREATE TABLE IF NOT EXISTS {database}.replies_per_day
(
    day                 Date CODEC(Delta, ZSTD(1)),
    tenant_id           LowCardinality(String),
    site                LowCardinality(String),
    event_type          LowCardinality(String),
    category            LowCardinality(String),
    rule                LowCardinality(String),
    smtp_code           UInt16 CODEC(ZSTD(1)),
    smtp_enhanced       LowCardinality(String),
    smtp_phase          LowCardinality(String),
    pattern             String CODEC(ZSTD(1)) COMMENT 'the reply, what varies in it replaced; at most 240 characters',
    outcomes            SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    last_at             SimpleAggregateFunction(max, DateTime('UTC')) CODEC(Delta, ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (tenant_id, day, site, event_type, category, rule, smtp_code, smtp_enhanced, smtp_phase, pattern)
TTL day + INTERVAL 90 DAY
SETTINGS
    non_replicated_deduplication_window = 100000,
    ttl_only_drop_parts = 1;

-- Numbers and addresses of machines first, then host names that begin with a numbered label, then tokens of eight or more
-- characters with a digit in them, which are ids of queues and sessions; then blanks.
CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.outcomes_to_replies TO {database}.replies_per_day AS
SELECT
    toDate(event_time, 'UTC') AS day,
    tenant_id,
    site,
    event_type,
    category,
    rule,
    smtp_code,
    smtp_enhanced,
    smtp_phase,
    leftUTF8(trimBoth(replaceRegexpAll(replaceRegexpAll(replaceRegexpAll(replaceRegexpAll(replaceRegexpAll(
        leftUTF8(o.smtp_text, 1000),
        '\\b[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{0,4}){2,7}', '#'),
        '\\b[0-9]+(?:[.:,][0-9]+)*\\b', '#'),
        '\\b[A-Za-z-]*[0-9][A-Za-z0-9-]*(?:\\.[A-Za-z0-9-]+){2,}', '<host>'),
        '\\b(?:[A-Za-z0-9_+-]{7,}[0-9][A-Za-z0-9_+-]*|[A-Za-z0-9_+-]*[0-9][A-Za-z0-9_+-]{7,}|[A-Za-z0-9_+-]{3,}[0-9][A-Za-z0-9_+-]{4,})', '<id>'),
        '\\s+', ' ')), 240) AS pattern,
    count() AS outcomes,
    max(toDateTime(event_time, 'UTC')) AS last_at
FROM {database}.outcomes AS o
WHERE smtp_code >= 400
GROUP BY day, tenant_id, site, event_type, category, rule, smtp_code, smtp_enhanced, smtp_phase, pattern;
