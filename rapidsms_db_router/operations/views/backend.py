"""One backend: what it does, and what operators decide about it while it runs."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rapidsms.models import Backend

from rapidsms_db_router import bulk_actions, personal
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.limits import operators
from rapidsms_db_router.limits.overrides import limits_of
from rapidsms_db_router.models import BackendState, BulkAction
from rapidsms_db_router.operations import audit, figures, waiting
from rapidsms_db_router.operations.views.base import OperatorsPage
from rapidsms_db_router.personal import VIEW
from rapidsms_db_router.publishing import doorbells

#: The permission to pause and resume a backend, and to change its limits.
PAUSE = "rapidsms_db_router.pause_backend"
#: The limits, as they are shown.
LIMITS = {
    "rate": gettext_lazy("Rate (SMS segments)"),
    "concurrency": gettext_lazy("Calls at once"),
    "max_retries": gettext_lazy("Tries after the first"),
}


class PauseForm(forms.Form):
    """Why a backend is paused, and until when."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"), required=False, max_length=operators.LONGEST_REASON
    )
    until = forms.DateTimeField(
        label=gettext_lazy("Until"),
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
    )


class LimitsForm(forms.Form):
    """What counts in place of a backend's options; empty: the option counts."""

    rate = forms.CharField(label=LIMITS["rate"], required=False)
    concurrency = forms.IntegerField(label=LIMITS["concurrency"], required=False)
    max_retries = forms.IntegerField(label=LIMITS["max_retries"], required=False)


class BackendView(OperatorsPage):
    """One backend."""

    template_name = "rapidsms_db_router/operations/backend.html"
    menu = "operations"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        found = [each for each in figures.backends() if each.backend.pk == kwargs["pk"]]
        if not found:
            raise Http404
        (each,) = found
        state = operators.state_of(each.backend)
        overrides = operators.overrides(state)
        return super().get_context_data(
            **{
                "each": each,
                "groups": waiting.groups(each.backend),
                "pause_form": PauseForm(),
                "limits_form": LimitsForm(initial=overrides),
                "overrides": overrides,
                "limits": _limits(each.backend, state),
                "may_pause": self.request.user.has_perm(PAUSE),
                "moment": now(),
                "history": audit.of({"backend": [each.backend.pk]}),
                "may_see": personal.may_see(self.request.user),
                **kwargs,
            }
        )

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Pause it, or change its limits; within a second."""
        if not request.user.has_perm(PAUSE):
            return self.handle_no_permission()
        backend, asked = backend_of(pk), request.POST.get("do")
        by = request.user.get_username()
        if asked == "pause":
            return self._pause(request, backend)
        if asked == "limits":
            return self._limit(request, backend)
        if asked == "reset":
            operators.set_limits(backend, by=by, **dict.fromkeys(operators.LIMITS))
            messages.success(request, _("The settings count again."))
            return redirect(request.path)
        return HttpResponse(_("This action is not known."), status=400)

    def _pause(self, request: HttpRequest, backend: Backend) -> HttpResponse:
        form = PauseForm(request.POST)
        if form.is_valid():
            given, by = form.cleaned_data, request.user.get_username()
            if given["until"] is None or given["until"] > now():
                operators.pause(backend, by=by, reason=given["reason"], until=given["until"])
                messages.success(request, _("Paused: nothing more is sent to it."))
                return redirect(request.path)
            form.add_error("until", _("This date has passed."))
        return self.render_to_response(self.get_context_data(pk=backend.pk, pause_form=form))

    def _limit(self, request: HttpRequest, backend: Backend) -> HttpResponse:
        form = LimitsForm(request.POST)
        if form.is_valid():
            given = form.cleaned_data | {"rate": form.cleaned_data["rate"].strip() or None}
            try:
                operators.set_limits(backend, by=request.user.get_username(), **given)
            except ValueError as err:
                form.add_error(None, str(err))
            else:
                messages.success(request, _("The limits are changed."))
                return redirect(request.path)
        return self.render_to_response(self.get_context_data(pk=backend.pk, limits_form=form))


class ResumeView(OperatorsPage):
    """What waits for a backend, before it is called again."""

    permission_required = (VIEW, PAUSE)
    template_name = "rapidsms_db_router/operations/resume.html"
    menu = "operations"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        backend = backend_of(kwargs["pk"])
        groups = waiting.groups(backend)
        may_discard = bulk_actions.permission_for(BulkAction.Kind.DISCARD)
        return super().get_context_data(
            backend=backend,
            state=operators.describe(backend),
            held=next((each for each in groups if each.why == "held"), None),
            others=[each for each in groups if each.why != "held"],
            may_discard=self.request.user.has_perm(may_discard),
            **kwargs,
        )

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Have it called again, and workers told."""
        backend = backend_of(pk)
        operators.resume(backend, by=request.user.get_username())
        doorbells.publish_outbound(backend, message_id=0)
        messages.success(request, _("It is called again."))
        return redirect("router-backend", pk)


def backend_of(pk: int) -> Backend:
    """Return a backend with its state, or answer 404."""
    rows = Backend.objects.using(alias()).select_related("router_state")
    found: Backend = get_object_or_404(rows, pk=pk)
    return found


def _limits(backend: Backend, state: BackendState | None) -> list[dict[str, Any]]:
    """Return of each limit its name in words, what counts, and what the settings say."""
    counts, options = limits_of(state, backend.name), limits_of(None, backend.name)
    set_here = operators.overrides(state)
    return [
        {
            "words": words,
            "counts": getattr(counts, name),
            "option": getattr(options, name),
            "is_set": name in set_here,
            "is_rate": name == "rate",
        }
        for name, words in LIMITS.items()
    ]
