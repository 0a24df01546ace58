-- How long a tenant's outcomes are kept, where that is shorter than what is kept for all: `sluice schema retention` writes it
-- here, and makes TTL rules of it for outcomes, mails and recipients.
--
-- TTL rules with a condition on tenant_id, rather than a number of days in every row: a change holds for what is stored
-- already, and SHOW CREATE TABLE says what is in force. ClickHouse takes no dictionary in a TTL.
--
-- outcomes: what expires goes by months (14 whole ones, so 13 to 14 months are kept), which drops partitions at once even
-- where rows of single tenants are taken out of parts before. `ttl_only_drop_parts` is turned off with the first such tenant.

CREATE TABLE IF NOT EXISTS {database}.tenant_retention
(
    tenant_id           String,
    days                UInt16 COMMENT '0: as all others',
    set_at              DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),
    set_by              String
)
ENGINE = ReplacingMergeTree(set_at)
ORDER BY tenant_id;

-- The ledger: every attempt, and what is known of its end. An attempt that began and has no end is the one to ask about
-- when a worker was killed. Give it a tenant and a span of time, or a message_id.
CREATE VIEW IF NOT EXISTS {database}.attempts AS
SELECT
    tenant_id,
    message_id,
    attempt,
    minIf(toNullable(event_time), event_type = 'attempted') AS began_at,
    maxIf(toNullable(event_time), event_type IN ('delivered', 'deferred', 'bounced', 'in_doubt')) AS ended_at,
    argMaxIf(toString(event_type), event_time, event_type IN ('delivered', 'deferred', 'bounced', 'in_doubt')) AS end,
    argMaxIf(toString(o.site), event_time, o.site != '') AS site,
    argMaxIf(toString(o.mx_host), event_time, o.mx_host != '') AS mx_host,
    argMaxIf(toString(o.egress), event_time, o.egress != '') AS egress,
    argMaxIf(o.smtp_code, event_time, o.smtp_code != 0) AS smtp_code,
    argMaxIf(toString(o.category), event_time, o.category != '') AS category,
    max(o.duration_ms) AS duration_ms
FROM {database}.outcomes AS o
WHERE attempt > 0
GROUP BY tenant_id, message_id, attempt
HAVING countIf(event_type = 'attempted') > 0 OR end != '';

ALTER TABLE {database}.outcomes MODIFY TTL toStartOfMonth(toDateTime(event_time)) + INTERVAL 14 MONTH;
