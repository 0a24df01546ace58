-- deliverability: How mail fared at each site, day by day.
--
-- Counts what happened on a day, so a mail that is put off today and delivered tomorrow is in both days' rows. Percentages
-- are of mails that came to an end: delivered, bounced or expired.
--
-- @param tenant String = '' | only this tenant's mail; all when empty
-- @param site String = '' | only this site; all when empty
-- @param since DateTime = 7d | from this day on
-- @param until DateTime = 0s | up to this day
-- @param limit UInt32 = 20 | sites for each day, those with the most mail first
-- @column day date | in UTC
-- @column site - | the receiving system
-- @column delivered mails | taken by the site
-- @column bounced mails | refused for good
-- @column expired mails | given up after their time
-- @column deferrals times | that a mail was put off
-- @column delivered_percent % | of those that came to an end
-- @column bounced_percent % | of those that came to an end
-- @reads sites_per_day, outcomes_per_day
-- @plot day,site bounced_percent
SELECT
    day,
    s.name AS site,
    s.n_delivered AS delivered,
    s.n_bounced AS bounced,
    s.n_expired AS expired,
    s.n_deferred AS deferrals,
    round(100 * delivered / nullIf(delivered + bounced + expired, 0), 2) AS delivered_percent,
    round(100 * bounced / nullIf(delivered + bounced + expired, 0), 2) AS bounced_percent
FROM
(
    -- Ranked where it is grouped: days come in the table's order there, and are sorted one at a time.
    SELECT
        day,
        a.site AS name,
        sum(a.delivered) AS n_delivered,
        sum(a.bounced) AS n_bounced,
        sum(a.expired) AS n_expired,
        sum(a.deferred) AS n_deferred
    FROM {database}.sites_per_day AS a
    WHERE {tenant:String} = ''
        AND day BETWEEN toDate({since:DateTime('UTC')}) AND toDate({until:DateTime('UTC')})
        AND ({site:String} = '' OR a.site = {site:String})
    GROUP BY day, name
    HAVING n_delivered + n_bounced + n_expired + n_deferred > 0
    ORDER BY day, n_delivered + n_bounced + n_expired + n_deferred DESC, name
    LIMIT {limit:UInt32} BY day
    UNION ALL
    SELECT
        day,
        d.site AS name,
        sumIf(d.outcomes, event_type = 'delivered') AS n_delivered,
        sumIf(d.outcomes, event_type = 'bounced') AS n_bounced,
        sumIf(d.outcomes, event_type = 'expired') AS n_expired,
        sumIf(d.outcomes, event_type = 'deferred') AS n_deferred
    FROM {database}.outcomes_per_day AS d
    WHERE {tenant:String} != '' AND tenant_id = {tenant:String}
        AND day BETWEEN toDate({since:DateTime('UTC')}) AND toDate({until:DateTime('UTC')})
        AND event_type IN ('delivered', 'bounced', 'expired', 'deferred')
        AND (({site:String} = '' AND d.site != '') OR d.site = {site:String})
    GROUP BY day, name
    ORDER BY day, n_delivered + n_bounced + n_expired + n_deferred DESC, name
    LIMIT {limit:UInt32} BY day
) AS s
ORDER BY day, delivered + bounced + expired + deferrals DESC, site
SETTINGS optimize_aggregation_in_order = 1
