"""Two groups are made by a command, once."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import CommandError, call_command
from django.urls import reverse

pytestmark = pytest.mark.django_db


def test_the_groups_have_what_they_need_and_running_it_again_changes_nothing(capsys):
    call_command("create_operator_groups")
    assert capsys.readouterr().out == (
        "viewers: 5 permissions added\noperators: 14 permissions added\n"
    )
    own = Permission.objects.get(codename="add_contact")
    Group.objects.get(name="viewers").permissions.add(own)
    call_command("create_operator_groups")
    assert capsys.readouterr().out == (
        "viewers: 0 permissions added\noperators: 0 permissions added\n"
    )
    assert Group.objects.get(name="viewers").permissions.count() == 6


def test_operators_have_every_permission_that_means_something():
    call_command("create_operator_groups")
    apps = "rapidsms_db_router", "rapidsms_db_router_operations"
    ours = Permission.objects.filter(content_type__app_label__in=apps)
    assert set(Group.objects.get(name="operators").permissions.all()) == set(ours)


def test_viewers_see_the_pages_and_do_nothing(client, person):
    call_command("create_operator_groups")
    user = User.objects.create_user("amina")
    user.groups.add(Group.objects.get(name="viewers"))
    client.force_login(user)
    page = reverse("router-backend", args=[person.backend_id])
    assert client.get(page).status_code == 200
    assert client.post(page, {"do": "pause"}).status_code == 403


def test_a_permission_that_is_not_there_is_named():
    Permission.objects.filter(codename="pause_backend").delete()
    with pytest.raises(CommandError, match="'pause_backend': run manage"):
        call_command("create_operator_groups")
    assert not Group.objects.exists()
