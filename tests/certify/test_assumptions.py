"""Each assumption is broken in turn in the sandbox, and found."""

from decimal import Decimal
from typing import Any, get_args

import pytest

from app.catalogue import RegionName
from app.certify.checks import CHECKS
from app.certify.registry import Verdict
from app.certify.spending import RunBudget
from app.sandbox.faults import Faults, Quirk, RefusedKey
from tests.certify.runs import run, sandbox

# Not seen without a 429, which a run does not provoke.
BY_CHANCE = {"throttling", "retry_after"}

RETIRED = RefusedKey(code="ModelNotFound", model="paraformer-v1", kinds=("submit",))
SAME_KEY = {"beijing": {"sk-sandbox-beijing": "main"}, "singapore": {"sk-sandbox-beijing": "main"}}


def quirk(name: Quirk, **faults: Any) -> dict[str, Any]:
    return {"faults": Faults(quirks=frozenset({name}), **faults)}


BROKEN: dict[str, dict[str, Any]] = {
    "invalid_key": quirk("invalid_key_400"),
    "key_of_one_region": {"keys": SAME_KEY},
    "error_shape": quirk("nested_errors"),
    "unknown_model": quirk("unknown_model_accepted"),
    "throttling": quirk("throttling_renamed", throttle_rate=0.1),
    "retry_after": quirk("retry_after", throttle_rate=0.1),
    "quotas": quirk("quotas"),
    "vocabulary_create": quirk("vocabulary_without_id"),
    "vocabulary_list": quirk("vocabulary_unlisted"),
    "vocabulary_query": quirk("vocabulary_unusable"),
    "vocabulary_delete": quirk("vocabulary_undeletable"),
    "submit_accepted": quirk("submit_without_id"),
    "hundred_files": {"max_files_per_task": 3},
    "hundred_results": quirk("first_results_only"),
    "too_many_files": quirk("more_files_accepted"),
    "unknown_parameter": quirk("unknown_parameter_refused"),
    "absent_channel": quirk("absent_channel_refused"),
    "parameters_optional": {"require_parameters_singapore": True},
    "retired_models": {"faults": Faults(refused=(RETIRED,))},
    "unknown_task": quirk("unknown_task_404"),
    "query_after_submit": {"faults": Faults(unknown_s=0.05)},
    "task_states": quirk("unknown_state"),
    "results_at_the_end": quirk("early_results"),
    "file_count": quirk("no_task_metrics"),
    "task_times": quirk("utc_times"),
    "cancel_pending": quirk("cancel_refused") | {"queue_s": 3},  # until the query after the cancel
    "cancel_refused": quirk("nested_errors"),
    "mixed_outcomes": quirk("failed_item_without_code"),
    "all_failed": {"all_failed_style": "succeeded"},
    "results_name_files": quirk("results_without_urls"),
    "file_url_echo": {"faults": Faults(unescape_echo=True)},
    "usage_unit": quirk("usage_in_ms"),
    "failed_files_free": quirk("failed_files_billed"),
    "list_lag": {"faults": Faults(list_lag_s=1000)},
    "list_times": quirk("list_times_in_seconds"),
    "list_windows": quirk("list_windows_in_new_york"),
    "list_window_zone": quirk("list_windows_in_utc"),
    "list_page_size": quirk("list_small_pages"),
    "list_status_filter": quirk("list_filters_ignored"),
    "list_model_filter": quirk("list_filters_ignored"),
    "list_order": quirk("list_oldest_first"),
    "list_keeps_ended": quirk("list_running_only"),
    "list_shows_end": quirk("stale_list"),
    "result_host": {"results_origin": "http://results.example.com:18101"},
    "result_lifetime": {"result_ttl_s": 3600},
    "requery_links": quirk("new_links"),
    "invalid_link": quirk("bad_link_400"),
    "result_encoding": quirk("result_encoding"),
    "result_document": {"faults": Faults(html_result_rate=1)},
    "result_names_file": quirk("result_of_another_file"),
    "sensevoice_tags": quirk("unknown_tag"),
    "upload_policy": quirk("policy_without_signature"),
    "upload_stored": {"faults": Faults(error_upload_rate=1)},
    "upload_readable": quirk("uploads_unreadable"),
    "upload_echo": quirk("upload_echo_renamed"),
    "silent_file": quirk("silence_succeeds"),
}


def test_every_assumption_is_broken_and_every_quirk_is_used() -> None:
    assert list(BROKEN) == [check.name for check in CHECKS]
    used = {name for changes in BROKEN.values() for name in changes.get("faults", Faults()).quirks}
    assert used == set(get_args(Quirk))


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_assumption_is_found(name: str) -> None:
    region: RegionName = "singapore" if name == "parameters_optional" else "beijing"
    results = await run(sandbox(**BROKEN[name]), region=region)
    assert results[name].verdict is Verdict.DIFFERS, results[name]


@pytest.mark.parametrize("region", ["beijing", "singapore"])
async def test_nothing_differs_in_the_unbroken_sandbox(region: RegionName) -> None:
    upstream = sandbox()
    results = await run(upstream, region=region)
    unknown = {name for name, result in results.items() if result.verdict is Verdict.UNKNOWN}
    assert unknown == BY_CHANCE | ({"sensevoice_tags"} if region == "singapore" else set())
    assert [result for result in results.values() if result.verdict is Verdict.DIFFERS] == []
    assert upstream.state.vocabularies == {}
    assert upstream.state.authorization_leaks == 0


async def test_a_429_with_the_documented_code_is_repeated_and_ok() -> None:
    results = await run(sandbox(Faults(throttle_rate=0.1)))
    assert {results[name].verdict for name in (*BY_CHANCE, "submit_accepted", "result_document")} == {Verdict.OK}


async def test_both_regions_cost_less_than_the_budget() -> None:
    budget = RunBudget()
    for region in ("beijing", "singapore"):
        await run(sandbox(), region=region, budget=budget)
    assert budget.spent == Decimal("0.02316")  # as docs/certify.md says: 0.023


async def test_nothing_is_submitted_that_the_budget_does_not_cover() -> None:
    upstream = sandbox()
    results = await run(upstream, budget=RunBudget(Decimal("0.002")))
    assert results["result_document"].verdict is Verdict.OK
    assert results["unknown_parameter"].seen == "the budget of 0.002 yuan does not cover it"
    seconds = sum(file.duration_ms for task in upstream.state.tasks.values() for file in task.succeeded) / 1000
    assert seconds * 0.00022 <= 0.002


@pytest.mark.parametrize("code", ["Arrearage", "AccessDenied.Unpurchased", "AllocationQuota.FreeTierOnly"])
async def test_a_refused_account_makes_checks_unknown_and_none_differ_in_correctness(code: Any) -> None:
    refused = RefusedKey(code=code, kinds=("submit",))
    results = await run(sandbox(Faults(refused=(refused,))))
    assert [name for name, result in results.items() if result.costs_correctness] == []
