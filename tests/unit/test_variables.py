"""Which values a template sees, and in which locale it is written."""

import pytest

from sluice.domain.errors import Refused
from sluice.domain.events import TemplateRef
from sluice.domain.reference import Profile, Template, TemplateContent, Tenant
from sluice.domain.variables import choose_content, choose_locale, merge_variables


def template(*locales: str, default: str = "en") -> Template:
    return Template(
        tenant_id="t",
        template_id="x",
        version=1,
        default_locale=default,
        locales={locale: TemplateContent(locale) for locale in locales},
        defaults=dict.fromkeys("abcde", "default"),
    )


def test_the_nearest_layer_wins() -> None:
    tenant = Tenant(tenant_id="t", domains=[], variables=dict.fromkeys("abcd", "tenant"))
    profile = Profile(tenant_id="t", email="a@x.example", variables=dict.fromkeys("abc", "profile"))
    asked = TemplateRef(id="x", variables=dict.fromkeys("ab", "event"))
    merged = merge_variables(template("en"), tenant, profile, asked, {"a": "recipient"})
    assert merged == {"a": "recipient", "b": "event", "c": "profile", "d": "tenant", "e": "default"}
    assert merge_variables(template("en"), tenant, None, asked, {})["c"] == "tenant"


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (["de-AT"], "de-AT"),
        (["DE-at"], "de-AT"),
        (["de_AT"], "de-AT"),
        (["de-CH"], "de"),
        (["zh-Hant-TW"], "zh-Hant"),
        (["zh-Hans"], "en"),
        ([None, "", "xx", "de"], "de"),
        (["xx", "de-CH", "zh-Hant"], "de"),
        ([], "en"),
    ],
)
def test_a_locale_is_found_whole_then_shortened_then_by_default(wanted: list[str | None], chosen: str) -> None:
    assert choose_locale(template("en", "de", "de-AT", "zh-Hant"), *wanted) == chosen
    assert choose_content(template("en", "de", "de-AT", "zh-Hant"), *wanted).subject == chosen


def test_a_template_without_its_default_locale_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        choose_locale(template("de", default="en"), "fr")
    assert refused.value.category == "template"
