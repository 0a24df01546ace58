-- Where each mail stands: one row per mail, read from the outcomes themselves, so that it is exact whatever order they
-- came in and however often they were recorded.
--
-- accepted = delivered + bounced + suppressed + rejected + expired + dead + cancelled + waiting, because every mail that has
-- any outcome has exactly one state:
--   delivered   if it was ever delivered (an attempt in doubt that is made again may bounce; the first copy has arrived);
--   rejected    only if it did not get beyond compose: a producer's repeated event may carry the same message_id, and is
--               rejected as a duplicate while the first goes its way;
--   otherwise   its latest final outcome, or waiting when there is none.
--
-- The filter to use is message_id (or tenant_id): it is applied before the grouping. `first_at` and the like are not.

CREATE VIEW IF NOT EXISTS {database}.mail_state AS
SELECT
    tenant_id,
    message_id,
    multiIf(
        countIf(event_type = 'delivered') > 0, 'delivered',
        countIf(event_type IN ('bounced', 'expired', 'cancelled', 'dead', 'suppressed')) > 0,
            argMaxIf(toString(event_type), event_time,
                event_type IN ('bounced', 'expired', 'cancelled', 'dead', 'suppressed')),
        countIf(event_type = 'rejected' AND o.category NOT IN ('duplicate', 'idempotency_conflict')) > 0
            AND countIf(event_type IN ('composed', 'attempted', 'deferred', 'in_doubt', 'held')) = 0, 'rejected',
        countIf(event_type = 'rejected') = count(), 'rejected',
        'waiting'
    ) AS state,
    argMaxIf(toString(o.site), event_time, o.site != '') AS site,
    argMaxIf(toString(o.recipient_domain), event_time, o.recipient_domain != '') AS recipient_domain,
    argMaxIf(toString(o.priority), event_time, o.priority != '') AS priority,
    argMaxIf(toString(o.campaign_id), event_time, o.campaign_id != '') AS campaign_id,
    argMaxIf(toString(o.template_id), event_time, o.template_id != '') AS template_id,
    argMaxIf(toString(o.category), event_time, o.category != '') AS category,
    argMaxIf(o.smtp_code, event_time, o.smtp_code != 0) AS smtp_code,
    max(attempt) AS attempts,
    countIf(event_type = 'deferred') AS deferrals,
    min(o.queued_at) AS queued_at,
    min(event_time) AS first_at,
    max(event_time) AS last_at,
    minIf(toNullable(event_time), event_type = 'delivered') AS delivered_at
FROM {database}.outcomes AS o
GROUP BY tenant_id, message_id;
