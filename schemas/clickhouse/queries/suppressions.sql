-- suppressions: How much mail was not sent because its recipient is on a tenant's suppression list, and why they are on it.
--
-- The list itself is in Kafka (sluice suppress list), and by hashes in ref_suppressions.
--
-- @param tenant String = '' | only this tenant's mail; all when empty
-- @param since DateTime = 7d | from this day on
-- @param until DateTime = 0s | up to this day
-- @param limit UInt32 = 50 | rows
-- @column tenant - | whose list
-- @column reason - | why the recipient is on it
-- @column suppressed mails | not sent
-- @column share_percent % | of all that were not sent
-- @column last_at time | last time, UTC
-- @reads replies_per_day
-- @plot tenant,reason suppressed
SELECT
    toString(tenant_id) AS tenant,
    pattern AS reason,
    sum(outcomes) AS suppressed,
    round(100 * suppressed / sum(suppressed) OVER (), 2) AS share_percent,
    max(r.last_at) AS last_at
FROM {database}.replies_per_day AS r
WHERE day BETWEEN toDate({since:DateTime('UTC')}) AND toDate({until:DateTime('UTC')})
    AND event_type = 'suppressed'
    AND ({tenant:String} = '' OR tenant_id = {tenant:String})
GROUP BY tenant, reason
ORDER BY suppressed DESC, tenant, reason
LIMIT {limit:UInt32}
