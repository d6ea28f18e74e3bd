"""Which build of Chromium a test runs on: both, or one with the reason. A plugin of pytest."""

from collections import defaultdict

import pytest

BUILDS = {"shell", "full"}


def on_the_shell(reason):
    """Mark a test of a page of `tests/browser`: it runs on the headless shell alone, and why that is enough."""

    def mark(test):
        marked = pytest.mark.parametrize("cdp_url", ["shell"], indirect=True)(test)
        return pytest.mark.one_build(reason)(marked)

    return mark


def builds_of(item):
    """The builds among the parameters of a test, as those of a fixture or its own."""
    params = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return {each for each in params if isinstance(each, str) and each in BUILDS}


def complaints(items, *, whole=True):
    """Tests of Chromium that do not say which builds they run on, or say it wrongly.

    Args:
        whole: False when only some cases of a test may have been collected.
    """
    seen = defaultdict(set)
    cases = defaultdict(list)
    for item in items:
        if item.get_closest_marker("chromium"):
            name = item.nodeid.partition("[")[0]
            seen[name] |= builds_of(item)
            cases[name].append(item)
    for name, found in cases.items():
        marks = [mark for item in found for mark in item.iter_markers("one_build")]
        if any(len(mark.args) != 1 or not str(mark.args[0]).strip() or mark.kwargs for mark in marks):
            yield f"{name}: one_build needs its reason, one_build('why one build is enough')"
        elif marks and seen[name] == BUILDS:
            yield f"{name}: it runs on both builds, and is marked as a test of one"
        elif not marks and (seen[name] != BUILDS if whole else not seen[name]):
            yield f"{name}: run it on both builds of Chromium, or say why not: @pytest.mark.one_build('reason')"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Stop a run with a test that says nothing of the builds."""
    found = list(complaints(items, whole=not any("::" in str(each) for each in config.args)))
    if found:
        raise pytest.UsageError("\n".join(found))
