-- Reference data as it stands in Kafka's compacted topics, mirrored for reading: to join outcomes with who and what they are
-- about. Kafka stays the source of truth; nothing reads these tables to send a mail. Profiles are not mirrored: they are
-- about people. Suppressions are, by the hash of the address.
--
-- ReplacingMergeTree(log_offset, removed): the record at the highest offset is what holds, and a removed one hides its key.
-- So a record that is mirrored again changes nothing, and the mirror may begin anew at any time. Read them with FINAL.
-- ORDER BY the topic's own key. No TTL: a compacted topic has none.

CREATE TABLE IF NOT EXISTS {database}.ref_tenants
(
    tenant_id           String,
    name                String,
    domains             Array(String),
    active              UInt8,
    rate                String COMMENT 'most mails of the tenant per time, empty for no limit',
    campaign_rate       String COMMENT 'the same for each of its campaigns',
    in_doubt            LowCardinality(String),
    changed_at          DateTime64(3, 'UTC'),
    log_offset          UInt64,
    removed             UInt8
)
ENGINE = ReplacingMergeTree(log_offset, removed)
ORDER BY tenant_id;

CREATE TABLE IF NOT EXISTS {database}.ref_templates
(
    tenant_id           String,
    template_id         String,
    version             UInt32,
    default_locale      LowCardinality(String),
    locales             Array(String),
    subject             String COMMENT 'in the default locale, as its source',
    changed_at          DateTime64(3, 'UTC'),
    log_offset          UInt64,
    removed             UInt8
)
ENGINE = ReplacingMergeTree(log_offset, removed)
ORDER BY (tenant_id, template_id, version);

CREATE TABLE IF NOT EXISTS {database}.ref_suppressions
(
    tenant_id           LowCardinality(String),
    stream              LowCardinality(String) COMMENT 'empty for all mail',
    recipient_hash      String CODEC(ZSTD(1)) COMMENT 'as in outcomes',
    reason              LowCardinality(String),
    created_at          Nullable(DateTime64(3, 'UTC')),
    expires_at          Nullable(DateTime64(3, 'UTC')),
    changed_at          DateTime64(3, 'UTC'),
    log_offset          UInt64,
    removed             UInt8
)
ENGINE = ReplacingMergeTree(log_offset, removed)
ORDER BY (tenant_id, recipient_hash, stream);

CREATE TABLE IF NOT EXISTS {database}.ref_sites
(
    site                String,
    reason              String,
    set_by              String,
    set_at              Nullable(DateTime64(3, 'UTC')),
    until               Nullable(DateTime64(3, 'UTC')) COMMENT 'NULL: until it is taken back',
    changed_at          DateTime64(3, 'UTC'),
    log_offset          UInt64,
    removed             UInt8
)
ENGINE = ReplacingMergeTree(log_offset, removed)
ORDER BY site;
