-- campaigns: How far each campaign is: what was accepted, where it stands, and when it began and last moved.
--
-- Made of counts of outcomes, so a mail that was delivered twice after doubt is counted twice; mail_state knows each mail.
--
-- @param tenant String = '' | only this tenant's; all when empty
-- @param campaign String = '' | only this campaign; all when empty
-- @param since DateTime = 30d | from this day on
-- @param until DateTime = 0s | up to this day
-- @param limit UInt32 = 25 | campaigns, the last moved first
-- @column tenant - | whose
-- @column campaign - | its id
-- @column composed mails | accepted and composed
-- @column mails mails | composed, suppressed or refused
-- @column delivered mails | taken by their sites
-- @column bounced mails | refused for good
-- @column expired mails | given up after their time
-- @column suppressed mails | not sent, by the suppression list
-- @column rejected mails | refused when read or composed
-- @column waiting mails | composed, and not at an end
-- @column done_percent % | at an end
-- @column delivered_percent % | of those delivered, bounced or expired
-- @column began_at time | first minute, UTC
-- @column moved_at time | last minute, UTC
-- @reads outcomes_per_day
-- @plot campaign done_percent
SELECT
    toString(tenant_id) AS tenant,
    toString(campaign_id) AS campaign,
    sumIf(outcomes, event_type = 'composed') AS composed,
    composed + suppressed + rejected AS mails,
    sumIf(outcomes, event_type = 'delivered') AS delivered,
    sumIf(outcomes, event_type = 'bounced') AS bounced,
    sumIf(outcomes, event_type = 'expired') AS expired,
    sumIf(outcomes, event_type = 'suppressed') AS suppressed,
    sumIf(outcomes, event_type = 'rejected' AND category NOT IN ('duplicate', 'idempotency_conflict')) AS rejected,
    greatest(0, toInt64(composed) - toInt64(delivered + bounced + expired)
        - toInt64(sumIf(outcomes, event_type = 'cancelled' OR (event_type = 'dead' AND site != '')))) AS waiting,
    round(100 * (mails - waiting) / nullIf(mails, 0), 1) AS done_percent,
    round(100 * delivered / nullIf(delivered + bounced + expired, 0), 2) AS delivered_percent,
    min(first_minute) AS began_at,
    max(last_minute) AS moved_at
FROM {database}.outcomes_per_day
WHERE day BETWEEN toDate({since:DateTime('UTC')}) AND toDate({until:DateTime('UTC')})
    AND event_type IN ('composed', 'delivered', 'bounced', 'expired', 'suppressed', 'rejected', 'cancelled', 'dead')
    AND campaign_id != ''
    AND ({tenant:String} = '' OR tenant_id = {tenant:String})
    AND ({campaign:String} = '' OR campaign_id = {campaign:String})
GROUP BY tenant, campaign
ORDER BY moved_at DESC, mails DESC, campaign
LIMIT {limit:UInt32}
