-- backlogs: How much mail waits for each site, and when it will be gone at the rate of the last minutes.
--
-- Waiting is what was composed since a day and has come to no end. The rates are those that were reached, within all limits
-- and after all refusals, over the last whole minutes; where nothing moved in these, over the longer span. A site that is
-- held back now and let go later drains sooner: best_per_minute is what it took at its best.
--
-- @param tenant String = '' | only this tenant's mail; all when empty
-- @param site String = '' | only this site; all when empty
-- @param since DateTime = 14d | composed on this day or later
-- @param until DateTime = 0s | as it stood at this moment
-- @param recent UInt32 = 10 | whole minutes over which the rates are taken
-- @param minutes UInt32 = 60 | the longer span, where nothing moved in the recent ones, and for the best minute
-- @param limit UInt32 = 25 | sites, the largest backlog first
-- @column site - | the receiving system
-- @column waiting mails | composed, and not at an end
-- @column ended_per_minute mails/min | delivered, bounced or expired
-- @column came_per_minute mails/min | composed
-- @column best_per_minute mails/min | that came to an end in the best minute of the longer span
-- @column drains_at time | when nothing waits any more, mail going on to come as it did; empty: never, at this rate
-- @column drains_in_minutes min | the same, from that moment on
-- @column alone_in_minutes min | if no more mail came; empty: never, nothing moves
-- @column at_best_minutes min | if no more mail came, and each minute were as the best
-- @reads sites_per_day, outcomes_per_day, outcomes_per_minute
-- @plot site waiting
SELECT
    b.name AS site,
    b.backlog AS waiting,
    round(r.ended, 2) AS ended_per_minute,
    round(r.came, 2) AS came_per_minute,
    r.best AS best_per_minute,
    if(r.ended > r.came, {until:DateTime('UTC')} + toIntervalMinute(toUInt32(least(5e6, drains_in_minutes))), NULL) AS drains_at,
    if(r.ended > r.came, round(waiting / (r.ended - r.came), 1), NULL) AS drains_in_minutes,
    if(r.ended > 0, round(waiting / r.ended, 1), NULL) AS alone_in_minutes,
    if(r.best > 0, round(waiting / r.best, 1), NULL) AS at_best_minutes
FROM
(
    SELECT s.of_site AS name, sum(s.n_composed) - sum(s.n_ended) AS backlog
    FROM
    (
        SELECT toString(site) AS of_site, toInt64(composed) AS n_composed, toInt64(ended) AS n_ended
        FROM {database}.sites_per_day
        WHERE {tenant:String} = ''
            AND day BETWEEN toDate({since:DateTime('UTC')}) AND toDate({until:DateTime('UTC')})
            AND ({site:String} = '' OR site = {site:String})
        UNION ALL
        SELECT
            toString(d.site) AS of_site,
            toInt64(sumIf(outcomes, event_type = 'composed')) AS n_composed,
            toInt64(sumIf(outcomes, event_type != 'composed')) AS n_ended
        FROM {database}.outcomes_per_day AS d
        WHERE {tenant:String} != '' AND tenant_id = {tenant:String}
            AND day BETWEEN toDate({since:DateTime('UTC')}) AND toDate({until:DateTime('UTC')})
            AND event_type IN ('composed', 'delivered', 'bounced', 'expired', 'cancelled', 'dead')
            AND d.site != ''
            AND ({site:String} = '' OR d.site = {site:String})
        GROUP BY of_site
    ) AS s
    GROUP BY name
    HAVING backlog > 0
) AS b
LEFT JOIN
(
    SELECT
        m.of_site AS name,
        sumIf(m.n_ended, m.is_recent) + sumIf(m.n_came, m.is_recent) > 0 AS moves,
        if(moves, sumIf(m.n_ended, m.is_recent) / {recent:UInt32}, sum(m.n_ended) / {minutes:UInt32}) AS ended,
        if(moves, sumIf(m.n_came, m.is_recent) / {recent:UInt32}, sum(m.n_came) / {minutes:UInt32}) AS came,
        max(m.n_ended) AS best
    FROM
    (
        SELECT
            toString(p.site) AS of_site,
            minute >= toStartOfMinute({until:DateTime('UTC')}) - toIntervalMinute({recent:UInt32}) AS is_recent,
            sumIf(outcomes, event_type IN ('delivered', 'bounced', 'expired')) AS n_ended,
            sumIf(outcomes, event_type = 'composed') AS n_came
        FROM {database}.outcomes_per_minute AS p
        WHERE minute >= toStartOfMinute({until:DateTime('UTC')}) - toIntervalMinute(greatest({recent:UInt32}, {minutes:UInt32}))
            AND minute < toStartOfMinute({until:DateTime('UTC')})
            AND event_type IN ('composed', 'delivered', 'bounced', 'expired')
            AND ({tenant:String} = '' OR tenant_id = {tenant:String})
            AND ({site:String} = '' OR p.site = {site:String})
        GROUP BY of_site, minute
    ) AS m
    GROUP BY name
) AS r ON r.name = b.name
ORDER BY waiting DESC, site
LIMIT {limit:UInt32}
