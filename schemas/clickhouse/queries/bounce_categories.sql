-- bounce_categories: Why mail was refused for good, by category.
--
-- @param tenant String = '' | only this tenant's mail; all when empty
-- @param site String = '' | only this site; all when empty
-- @param campaign String = '' | only this campaign; all when empty
-- @param since DateTime = 7d | from this day on
-- @param until DateTime = 0s | up to this day
-- @column category - | of rules/bounces.toml
-- @column bounced mails | refused for this
-- @column share_percent % | of all that were refused
-- @column of_ended_percent % | of all that were delivered, refused or expired
-- @column top_site - | where it happens most
-- @reads outcomes_per_day
-- @plot category bounced
WITH counts AS (
    SELECT
        event_type,
        category,
        if(event_type = 'bounced', d.site, '') AS of_site,
        sum(outcomes) AS n,
        sum(n) OVER () AS ended
    FROM {database}.outcomes_per_day AS d
    WHERE day BETWEEN toDate({since:DateTime('UTC')}) AND toDate({until:DateTime('UTC')})
        AND event_type IN ('delivered', 'bounced', 'expired')
        AND ({tenant:String} = '' OR tenant_id = {tenant:String})
        AND ({site:String} = '' OR d.site = {site:String})
        AND ({campaign:String} = '' OR campaign_id = {campaign:String})
    GROUP BY event_type, category, of_site
)
SELECT
    toString(category) AS category,
    sum(n) AS bounced,
    round(100 * bounced / sum(bounced) OVER (), 2) AS share_percent,
    round(100 * bounced / any(ended), 3) AS of_ended_percent,
    toString(argMax(of_site, n)) AS top_site
FROM counts
WHERE event_type = 'bounced'
GROUP BY category
ORDER BY bounced DESC, category
