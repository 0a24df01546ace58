-- backlogs: How much mail waits for each site, and when it will be gone at the rate of the last hour.
--
-- Waiting is what was composed since a day and has come to no end. The rates are those that were reached, within all limits
-- and after all refusals; a site that is held back now and let go later drains sooner.
--
-- @param tenant String = '' | only this tenant's mail; all when empty
-- @param site String = '' | only this site; all when empty
-- @param since DateTime = 14d | composed on this day or later
-- @param until DateTime = 0s | as it stood at this moment
-- @param minutes UInt32 = 60 | over which the rates are taken
-- @param limit UInt32 = 25 | sites, the largest backlog first
-- @column site - | the receiving system
-- @column waiting mails | composed, and not at an end
-- @column ended_per_minute mails/min | delivered, bounced or expired
-- @column came_per_minute mails/min | composed
-- @column drains_at time | when nothing waits any more, mail going on to come as it did; empty: never, at this rate
-- @column drains_in_minutes min | the same, from that moment on
-- @column alone_in_minutes min | if no more mail came; empty: never, nothing moves
-- @reads outcomes_per_day, outcomes_per_minute
-- @plot site waiting
SELECT
    b.name AS site,
    b.backlog AS waiting,
    round(r.ended / {minutes:UInt32}, 2) AS ended_per_minute,
    round(r.came / {minutes:UInt32}, 2) AS came_per_minute,
    if(ended > came, {until:DateTime('UTC')} + toIntervalMinute(toUInt32(least(5e6, drains_in_minutes))), NULL) AS drains_at,
    if(ended > came, round(waiting / (ended - came) * {minutes:UInt32}, 1), NULL) AS drains_in_minutes,
    if(ended > 0, round(waiting / ended * {minutes:UInt32}, 1), NULL) AS alone_in_minutes
FROM
(
    SELECT
        toString(d.site) AS name,
        toInt64(sumIf(outcomes, event_type = 'composed')) - toInt64(sumIf(outcomes, event_type != 'composed')) AS backlog
    FROM {database}.outcomes_per_day AS d
    WHERE day BETWEEN toDate({since:DateTime('UTC')}) AND toDate({until:DateTime('UTC')})
        AND event_type IN ('composed', 'delivered', 'bounced', 'expired', 'cancelled', 'dead')
        AND d.site != ''
        AND ({tenant:String} = '' OR tenant_id = {tenant:String})
        AND ({site:String} = '' OR d.site = {site:String})
    GROUP BY name
    HAVING backlog > 0
) AS b
LEFT JOIN
(
    SELECT
        toString(m.site) AS name,
        sumIf(outcomes, event_type IN ('delivered', 'bounced', 'expired')) AS ended,
        sumIf(outcomes, event_type = 'composed') AS came
    FROM {database}.outcomes_per_minute AS m
    WHERE minute > {until:DateTime('UTC')} - toIntervalMinute({minutes:UInt32}) AND minute <= {until:DateTime('UTC')}
        AND event_type IN ('composed', 'delivered', 'bounced', 'expired')
        AND ({tenant:String} = '' OR tenant_id = {tenant:String})
    GROUP BY name
) AS r ON r.name = b.name
ORDER BY waiting DESC, site
LIMIT {limit:UInt32}
