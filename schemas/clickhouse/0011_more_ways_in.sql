-- Outcomes of one campaign, and of one plan that sent mails again, found without reading a tenant's whole time.
--
-- by_campaign: a campaign is a few days of one tenant, but who asks does not know which. A bloom filter and no set, since a
-- stretch of rows may hold many campaigns.
-- by_plan: nearly all rows have no plan, and stretches without one are left out at once.
-- GRANULARITY 4: a filter for 32,768 rows; the rows sought come in long runs, so a finer one would only be longer.
--
-- Of outcomes' other choices, measured over 300,000 rows (bytes for each row, of 62 in all):
--   ids as text (event_id, message_id, recipient_hash, rfc5322_message_id): 48. ZSTD halves hexadecimal digits, which is all
--     that can be had of random ones; a binary type would save no more, and every reader would have to convert.
--   event_time: Delta and ZSTD 2.15, ZSTD alone 2.45: rows of a type and site are in the order of time.
--   queued_at and recorded_at follow that order loosely: Delta or not makes no difference (2.2 to 2.3).
--   source_offset, log_offset: Delta 2.05, DoubleDelta 2.5: partitions are mixed, so steps are not even.
--   waits, sizes: T64 before ZSTD saves 4 to 17 % of one or two bytes; not worth a change of what is stored.
--   smtp_text: ZSTD(3) is no smaller than ZSTD(1) on such short texts, and slower.
--   LowCardinality: columns with up to some ten thousand different values in a part, so 0.5 to 1.2 bytes; never for ids.

ALTER TABLE {database}.outcomes ADD INDEX IF NOT EXISTS by_campaign campaign_id TYPE bloom_filter(0.01) GRANULARITY 4;

ALTER TABLE {database}.outcomes ADD INDEX IF NOT EXISTS by_plan redrive_plan TYPE bloom_filter(0.01) GRANULARITY 4;

ALTER TABLE {database}.outcomes MATERIALIZE INDEX by_campaign;

ALTER TABLE {database}.outcomes MATERIALIZE INDEX by_plan;
