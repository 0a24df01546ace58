-- Where each mail stands, kept up to date as outcomes come: mail_state reads this and no longer groups all outcomes.
-- What was recorded before is filled in when this is applied.
--
-- AggregatingMergeTree: each outcome brings a row, and rows of one mail are folded by merges, or by FINAL where merges have
-- not come yet. Every column folds by a function that does not care about order, so late and repeated outcomes change
-- nothing. All are simple functions, because FINAL then gives plain values, and reads only the columns that are asked for:
-- measured three times as fast as GROUP BY over the same rows, in memory that does not grow with the mails.
--
-- "The latest that is not empty" is the largest of (time, value): argMax would need a state that FINAL cannot show plainly.
--
-- No PARTITION BY: outcomes of one mail come in different months, and a condition on a time would then drop the partition
-- that holds its end.
-- ORDER BY: a tenant's mails lie together, in the order of their UUIDv7, which is that of time. A single message_id is found
-- without its tenant as well, since tenants are few.
-- TTL: whole months, so that a part is rewritten once a month and not with every row that comes of age.
--
-- happened has a bit for each type of outcome, in the order of the contract: rejected 1, suppressed 2, scheduled 3, composed
-- 4, attempted 5, delivered 6, deferred 7, bounced 8, expired 9, cancelled 10, in_doubt 11, held 12, dead 13, redriven 14,
-- opened 15, clicked 16, complained 17, unsubscribed 18, bounced_later 19, accepted 20; types unknown here 0; and 21 for a
-- rejection that is not of a repeat.
-- ended is the latest final outcome but for delivered and rejected: milliseconds since the epoch, times 8, plus 1 bounced,
-- 2 expired, 3 cancelled, 4 dead, 5 suppressed; 0 for none. A number, since its maximum is the cheapest to keep.

CREATE TABLE IF NOT EXISTS {database}.mails
(
    tenant_id           LowCardinality(String),
    message_id          String CODEC(ZSTD(1)),
    happened            SimpleAggregateFunction(groupBitOr, UInt32) COMMENT 'a bit for each type of outcome',
    ended               SimpleAggregateFunction(max, UInt64) CODEC(ZSTD(1)) COMMENT 'milliseconds * 8 + which final outcome; 0: none',
    site                SimpleAggregateFunction(max, Tuple(DateTime64(3, 'UTC'), String)) CODEC(ZSTD(1)) COMMENT 'latest, with its time',
    category            SimpleAggregateFunction(max, Tuple(DateTime64(3, 'UTC'), String)) CODEC(ZSTD(1)) COMMENT 'latest, with its time',
    smtp_code           SimpleAggregateFunction(max, Tuple(DateTime64(3, 'UTC'), UInt16)) CODEC(ZSTD(1)) COMMENT 'latest, with its time',
    recipient_domain    SimpleAggregateFunction(max, LowCardinality(String)),
    priority            SimpleAggregateFunction(max, LowCardinality(String)),
    campaign_id         SimpleAggregateFunction(max, LowCardinality(String)),
    template_id         SimpleAggregateFunction(max, LowCardinality(String)),
    variant             SimpleAggregateFunction(max, LowCardinality(String)),
    attempts            SimpleAggregateFunction(max, UInt32) CODEC(ZSTD(1)),
    deferrals           SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    queued_at           SimpleAggregateFunction(min, Nullable(DateTime64(3, 'UTC'))) CODEC(ZSTD(1)),
    first_at            SimpleAggregateFunction(min, DateTime64(3, 'UTC')) CODEC(ZSTD(1)),
    last_at             SimpleAggregateFunction(max, DateTime64(3, 'UTC')) CODEC(ZSTD(1)),
    delivered_at        SimpleAggregateFunction(min, Nullable(DateTime64(3, 'UTC'))) CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
ORDER BY (tenant_id, message_id)
TTL toStartOfMonth(toDateTime(last_at)) + INTERVAL 14 MONTH
SETTINGS
    non_replicated_deduplication_window = 100000;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.outcomes_to_mails TO {database}.mails AS
SELECT
    tenant_id,
    message_id,
    toUInt32(bitOr(
        bitShiftLeft(toUInt32(1), indexOf(
            ['rejected', 'suppressed', 'scheduled', 'composed', 'attempted', 'delivered', 'deferred', 'bounced', 'expired',
             'cancelled', 'in_doubt', 'held', 'dead', 'redriven', 'opened', 'clicked', 'complained', 'unsubscribed',
             'bounced_later', 'accepted'],
            event_type)),
        if(event_type = 'rejected' AND o.category NOT IN ('duplicate', 'idempotency_conflict'), bitShiftLeft(toUInt32(1), 21), 0)
    )) AS happened,
    if(event_type IN ('bounced', 'expired', 'cancelled', 'dead', 'suppressed'),
        toUInt64(greatest(toUnixTimestamp64Milli(event_time), 0)) * 8
            + indexOf(['bounced', 'expired', 'cancelled', 'dead', 'suppressed'], event_type),
        0) AS ended,
    (if(o.site = '', toDateTime64(0, 3, 'UTC'), event_time), toString(o.site)) AS site,
    (if(o.category = '', toDateTime64(0, 3, 'UTC'), event_time), toString(o.category)) AS category,
    (if(o.smtp_code = 0, toDateTime64(0, 3, 'UTC'), event_time), o.smtp_code) AS smtp_code,
    recipient_domain,
    priority,
    campaign_id,
    template_id,
    variant,
    attempt AS attempts,
    toUInt64(event_type = 'deferred') AS deferrals,
    queued_at,
    event_time AS first_at,
    event_time AS last_at,
    if(event_type = 'delivered', event_time, NULL) AS delivered_at
FROM {database}.outcomes AS o;

-- The same columns and meanings as in 0004, and more. Conditions on tenant_id and message_id are applied before the folding.
CREATE OR REPLACE VIEW {database}.mail_state AS
SELECT
    tenant_id,
    message_id,
    multiIf(
        bitTest(m.happened, 6), 'delivered',
        m.ended > 0, ['bounced', 'expired', 'cancelled', 'dead', 'suppressed'][m.ended % 8],
        bitTest(m.happened, 21) AND NOT bitTestAny(m.happened, 4, 5, 7, 11, 12), 'rejected',
        bitAnd(m.happened, bitNot(toUInt32(bitOr(2, bitShiftLeft(1, 21))))) = 0, 'rejected',
        'waiting'
    ) AS state,
    m.site.2 AS site,
    toString(m.recipient_domain) AS recipient_domain,
    toString(m.priority) AS priority,
    toString(m.campaign_id) AS campaign_id,
    toString(m.template_id) AS template_id,
    toString(m.variant) AS variant,
    m.category.2 AS category,
    m.smtp_code.2 AS smtp_code,
    m.attempts AS attempts,
    m.deferrals AS deferrals,
    bitTest(m.happened, 11) AS was_in_doubt,
    bitTest(m.happened, 15) AS opened,
    bitTest(m.happened, 16) AS clicked,
    bitTest(m.happened, 17) AS complained,
    bitTest(m.happened, 18) AS unsubscribed,
    m.queued_at AS queued_at,
    m.first_at AS first_at,
    m.last_at AS last_at,
    m.delivered_at AS delivered_at
FROM {database}.mails AS m FINAL;
