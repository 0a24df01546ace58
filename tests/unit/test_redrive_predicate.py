"""What a re-drive's predicate may say: everything else is refused by name and place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.adapters.clickhouse.predicate import COLUMNS, FUNCTIONS, checked
from sluice.ports.redrive import PredicateRefused


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("event_type = 'bounced'", "event_type = 'bounced'"),
        ("site IN ('a','b') and not smtp_code=550", "site IN ( 'a' , 'b' ) AND NOT smtp_code = 550"),
        ("event_time > now() - interval 2 day", "event_time > now ( ) - INTERVAL 2 DAY"),
        ("metadata['k'] <> 'v'", "metadata [ 'k' ] != 'v'"),
        ("has(tags, 'x') OR startsWith(site, 'goo')", "has ( tags , 'x' ) OR startsWith ( site , 'goo' )"),
        ("reason IS NOT NULL\nAND\tattempt BETWEEN 1 AND 3", "reason IS NOT NULL AND attempt BETWEEN 1 AND 3"),
        ("true", "true"),
    ],
)
def test_a_condition_over_the_columns_is_written_anew(text: str, sql: str) -> None:
    assert checked(text) == sql


def test_texts_become_literals_that_nothing_reads_anything_into() -> None:
    assert checked(r"reason = 'a''b\'c{x:String}%s; DROP --'") == (
        r"reason = 'a\x27b\x27c\x7bx:String\x7d\x25s\x3b DROP --'"
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("site = 'a'; DROP TABLE outcomes", "';'"),
        ("site = 'a' -- and more", "a comment"),
        ("site = 'a' /* and */ OR true", "a comment"),
        ("true # all", "a comment"),
        ("message_id IN (SELECT message_id FROM recipients)", "'SELECT'"),
        ("(SELECT count() FROM system.tables) > 0", "'SELECT'"),
        ("EXISTS(SELECT 1)", "'EXISTS'"),
        ("site = 'a' UNION ALL SELECT 1", "'UNION'"),
        ("site IN outcomes", "IN needs a list"),
        ("site IN (outcomes)", "'outcomes'"),
        ("site IN (site)", "'site': a list after IN holds"),
        ("site IN ()", "list after IN is empty"),
        ("site IN", "IN needs a list"),
        ("site GLOBAL IN ('a')", "'GLOBAL'"),
        ("url('http://localhost/') = ''", "'url'"),
        ("file('/etc/passwd') = ''", "'file'"),
        ("remote('localhost', system.one) = 1", "'remote'"),
        ("dictGet('d', 'a', 1) = 1", "'dictGet'"),
        ("joinGet('t', 'a', 1) = 1", "'joinGet'"),
        ("sleepEachRow(3) = 0", "'sleepEachRow'"),
        ("currentUser() = 'default'", "'currentUser'"),
        ("getSetting('readonly') = 1", "'getSetting'"),
        ("catboostEvaluate('m', 1) = 1", "'catboostEvaluate'"),
        ("if(true, sleep(3), 0) = 0", "'if'"),
        ("CAST(site AS Int) = 1", "'CAST'"),
        ("site::String = 'a'", "'::'"),
        ("arrayExists(x -> x = 'a', tags)", "'arrayExists'"),
        ("count(*) > 1", "'count'"),
        ("true SETTINGS max_memory_usage = 0", "'SETTINGS'"),
        ("true FORMAT CSV", "'FORMAT'"),
        ("true INTO OUTFILE '/tmp/x'", "'INTO'"),
        ("true LIMIT 1", "'LIMIT'"),
        ("sluice.outcomes.site = 'a'", "'sluice'"),
        ("outcomes.site = 'a'", "'outcomes'"),
        ("recipient = 'jo@example.com'", "'recipient'"),
        ("system.one", "'system'|'.'"),
        ("`site` = 'a'", "'site'"),
        ("\"site\" = 'a'", "'site'"),
        ("{p:String} = site", "'{'"),
        ("@@version = 1", "'@'"),
        ("site ? 1 : 0", "'?'"),
        ("CASE WHEN true THEN 1 END", "'CASE'"),
        ("true AS x", "'AS'"),
        ("site = $$a$$", "'a'"),
        ("0x10 = attempt", "'10'"),
        ("attempt = 1e400", "'1e400'"),
        ("attempt * 1000000", "'*'"),
        ("site = 'a', true", "a comma"),
        ("site = 'a') OR (true", "closes what was not opened"),
        ("(site = 'a'", "is not closed"),
        ("site = 'a", "cannot be read"),
        ("site = ", "no condition"),
        ("AND site", "no condition"),
        ("(site, lane)", "no condition"),
        ("", "empty"),
        ("  \n", "empty"),
        ("-- nothing", "empty"),
    ],
)
def test_whatever_else_sql_has_is_refused(text: str, named: str) -> None:
    with pytest.raises(PredicateRefused) as told:
        checked(text)
    assert any(each in str(told.value) for each in named.split("|"))


def test_a_refusal_says_where() -> None:
    with pytest.raises(PredicateRefused, match="line 2, column 5"):
        checked("site = 'a'\nAND sleep(1)")
    with pytest.raises(PredicateRefused, match="line 2, column 3"):
        checked("true\n  /* x */ OR true")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("site IN (" + ",".join("'a'" for _ in range(5_001)) + ")", "5,000 values"),
        ("(" * 51 + "true" + ")" * 51, "50 parentheses"),
        ("NOT " * 19_000 + "true", "nested too deeply"),
        ("NOT " * 20_001 + "true", "at most 20,000"),
        ("site = '" + "a" * 100_001 + "'", "100,000 are allowed"),
    ],
)
def test_what_is_huge_is_refused(text: str, named: str) -> None:
    with pytest.raises(PredicateRefused, match=named):
        checked(text)


WORDS = [*sorted(COLUMNS)[:12], *sorted(FUNCTIONS)[:6], *"()[],;=<>+-*/.'\"`#\\\n", "SELECT", "FROM", "IN", "AND", "OR"]
WORDS += ["NOT", "outcomes", "UNION", "--", "/*", "*/", "'a'", "1", "now()", "INTERVAL", "DAY", "::", "{", "}", "$$"]


@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
def test_whatever_is_written_is_a_condition_or_refused(text: str) -> None:
    """What passes holds nothing but known words, balanced, and passes again as it was written."""
    try:
        sql = checked(text)
    except PredicateRefused:
        return
    assert not any(word in sql.split() for word in ("SELECT", "FROM", "outcomes", "UNION", ";", "--", "/*", "*"))
    assert checked(sql) == sql
