-- What the reports of SMTP TLS reporting (RFC 8460) are made of: sessions per day and domain by policy and result, and which
-- reports were sent.
--
-- tls_sessions of outcomes: JSON, since most outcomes have none, and seven columns of arrays would cost every insert. One
-- outcome in the life of a connection has one, and one more for each attempt at a connection that failed.
--
-- tls_sessions_per_day: successes tell no machines, so that a domain is a handful of rows a day. The domain is a key of its
-- own and stays when a person is erased from outcomes, as it is of no use to the report without.
-- TTL 60 days: a report is made of one day, and told once.

ALTER TABLE {database}.outcomes ADD COLUMN IF NOT EXISTS tls_sessions String CODEC(ZSTD(1))
    COMMENT 'JSON: the TLS sessions begun for this attempt, as tls_sessions_per_day counts them' AFTER tls_cipher;

CREATE TABLE IF NOT EXISTS {database}.tls_sessions_per_day
(
    day                 Date CODEC(Delta, ZSTD(1)),
    domain              String CODEC(ZSTD(1)),
    policy_type         LowCardinality(String) COMMENT 'sts, tlsa or no-policy-found',
    result              LowCardinality(String) COMMENT 'empty: TLS as the policy asks for it; else a result type of RFC 8460',
    sending_ip          LowCardinality(String),
    mx_host             String CODEC(ZSTD(1)),
    receiving_ip        String CODEC(ZSTD(1)),
    reason              String CODEC(ZSTD(1)),
    policy              Array(String) CODEC(ZSTD(1)),
    mx                  Array(String) CODEC(ZSTD(1)),
    sessions            SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (day, domain, policy_type, result, sending_ip, mx_host, receiving_ip, reason, policy, mx)
TTL day + INTERVAL 60 DAY
SETTINGS
    non_replicated_deduplication_window = 100000;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.outcomes_to_tls_sessions TO {database}.tls_sessions_per_day AS
SELECT
    toDate(event_time, 'UTC') AS day,
    toString(recipient_domain) AS domain,
    JSONExtractString(session, 'policy_type') AS policy_type,
    JSONExtractString(session, 'result') AS result,
    JSONExtractString(session, 'sending_ip') AS sending_ip,
    JSONExtractString(session, 'mx_host') AS mx_host,
    JSONExtractString(session, 'receiving_ip') AS receiving_ip,
    JSONExtractString(session, 'reason') AS reason,
    JSONExtract(session, 'policy', 'Array(String)') AS policy,
    JSONExtract(session, 'mx', 'Array(String)') AS mx,
    count() AS sessions
FROM {database}.outcomes AS o
ARRAY JOIN JSONExtractArrayRaw(o.tls_sessions) AS session
WHERE o.tls_sessions != '' AND o.recipient_domain != ''
GROUP BY day, domain, policy_type, result, sending_ip, mx_host, receiving_ip, reason, policy, mx;

CREATE TABLE IF NOT EXISTS {database}.tls_reports_sent
(
    day                 Date COMMENT 'which the report is about',
    domain              String,
    endpoint            String COMMENT 'mailto: or https:, as the domain asks',
    report_id           String,
    message_id          String COMMENT 'of the mail; empty for a POST',
    sessions            UInt64,
    failures            UInt64,
    sent_at             DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(sent_at)
PARTITION BY toYYYYMM(day)
ORDER BY (day, domain, endpoint)
TTL day + INTERVAL 400 DAY;
