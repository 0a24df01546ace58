-- Outcomes as they might be: {mails} mails from number {first} on, one every {step} ms from {start} (ms since the epoch).
--
-- The skew is what matters to ClickHouse. One tenant in sixty sends a quarter of all mail; three quarters are campaigns;
-- seven receiving systems take eight in ten mails, and the rest goes to up to 40,000 small ones, most of which get few;
-- waits and durations have long tails; nine in ten mails need one attempt. A mail has three outcomes, or up to six.
-- Everything follows from a mail's number by hashes, so two runs make the same rows.
INSERT INTO {database}.outcomes
    (event_id, event_type, event_time, message_id, tenant_id, priority, stream, rfc5322_message_id, campaign_id, template_id,
     variant, recipient_hash, recipient_domain, site, lane, mx_host, egress, attempt, smtp_code, smtp_enhanced, smtp_phase,
     smtp_text, category, fault, rule, reason, tls_policy, tls_version, size_bytes, queued_at, wait_queue_ms, wait_rate_ms,
     wait_connection_ms, wait_retry_ms, duration_ms, node, source_topic, source_partition, source_offset, log_partition,
     log_offset, recorded_at)
WITH
    sipHash64(number, 'tenant') AS h_tenant,
    sipHash64(number, 'site') AS h_site,
    sipHash64(number, 'fate') AS h_fate,
    sipHash64(number, 'wait') AS h_wait,
    h_tenant % 1000003 / 1000003. AS u_tenant,
    h_site % 1000003 / 1000003. AS u_site,
    h_fate % 1000003 / 1000003. AS u_fate,
    h_wait % 1000003 / 1000003. AS u_wait,
    toUInt32(60 * pow(u_tenant, 3)) AS tenant,
    toInt64({start} + number * {step}) + h_wait % 1000 AS queued_ms,
    fromUnixTimestamp64Milli(queued_ms, 'UTC') AS queued,
    intDiv(queued_ms, 86400000) AS day,
    h_tenant % 100 < 75 AS is_bulk,
    if(is_bulk, concat('c', toString(tenant), '-', toString(intDiv(day, 3)), '-', toString(h_fate % 3)), '') AS campaign,
    multiIf(
        u_site < 0.38, 'google.com', u_site < 0.56, 'outlook.com', u_site < 0.66, 'yahoodns.net', u_site < 0.71, 'icloud.com',
        u_site < 0.75, 'gmx.net', u_site < 0.78, 'qq.com', u_site < 0.80, 'comcast.net',
        concat('site', toString(toUInt32(40000 * pow((u_site - 0.8) / 0.2, 4))), '.example')
    ) AS the_site,
    multiIf(
        u_fate < 0.006, 'suppressed', u_fate < 0.008, 'rejected', u_fate < 0.020, 'bounced', u_fate < 0.09, 'retried',
        u_fate < 0.10, 'throttled', u_fate < 0.102, 'expired', u_fate < 0.103, 'waiting', 'delivered'
    ) AS fate,
    toUInt32(20 + 2000 * pow(u_wait, 6)) AS queue_ms,
    toUInt32(40 + 3000 * pow(u_wait, 8)) AS took_ms,
    if(is_bulk AND h_site % 3 = 0, toUInt32(60000 * pow(u_wait, 3)), 0) AS rate_ms,
    -- type, milliseconds after the first attempt began, number of the attempt
    multiIf(
        fate IN ('suppressed', 'rejected'), [(fate, 0, 0)],
        fate = 'bounced', [('composed', 0, 0), ('attempted', 1, 1), ('bounced', 2, 1)],
        fate = 'retried', [('composed', 0, 0), ('attempted', 1, 1), ('deferred', 2, 1), ('attempted', 600000, 2), ('delivered', 600001, 2)],
        fate = 'throttled', [('composed', 0, 0), ('deferred', 1, 0), ('attempted', 60000, 1), ('delivered', 60001, 1)],
        fate = 'expired', [('composed', 0, 0), ('attempted', 1, 1), ('deferred', 2, 1), ('attempted', 600000, 2), ('deferred', 600001, 2), ('expired', 172800000, 2)],
        fate = 'waiting', [('composed', 0, 0), ('attempted', 1, 1), ('deferred', 2, 1)],
        [('composed', 0, 0), ('attempted', 1, 1), ('delivered', 2, 1)]
    ) AS steps,
    leftPad(lower(hex(queued_ms)), 12, '0') AS stamp,
    lower(hex(h_fate)) AS random,
    concat(
        substring(stamp, -12, 8), '-', substring(stamp, -4, 4), '-7', substring(random, 1, 3), '-9', substring(random, 4, 3),
        '-', leftPad(lower(hex(h_site)), 12, '0')
    ) AS id
