-- Every outcome of every mail: one row per outcome event (schemas/outcome.v1.schema.json), flattened.
--
-- Types. Absent text is '', absent times are NULL. event_type is no Enum, so that a new type needs no migration.
-- The plain recipient is not here: see recipients.
--
-- PARTITION BY month: retention drops whole months, and a batch of a moment makes one part, not one per day or tenant.
--
-- ORDER BY: analysts ask for a tenant in a span of time, then for one kind of outcome, then by site; the hour comes before
-- the type so that recent hours stay together, and after the tenant so that one tenant's reading never passes another's rows.
--
-- One mail by its id: a bloom filter, not a projection. A projection ordered by message_id would store every column
-- twice and has to be rewritten whenever a row is erased; the filter costs about 10 bits a row, and `sluice mail` also
-- bounds the time, which a UUIDv7 carries, so that only the months since are looked at.
--
-- non_replicated_deduplication_window: a batch that is inserted again with the same insert_deduplication_token changes
-- nothing. It has to reach back over the batches that other partitions insert while one consumer is stuck: 100,000 are
-- 15 minutes at 100 batches a second. (On replicated tables the server's replicated_deduplication_window does this.)

CREATE DATABASE IF NOT EXISTS {database};

CREATE TABLE IF NOT EXISTS {database}.outcomes
(
    event_id            String CODEC(ZSTD(1)),
    event_type          LowCardinality(String),
    event_time          DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    message_id          String CODEC(ZSTD(1)),
    tenant_id           LowCardinality(String),
    priority            LowCardinality(String),
    stream              LowCardinality(String),
    rfc5322_message_id  String CODEC(ZSTD(1)),
    campaign_id         LowCardinality(String),
    template_id         LowCardinality(String),
    variant             LowCardinality(String),
    tags                Array(LowCardinality(String)),
    metadata            Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    recipient_hash      String CODEC(ZSTD(1)) COMMENT 'the address itself is kept in recipients, for a short time',
    recipient_domain    LowCardinality(String),
    site                LowCardinality(String),
    lane                LowCardinality(String),
    mx_host             LowCardinality(String),
    mx_address          LowCardinality(String),
    egress              LowCardinality(String),
    attempt             UInt32,
    smtp_code           UInt16,
    smtp_enhanced       LowCardinality(String),
    smtp_phase          LowCardinality(String),
    smtp_text           String CODEC(ZSTD(1)) COMMENT 'addresses in it are replaced',
    category            LowCardinality(String),
    fault               LowCardinality(String),
    rule                LowCardinality(String),
    field               LowCardinality(String) COMMENT 'path of the field at fault, for rejected and dead',
    reason              String CODEC(ZSTD(1)) COMMENT 'addresses in it are replaced',
    tls_policy          LowCardinality(String),
    tls_version         LowCardinality(String),
    tls_cipher          LowCardinality(String),
    size_bytes          UInt32 CODEC(ZSTD(1)),
    queued_at           Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)) COMMENT 'when the producer published the event',
    wait_queue_ms       UInt32 CODEC(ZSTD(1)),
    wait_schedule_ms    UInt32 CODEC(ZSTD(1)),
    wait_rate_ms        UInt32 CODEC(ZSTD(1)),
    wait_connection_ms  UInt32 CODEC(ZSTD(1)),
    wait_retry_ms       UInt32 CODEC(ZSTD(1)),
    duration_ms         Float32 CODEC(ZSTD(1)),
    next_attempt_at     Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)),
    source_topic        LowCardinality(String) COMMENT 'the record that this outcome concludes',
    source_partition    Int32 CODEC(ZSTD(1)),
    source_offset       Int64 CODEC(Delta, ZSTD(1)),
    source_round        UInt32 CODEC(ZSTD(1)),
    redrive_plan        LowCardinality(String),
    redrive_of          String CODEC(ZSTD(1)),
    trace_id            String CODEC(ZSTD(1)),
    node                LowCardinality(String),
    log_partition       Int32 CODEC(ZSTD(1)) COMMENT 'where the outcome stands in mail.outcome',
    log_offset          Int64 CODEC(Delta, ZSTD(1)),
    recorded_at         DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta, ZSTD(1)),

    INDEX by_message message_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_recipient recipient_hash TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(event_time)
ORDER BY (tenant_id, toStartOfHour(event_time), event_type, site, event_time)
TTL toDateTime(event_time) + INTERVAL 400 DAY
SETTINGS
    non_replicated_deduplication_window = 100000,
    ttl_only_drop_parts = 1;
