-- Driving mails again: plans, the mails of each, how far their drivers have come, and who said what of them when.
--
-- A plan and its list are written once. The list is numbered, and drivers go through it in that order; a row of
-- redrive_batches says that Kafka has everything below `next`. Nothing here is needed to send a mail once it is driven.
--
-- TTL: 400 days, about as long as outcomes; the audit has none.

ALTER TABLE {database}.outcomes ADD COLUMN IF NOT EXISTS expires_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1))
    COMMENT 'what compose says: until when the producer wanted the mail sent' AFTER next_attempt_at;

CREATE TABLE IF NOT EXISTS {database}.redrive_plans
(
    plan_id             String,
    tenant_id           String COMMENT 'empty for all tenants',
    predicate           String,
    dead_letters        UInt8 COMMENT 'whether it drives dead letters',
    created_at          DateTime64(3, 'UTC'),
    created_by          String,
    mails               UInt32 COMMENT 'to be driven',
    excluded            Map(LowCardinality(String), UInt32) COMMENT 'selected and not to be driven, by reason'
)
ENGINE = ReplacingMergeTree
ORDER BY plan_id
TTL toDateTime(created_at) + INTERVAL 400 DAY;

-- ORDER BY: a driver reads the next few hundred that are not excluded. by_message: is a mail in the list of another plan?
CREATE TABLE IF NOT EXISTS {database}.redrive_mails
(
    plan_id             LowCardinality(String),
    excluded            LowCardinality(String) COMMENT 'why it is not to be driven; empty: it is',
    number              UInt32 COMMENT 'its place in the list, from 0',
    tenant_id           LowCardinality(String),
    message_id          String CODEC(ZSTD(1)),
    state               LowCardinality(String) COMMENT 'as in mail_state, when it was planned',
    site                LowCardinality(String),
    category            LowCardinality(String),
    recipient_domain    LowCardinality(String),
    source_topic        LowCardinality(String) COMMENT 'where its send event is',
    source_partition    Int32 CODEC(ZSTD(1)),
    source_offset       Int64 CODEC(Delta, ZSTD(1)),
    planned_at          DateTime('UTC') CODEC(Delta, ZSTD(1)),

    INDEX by_message message_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
ORDER BY (plan_id, excluded, number)
TTL planned_at + INTERVAL 400 DAY;

CREATE TABLE IF NOT EXISTS {database}.redrive_batches
(
    plan_id             String,
    run                 String COMMENT 'the driver',
    first               UInt32,
    next                UInt32 COMMENT 'Kafka has everything of the list that is below this',
    published           UInt32,
    skipped             Map(LowCardinality(String), UInt32) COMMENT 'not driven after all, by reason',
    at                  DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(at)
ORDER BY (plan_id, first)
TTL toDateTime(at) + INTERVAL 400 DAY;

-- The words on a plan in the order they were stored, by one clock: the server's. What a plan's state is follows from them.
CREATE TABLE IF NOT EXISTS {database}.redrive_audit
(
    plan_id             String,
    at                  DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC'),
    action              LowCardinality(String) COMMENT 'plan, start, pause, resume, cancel; done and stopped are a driver''s own',
    by                  String,
    host                String,
    run                 String COMMENT 'the driver that a start or resume began, or that speaks',
    options             String COMMENT 'JSON',
    note                String
)
ENGINE = MergeTree
ORDER BY (plan_id, at);
