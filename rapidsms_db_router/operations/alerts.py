"""Telling people of an incident that lasts: at each turn of recovery, once for each incident."""

from __future__ import annotations

import datetime
import logging
from typing import Any

from django.core.mail import mail_managers

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.operations import conf, figures
from rapidsms_db_router.operations.incidents import Incident, incidents
from rapidsms_db_router.operations.models import Alert
from rapidsms_db_router.operations.signals import incident_began, incident_ended
from rapidsms_db_router.signals import tell

logger = logging.getLogger(__name__)


def at_recovery(**_: Any) -> None:
    """Follow the incidents; a receiver of the signal ``recovery_turn``."""
    follow()


def follow() -> None:
    """Note which incidents have begun and ended, and tell of them."""
    current = {(each.code, each.backend): each for each in incidents(figures.backends())}
    known = {(alert.code, alert.backend): alert for alert in Alert.objects.all()}
    for key in current.keys() - known.keys():
        known[key] = _begin(current[key])
    for key, alert in known.items():
        if key not in current:
            _end(alert)
        elif alert.told_at is None and _has_lasted(alert):
            _tell(alert)


def _begin(incident: Incident) -> Alert:
    key = {"code": incident.code, "backend": incident.backend}
    defaults = {"sentence": incident.sentence, "since": now()}
    # two workers may have the turn, if the first took longer than an interval
    alert, created = Alert.objects.get_or_create(**key, defaults=defaults)
    if created:
        logger.warning("incident_began code=%s backend=%s", incident.code, incident.backend)
        tell(incident_began, sender=Alert, **key, sentence=incident.sentence)
    return alert


def _end(alert: Alert) -> None:
    deleted, _ = Alert.objects.filter(pk=alert.pk).delete()
    if not deleted:
        return
    logger.info("incident_ended code=%s backend=%s", alert.code, alert.backend)
    tell(incident_ended, sender=Alert, code=alert.code, backend=alert.backend)
    if alert.told_at is not None:
        _mail(f"{_subject(alert)}: over", f"Over at {now()}: {alert.sentence}")


def _has_lasted(alert: Alert) -> bool:
    seconds = conf.alert_after()
    return seconds is not None and now() - alert.since >= datetime.timedelta(seconds=seconds)


def _tell(alert: Alert) -> None:
    untold = Alert.objects.filter(pk=alert.pk, told_at=None)
    if untold.update(told_at=now()):
        _mail(_subject(alert), f"Since {alert.since}: {alert.sentence}")


def _mail(subject: str, text: str) -> None:
    try:
        mail_managers(subject, text)
    except OSError as err:  # smtplib's errors, too: a mail server that is away stops no worker
        logger.warning("alert_not_mailed error=%s", type(err).__name__)


def _subject(alert: Alert) -> str:
    return f"{alert.backend or 'workers'}: {alert.code.replace('_', ' ')}"
