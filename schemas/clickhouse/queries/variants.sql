-- variants: The variants of a test beside one another, each with its interval of confidence.
--
-- Of how many mails something is so, as a percentage: delivered, bounced or deferred of those composed; opened, clicked,
-- complained, unsubscribed of those delivered. The interval is Wilson's, which holds for small numbers and near 0 and 100 %
-- too. p_value is that of the two-sided z-test of two proportions against the control: under 0.05, such a difference comes
-- by chance less than once in twenty. Many variants, or looking again and again, make chance findings likelier.
-- Counts of more than some ten thousand mails are estimates, off by 0.3 %.
--
-- @param campaign String | the campaign with variants
-- @param tenant String = '' | whose; needed when two tenants use the same id
-- @param metric String = 'delivered' | what is compared: the type of an outcome
-- @param control String = '' | the variant that others are compared with; the first by name when empty
-- @param confidence Float64 = 0.95 | of the interval, between 0.5 and 0.999
-- @param since DateTime = 90d | from this day on
-- @column variant - | its name
-- @column mails mails | that it is a percentage of
-- @column reached mails | of them, with the outcome that is compared
-- @column percent % | reached of mails
-- @column low_percent % | lower end of the interval
-- @column high_percent % | upper end of the interval
-- @column difference % | points above the control; empty for the control itself
-- @column p_value - | of that difference; empty for the control itself
-- @reads variant_mails
-- @plot variant percent
WITH
    sqrt(-2 * log((1 - greatest(0.5, least(0.999, {confidence:Float64}))) / 2)) AS t,
    t - (2.515517 + 0.802853 * t + 0.010328 * t * t) / (1 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t * t * t) AS z,
    if({metric:String} IN ('delivered', 'bounced', 'deferred', 'expired', 'in_doubt'), 'composed', 'delivered') AS base,
    counts AS (
        SELECT
            toString(variant) AS name,
            toFloat64(uniqCombined64MergeIf(v.mails, event_type = base)) AS n,
            least(n, toFloat64(uniqCombined64MergeIf(v.mails, event_type = {metric:String}))) AS x
        FROM {database}.variant_mails AS v
        WHERE campaign_id = {campaign:String} AND day >= toDate({since:DateTime('UTC')})
            AND ({tenant:String} = '' OR tenant_id = {tenant:String})
        GROUP BY name
        HAVING n > 0
    ),
    (SELECT argMin((name, n, x), (name != {control:String}, name)) FROM counts) AS reference,
    tupleElement(reference, 2) AS n0,
    tupleElement(reference, 3) AS x0
SELECT
    name AS variant,
    toUInt64(n) AS mails,
    toUInt64(x) AS reached,
    round(100 * x / n, 3) AS percent,
    round(100 * (x + z * z / 2 - z * sqrt(x * (n - x) / n + z * z / 4)) / (n + z * z), 3) AS low_percent,
    round(100 * (x + z * z / 2 + z * sqrt(x * (n - x) / n + z * z / 4)) / (n + z * z), 3) AS high_percent,
    if(name = tupleElement(reference, 1), NULL, round(100 * (x / n - x0 / n0), 3)) AS difference,
    if(name = tupleElement(reference, 1), NULL, round(
        if((x + x0) * (n + n0 - x - x0) = 0, 1., erfc(abs(x / n - x0 / n0)
            / sqrt((x + x0) / (n + n0) * (1 - (x + x0) / (n + n0)) * (1 / n + 1 / n0)) / sqrt(2))), 6)) AS p_value
FROM counts
ORDER BY variant
