-- The records of the reference topics as they are, so that the topics can be made again from here: sluice restore reference.
--
-- Apart from the other ref_ tables, which are for analysis and hold no addresses: this one holds profiles and suppressions
-- with their addresses, and templates whole. Readers of outcomes need no grant on it.
--
-- key_hash is a keyed hash of the record's key. Of a removed record nothing else is kept, so that no address stays behind with
-- it; it still hides its key, and takes it away again from topics that are older than this table.
--
-- ReplacingMergeTree(kept_at): what was mirrored last holds. Not the offset, which begins anew with a topic that is made anew.
-- The mirror reads in the topic's order, and again from where it stopped, so what is last is latest. Read it with FINAL.

CREATE TABLE IF NOT EXISTS {database}.ref_records
(
    topic               LowCardinality(String),
    key_hash            String,
    key                 String CODEC(ZSTD(1)) COMMENT 'empty when removed',
    value               String CODEC(ZSTD(3)) COMMENT 'the record: JSON; empty when removed',
    changed_at          DateTime64(3, 'UTC'),
    log_offset          UInt64,
    removed             UInt8,
    kept_at             DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(kept_at)
ORDER BY (topic, key_hash);
