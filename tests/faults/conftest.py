"""Every test here runs in a short form, and in full with ``pytest -m slow``. Fault times come from
a printed seed (ATTNLIB_FAULT_SEED repeats one). What was done and found is counted, printed at the
end, and stored in results/faults.json by a full run in which nothing failed."""
import os
import platform
import random
from collections import Counter, defaultdict

import pytest
import torch
from faults import FAULTS, REPO, to_json

SEED = int(os.environ.get("ATTNLIB_FAULT_SEED") or random.SystemRandom().randrange(10**6))
os.environ["ATTNLIB_FAULT_SEED"] = str(SEED)        # the same in every process of pytest -n
STORED = REPO / "results" / "faults.json"
COUNTS = defaultdict(Counter)           # fault -> what was counted
OUTCOMES = defaultdict(Counter)         # fault -> passed, failed, skipped
SECONDS = Counter()
FORM = set()                            # short, full


@pytest.fixture(params=["short", pytest.param("full", marks=pytest.mark.slow)], autouse=True)
def pick(request):
    """``pick(a, b)``: a in the short form, b in the full one."""
    return lambda short, full: full if request.param == "full" else short


@pytest.fixture
def moments(request) -> random.Random:
    """The random moments of one test: they depend on the seed and the test alone."""
    print(f"ATTNLIB_FAULT_SEED={SEED}")
    return random.Random(f"{SEED} {request.node.originalname}")


@pytest.fixture
def count(request):
    """``count(kills=1)`` adds to what is told of this test's fault."""
    return lambda **numbers: request.node.user_properties.append(("counts", numbers))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    marker = item.get_closest_marker("fault")
    if marker and call.when == "setup":
        item.user_properties += [("fault", marker.args[0]), ("form", item.callspec.params["pick"])]
    return (yield)


def pytest_runtest_logreport(report):
    """Gathers what the reports carry, from all processes of pytest -n."""
    told = dict(report.user_properties)
    if "fault" not in told:
        return
    number = told["fault"]
    FORM.add(told["form"])
    SECONDS[number] += report.duration
    if report.when == "call" or report.outcome != "passed":
        OUTCOMES[number][report.outcome] += 1
    if report.when == "teardown":                   # the list of a test is whole only at its end
        for key, numbers in report.user_properties:
            if key == "counts":
                COUNTS[number].update(numbers)


def pytest_terminal_summary(terminalreporter):
    if not OUTCOMES:
        return
    told = {number: {"fault": FAULTS[number], "outcome": dict(OUTCOMES[number]),
                     "seconds": round(SECONDS[number], 1), "counts": dict(COUNTS[number])}
            for number in sorted(OUTCOMES)}
    terminalreporter.section(f"faults, ATTNLIB_FAULT_SEED={SEED}")
    for number, row in told.items():
        found = row["outcome"] | row["counts"]
        numbers = ", ".join(f"{n} {word}" for word, n in found.items())
        terminalreporter.write_line(f"{number:2} {row['fault']}: {numbers}, {row['seconds']} s")
    failed = any(outcome["failed"] for outcome in OUTCOMES.values())
    if FORM == {"full"} and not failed and set(OUTCOMES) == set(FAULTS):
        STORED.write_text(to_json({
            "seed": SEED, "torch": torch.__version__, "python": platform.python_version(),
            "os": platform.system(), "cores": os.cpu_count(),
            "seconds": round(SECONDS.total()), "faults": {str(n): row for n, row in told.items()}}))
        terminalreporter.write_line("stored in results/faults.json")