SELECT
    lower(hex(sipHash128(number, step.1, step.2))),
    step.1 AS type,
    queued + toIntervalMillisecond(queue_ms + if(type = 'composed', 0, rate_ms + took_ms) + step.2),
    substring(id, 1, 36) AS mail,
    concat('tenant', toString(tenant)),
    multiIf(is_bulk, 'bulk', h_wait % 10 < 3, 'high', 'normal'),
    if(is_bulk, 'broadcast', 'transactional'),
    if(type IN ('suppressed', 'rejected'), '', concat(mail, '@mail.example')),
    campaign,
    concat('t', toString(tenant), '-', toString(if(is_bulk, cityHash64(campaign), h_fate) % 12)),
    if(campaign != '' AND cityHash64(campaign) % 10 = 0, if(h_wait % 2, 'a', 'b'), ''),
    lower(hex(sipHash128(h_site % 20000000))),
    if(u_site >= 0.8 OR h_site % 10 < 8, the_site, concat('d', toString(h_site % 5000), '.example')),
    if(type IN ('suppressed', 'rejected'), '', the_site) AS site,
    if(site = '', '', concat(site, '/', toString(h_site % 4))),
    if(step.3 = 0, '', concat('mx', toString(h_site % 4), '.', the_site)),
    if(step.3 = 0, '', concat('10.0.0.', toString(h_wait % 8))),
    step.3,
    multiIf(type = 'delivered', 250, type = 'bounced', 550, type = 'deferred' AND step.3 > 0, 451, 0) AS code,
    multiIf(code = 250, '2.0.0', code = 550, '5.1.1', code = 451, '4.7.1', ''),
    multiIf(code = 250, 'dot', code > 0, 'rcpt', ''),
    multiIf(
        code = 250, concat('2.0.0 OK ', toString(h_fate)),
        code = 0, '',
        concat(
            ['The account <address> does not exist', 'Greylisted, try again in ', 'Mailbox full, quota of ', 'Too much mail from ',
             'Blocked, see https://postmaster.example/why?code=', 'Message looks like spam, score ',
             'Rate limited by policy ', 'Temporary failure of our directory, id ', 'Local error in processing ',
             'Not now, load is '][1 + toUInt8(10 * pow(u_wait, 2))],
            toString(h_fate % 900), if(h_wait % 50 = 0, concat(' (variation ', ['one', 'two', 'three', 'four', 'five'][1 + h_fate % 5], ')'), ''),
            ' ', lower(hex(h_wait)), ' - ', the_site
        )
    ),
    multiIf(
        type = 'bounced', ['invalid_recipient', 'quota', 'policy', 'spam_content', 'unclassified'][1 + toUInt8(5 * pow(u_wait, 3))],
        type = 'deferred', if(code = 0, 'throttled', ['transient', 'policy', 'spam_block'][1 + h_wait % 3]),
        type = 'suppressed', 'suppressed', type = 'rejected', 'template', ''
    ),
    if(type = 'bounced', 'recipient', ''),
    multiIf(code < 400, '', h_wait % 50 = 0, if(code = 550, 'fallback.permanent', 'fallback.temporary'), code = 550, 'known.550', 'known.451'),
    if(type = 'suppressed', ['unsubscribed', 'complained', 'invalid_recipient'][1 + h_wait % 3], ''),
    if(code > 0, 'opportunistic', ''),
    if(code > 0, 'TLSv1.3', ''),
    4000 + h_fate % 40000,
    queued,
    queue_ms,
    if(type = 'composed', 0, rate_ms),
    if(h_wait % 20 = 0 AND code > 0, h_wait % 400, 0),
    if(step.2 > 1000, step.2, 0),
    if(code > 0, took_ms, 0),
    concat('deliver-', toString(h_site % 6)),
    if(is_bulk, 'mail.ready.bulk', 'mail.ready.normal'),
    h_site % 4,
    number,
    h_site % 4,
    number,
    queued
FROM numbers({first}, {mails})
ARRAY JOIN steps AS step
SETTINGS max_insert_threads = 1, max_threads = 2, max_block_size = 100000, min_insert_block_size_rows = 1000000, insert_deduplicate = 0
