-- unknown_replies: Replies that no rule knows, alike ones together, so that rules can be written for them.
--
-- Such a reply is judged by its code alone (rules fallback.*). What varies in it is replaced, and replies that are then the
-- same are one row, over all sites.
--
-- @param tenant String = '' | only this tenant's mail; all when empty
-- @param site String = '' | only this site; all when empty
-- @param since DateTime = 30d | from this day on
-- @param until DateTime = 0s | up to this day
-- @param limit UInt32 = 25 | rows
-- @column reply - | its pattern
-- @column smtp_code - | of the reply, the commonest
-- @column smtp_enhanced - | of the reply, the commonest
-- @column phase - | which command it answered, the commonest
-- @column times times | that it was said
-- @column sites sites | that said it
-- @column top_sites - | up to three that said it most
-- @column bounced_percent % | of these mails that were given up for it
-- @column first_day date | UTC
-- @column last_at time | UTC
-- @reads replies_per_day
-- @plot reply times
SELECT
    pattern AS reply,
    topKWeighted(1)(smtp_code, outcomes)[1] AS smtp_code,
    topKWeighted(1)(toString(r.smtp_enhanced), outcomes)[1] AS smtp_enhanced,
    topKWeighted(1)(toString(smtp_phase), outcomes)[1] AS phase,
    sum(outcomes) AS times,
    uniq(r.site) AS sites,
    arrayStringConcat(topKWeighted(3)(toString(r.site), outcomes), ', ') AS top_sites,
    round(100 * sumIf(outcomes, event_type = 'bounced') / times, 1) AS bounced_percent,
    min(day) AS first_day,
    max(r.last_at) AS last_at
FROM {database}.replies_per_day AS r
WHERE day BETWEEN toDate({since:DateTime('UTC')}) AND toDate({until:DateTime('UTC')})
    AND startsWith(rule, 'fallback.')
    AND ({tenant:String} = '' OR tenant_id = {tenant:String})
    AND ({site:String} = '' OR r.site = {site:String})
GROUP BY reply
ORDER BY times DESC, reply
LIMIT {limit:UInt32}
