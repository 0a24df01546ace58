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
-- @reads outcomes_per_day
-- @plot day,site bounced_percent
SELECT
    day,
    d.site AS site,
    sumIf(outcomes, event_type = 'delivered') AS delivered,
    sumIf(outcomes, event_type = 'bounced') AS bounced,
    sumIf(outcomes, event_type = 'expired') AS expired,
    sumIf(outcomes, event_type = 'deferred') AS deferrals,
    round(100 * delivered / nullIf(delivered + bounced + expired, 0), 2) AS delivered_percent,
    round(100 * bounced / nullIf(delivered + bounced + expired, 0), 2) AS bounced_percent
FROM {database}.outcomes_per_day AS d
WHERE day BETWEEN toDate({since:DateTime('UTC')}) AND toDate({until:DateTime('UTC')})
    AND event_type IN ('delivered', 'bounced', 'expired', 'deferred')
    AND ({tenant:String} = '' OR tenant_id = {tenant:String})
    AND (({site:String} = '' AND d.site != '') OR d.site = {site:String})
GROUP BY day, site
ORDER BY day, delivered + bounced + expired + deferrals DESC, site
LIMIT {limit:UInt32} BY day
