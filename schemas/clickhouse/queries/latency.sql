-- latency: How long delivered mails took from publishing to the 250, and what they waited for.
--
-- One row for each reason of waiting, and one for the whole (total). Percentiles are over all delivered mails, so a reason
-- that few mails wait for has 0 at p50. They come from a histogram, and are off by 4.4 % at most. A part of the total has no
-- reason of its own: between steps, and while outcomes are written.
--
-- @param tenant String = '' | only this tenant's mail; all when empty
-- @param site String = '' | only this site; all when empty
-- @param priority String = '' | high, normal or bulk; all when empty
-- @param since DateTime = 24h | delivered in this hour or later
-- @param until DateTime = 0s | delivered in this hour or before
-- @column reason - | total, queue, schedule, rate, connection, retry, or attempt
-- @column mails mails | that waited for it for a millisecond or more
-- @column p50_ms ms | half of all delivered mails waited no longer
-- @column p90_ms ms | nine in ten
-- @column p99_ms ms | ninety-nine in a hundred
-- @column mean_ms ms | over all delivered mails, exact
-- @column share_percent % | of the time that all delivered mails took together
-- @reads waits_of_all_per_hour, waits_per_hour
-- @plot reason p99_ms
WITH
    buckets AS (
        SELECT a.reason AS reason, bucket, sum(a.mails) AS n, sum(a.milliseconds) AS ms
        FROM {database}.waits_of_all_per_hour AS a
        WHERE {tenant:String} = '' AND {site:String} = ''
            AND hour BETWEEN toStartOfHour({since:DateTime('UTC')}) AND {until:DateTime('UTC')}
            AND ({priority:String} = '' OR priority = {priority:String})
        GROUP BY reason, bucket
        UNION ALL
        SELECT w.reason AS reason, bucket, sum(w.mails) AS n, sum(w.milliseconds) AS ms
        FROM {database}.waits_per_hour AS w
        WHERE ({tenant:String} != '' OR {site:String} != '')
            AND hour BETWEEN toStartOfHour({since:DateTime('UTC')}) AND {until:DateTime('UTC')}
            AND ({tenant:String} = '' OR tenant_id = {tenant:String})
            AND ({site:String} = '' OR site = {site:String})
            AND ({priority:String} = '' OR priority = {priority:String})
        GROUP BY reason, bucket
    ),
    -- Windows rather than subqueries: a name of WITH is read again wherever it is used.
    climbing AS (
        SELECT
            toString(reason) AS reason,
            n,
            ms,
            if(bucket = 0, 0., exp2((bucket - 0.5) / 8)) AS middle,
            sum(n) OVER (PARTITION BY reason ORDER BY bucket DESC) AS at_least,
            sumIf(n, reason = 'total') OVER () AS delivered,
            sumIf(ms, reason = 'total') OVER () AS all_ms
        FROM buckets
    )
SELECT
    reason,
    sum(n) AS mails,
    round(maxIf(middle, at_least > 0.50 * delivered), 1) AS p50_ms,
    round(maxIf(middle, at_least > 0.10 * delivered), 1) AS p90_ms,
    round(maxIf(middle, at_least > 0.01 * delivered), 1) AS p99_ms,
    round(sum(ms) / any(delivered), 1) AS mean_ms,
    round(100 * sum(ms) / nullIf(any(all_ms), 0), 2) AS share_percent
FROM climbing
GROUP BY reason
ORDER BY reason = 'total' DESC, mean_ms DESC, reason
