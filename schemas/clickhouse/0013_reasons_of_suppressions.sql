-- Why mail was suppressed joins what servers said, in replies_per_day: both are sentences for which a mail was not delivered.
-- The reason is taken as it is. A rollup of its own would cost every insert another view; asking outcomes took seconds.
--
-- Making the view anew fills its table again from outcomes, replies included.

DROP VIEW IF EXISTS {database}.outcomes_to_replies;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.outcomes_to_replies_and_reasons TO {database}.replies_per_day AS
SELECT
    toDate(event_time, 'UTC') AS day,
    tenant_id,
    site,
    event_type,
    category,
    rule,
    smtp_code,
    smtp_enhanced,
    smtp_phase,
    if(event_type = 'suppressed', leftUTF8(o.reason, 240), leftUTF8(trimBoth(replaceRegexpAll(replaceRegexpAll(replaceRegexpAll(replaceRegexpAll(replaceRegexpAll(
        leftUTF8(o.smtp_text, 1000),
        '\\b[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{0,4}){2,7}', '#'),
        '\\b[0-9]+(?:[.:,][0-9]+)*\\b', '#'),
        '\\b[A-Za-z-]*[0-9][A-Za-z0-9-]*(?:\\.[A-Za-z0-9-]+){2,}', '<host>'),
        '\\b(?:[A-Za-z0-9_+-]{7,}[0-9][A-Za-z0-9_+-]*|[A-Za-z0-9_+-]*[0-9][A-Za-z0-9_+-]{7,}|[A-Za-z0-9_+-]{3,}[0-9][A-Za-z0-9_+-]{4,})', '<id>'),
        '\\s+', ' ')), 240)) AS pattern,
    count() AS outcomes,
    max(toDateTime(event_time, 'UTC')) AS last_at
FROM {database}.outcomes AS o
WHERE smtp_code >= 400 OR event_type = 'suppressed'
GROUP BY day, tenant_id, site, event_type, category, rule, smtp_code, smtp_enhanced, smtp_phase, pattern;
