-- How many different mails of each variant of a test were sent, delivered, opened and so on, per day.
--
-- Mails, not events: somebody opens a mail twice, and a proportion of mails must not pass one. uniqCombined64 is exact for
-- small sets and off by 0.3 % beyond, well within the interval that the comparison states.
-- Mails of no variant write nothing here.
-- ORDER BY: a comparison asks for one campaign. PARTITION BY month, dropped whole.

CREATE TABLE IF NOT EXISTS {database}.variant_mails
(
    day                 Date CODEC(Delta, ZSTD(1)),
    tenant_id           LowCardinality(String),
    campaign_id         LowCardinality(String),
    template_id         LowCardinality(String),
    variant             LowCardinality(String),
    event_type          LowCardinality(String),
    mails               AggregateFunction(uniqCombined64, String) COMMENT 'read it with uniqCombined64Merge'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (tenant_id, campaign_id, template_id, variant, event_type, day)
TTL day + INTERVAL 400 DAY
SETTINGS
    non_replicated_deduplication_window = 100000,
    ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.outcomes_to_variants TO {database}.variant_mails AS
SELECT
    toDate(event_time, 'UTC') AS day,
    tenant_id,
    campaign_id,
    template_id,
    variant,
    event_type,
    uniqCombined64State(message_id) AS mails
FROM {database}.outcomes
WHERE variant != '' AND campaign_id != ''
GROUP BY day, tenant_id, campaign_id, template_id, variant, event_type;
