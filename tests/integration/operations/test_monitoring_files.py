"""The dashboard and the alert rules of the documentation fit the metrics."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.operations.tallies import filling
from tests.servers import ALL_REQUIRED

DOCS = Path(__file__).parents[3] / "docs"
FILES = {
    "dashboard": DOCS / "monitoring" / "grafana-dashboard.json",
    "rules": DOCS / "monitoring" / "alert-rules.yml",
    "page": DOCS / "howto" / "monitoring.rst",
}
NAME = re.compile(r"\brapidsms_router_\w+")
#: A metric in a query, with the labels by which it is chosen, if there are any.
CHOSEN = re.compile(r"\b(rapidsms_router_\w+)\{([^}]*)\}")

pytestmark = pytest.mark.django_db


@pytest.fixture
def scraped(client, person, stored):
    """The metrics as Prometheus gets them: the names of the labels, by the name of the metric."""
    stored(person, sent=now())
    filling.fill()
    answer = client.get("/metrics", headers={"Authorization": "Bearer of the scraper"})
    text = answer.content.decode()
    names = re.findall(r"^# TYPE (\S+) gauge$", text, re.M)
    labels: dict[str, set[str]] = {name: set() for name in names}
    for name, chosen in re.findall(r"^(\w+)\{(.*)\} ", text, re.M):
        labels[name] |= set(re.findall(r"(\w+)=", chosen))
    return labels


def queries(what):
    """The queries of a file."""
    text = FILES[what].read_text(encoding="utf-8")
    if what == "rules":
        return re.findall(r"^ +expr: ((?:.|\n)*?)^ +for:", text, re.M)
    panels = json.loads(text)["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("what", FILES)
def test_each_metric_that_is_named_exists(what, scraped):
    named = set(NAME.findall(FILES[what].read_text(encoding="utf-8")))
    assert named
    assert named - scraped.keys() == set()


@pytest.mark.parametrize("what", ["dashboard", "page"])
def test_each_metric_is_shown_and_explained(what, scraped):
    text = FILES[what].read_text(encoding="utf-8")
    assert scraped.keys() - set(NAME.findall(text)) == set()


@pytest.mark.parametrize("what", ["dashboard", "rules"])
def test_queries_choose_by_labels_that_exist(what, scraped):
    chosen = [each for query in queries(what) for each in CHOSEN.findall(query)]
    assert chosen
    for name, conditions in chosen:
        expected = {"code"} if name.endswith("_incidents") else scraped[name]
        assert set(re.findall(r"(\w+)=", conditions)) <= expected, (name, conditions)


def test_panels_do_not_overlap_and_have_ids_of_their_own():
    panels = json.loads(FILES["dashboard"].read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24


@pytest.mark.skipif(
    not (shutil.which("promtool") or ALL_REQUIRED), reason="promtool of Prometheus is not installed"
)
def test_alerts_fire_when_they_should_and_only_then():
    rules = Path(__file__).with_name("alerts.yml")
    done = subprocess.run(
        ["promtool", "test", "rules", rules], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
