-- tenants: Tenants beside one another: volume, deliverability, complaints and speed.
--
-- @param since DateTime = 7d | from this day on
-- @param until DateTime = 0s | up to this day
-- @param limit UInt32 = 50 | tenants, those with the most mail first
-- @column tenant - | its id
-- @column composed mails | accepted and composed
-- @column delivered mails | taken by their sites
-- @column delivered_percent % | of those delivered, bounced or expired
-- @column bounced_percent % | of those delivered, bounced or expired
-- @column complained_percent % | of those delivered
-- @column suppressed mails | not sent, by the suppression list
-- @column deferrals_per_mail times | that a delivered or refused mail was put off
-- @column mean_ms ms | from publishing to the 250
-- @column gigabytes GB | of signed mail delivered
-- @reads outcomes_per_day, waits_per_hour
-- @plot tenant delivered
SELECT
    c.tenant AS tenant,
    composed,
    delivered,
    round(100 * delivered / nullIf(ended, 0), 2) AS delivered_percent,
    round(100 * bounced / nullIf(ended, 0), 2) AS bounced_percent,
    round(100 * complained / nullIf(delivered, 0), 3) AS complained_percent,
    suppressed,
    round(deferrals / nullIf(ended, 0), 3) AS deferrals_per_mail,
    round(w.ms / nullIf(w.n, 0), 1) AS mean_ms,
    round(bytes / 1e9, 2) AS gigabytes
FROM
(
    SELECT
        toString(tenant_id) AS tenant,
        sumIf(outcomes, event_type = 'composed') AS composed,
        sumIf(outcomes, event_type = 'delivered') AS delivered,
        sumIf(outcomes, event_type = 'bounced') AS bounced,
        sumIf(outcomes, event_type IN ('delivered', 'bounced', 'expired')) AS ended,
        sumIf(outcomes, event_type = 'complained') AS complained,
        sumIf(outcomes, event_type = 'suppressed') AS suppressed,
        sumIf(outcomes, event_type = 'deferred') AS deferrals,
        sumIf(size_bytes, event_type = 'delivered') AS bytes
    FROM {database}.outcomes_per_day
    WHERE day BETWEEN toDate({since:DateTime('UTC')}) AND toDate({until:DateTime('UTC')})
    GROUP BY tenant
) AS c
LEFT JOIN
(
    SELECT toString(tenant_id) AS tenant, sum(mails) AS n, sum(milliseconds) AS ms
    FROM {database}.waits_per_hour
    WHERE hour BETWEEN toStartOfDay({since:DateTime('UTC')}) AND {until:DateTime('UTC')} AND reason = 'total'
    GROUP BY tenant
) AS w ON w.tenant = c.tenant
ORDER BY composed DESC, tenant
LIMIT {limit:UInt32}
