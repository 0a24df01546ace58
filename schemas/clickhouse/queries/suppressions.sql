-- suppressions: How much mail was not sent because its recipient is on a tenant's suppression list, and why they are on it.
--
-- The list itself is in Kafka: sluice suppress list.
--
-- @param tenant String = '' | only this tenant's mail; all when empty
-- @param campaign String = '' | only this campaign; all when empty
-- @param since DateTime = 7d | from this hour on
-- @param until DateTime = 0s | up to this moment
-- @param limit UInt32 = 50 | rows
-- @column tenant - | whose list
-- @column reason - | why the recipient is on it
-- @column stream - | transactional or broadcast
-- @column suppressed mails | not sent
-- @column recipients people | that this concerns, about
-- @column last_at time | last time, UTC
-- @reads outcomes
-- @plot tenant,reason suppressed
SELECT
    toString(tenant_id) AS tenant,
    o.reason AS reason,
    toString(o.stream) AS stream,
    uniq(message_id) AS suppressed,
    uniq(recipient_hash) AS recipients,
    max(toDateTime(event_time, 'UTC')) AS last_at
FROM {database}.outcomes AS o
WHERE toStartOfHour(event_time) >= toStartOfHour({since:DateTime('UTC')}) AND event_time <= {until:DateTime('UTC')}
    AND event_type = 'suppressed'
    AND ({tenant:String} = '' OR tenant_id = {tenant:String})
    AND ({campaign:String} = '' OR campaign_id = {campaign:String})
GROUP BY tenant, reason, stream
ORDER BY suppressed DESC, tenant, reason
LIMIT {limit:UInt32}
