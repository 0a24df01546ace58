-- deferral_replies: What servers say when they put mail off, the commonest first.
--
-- What varies in a reply (numbers, ids, hosts, addresses) is replaced, so that one sentence is one row.
--
-- @param tenant String = '' | only this tenant's mail; all when empty
-- @param site String = '' | only this site; all when empty
-- @param since DateTime = 7d | from this day on
-- @param until DateTime = 0s | up to this day
-- @param limit UInt32 = 25 | rows
-- @column site - | the receiving system
-- @column smtp_code - | of the reply
-- @column smtp_enhanced - | of the reply
-- @column category - | what the rule makes of it
-- @column rule - | the rule that decided
-- @column reply - | its pattern
-- @column times times | that it was said
-- @column share_percent % | of all deferrals with a reply
-- @column last_at time | last time, UTC
-- @reads replies_per_day
-- @plot reply times
SELECT
    r.site AS site,
    smtp_code,
    toString(r.smtp_enhanced) AS smtp_enhanced,
    toString(r.category) AS category,
    toString(r.rule) AS rule,
    pattern AS reply,
    sum(outcomes) AS times,
    round(100 * times / sum(times) OVER (), 2) AS share_percent,
    max(r.last_at) AS last_at
FROM {database}.replies_per_day AS r
WHERE day BETWEEN toDate({since:DateTime('UTC')}) AND toDate({until:DateTime('UTC')})
    AND event_type = 'deferred'
    AND ({tenant:String} = '' OR tenant_id = {tenant:String})
    AND ({site:String} = '' OR r.site = {site:String})
GROUP BY site, smtp_code, smtp_enhanced, category, rule, reply
ORDER BY times DESC, site, reply
LIMIT {limit:UInt32}
