"""The admin of this installation, which opens with the dashboard; accounts have the theme."""

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from metrics_sync.admin.guarding import Guarded

# Not named admin/index.html: Django would find the theme's file of that name first.
admin.site.index_template = "metrics_sync/dashboard.html"
admin.site.unregister([User, Group])


@admin.register(User)
class UserAdmin(DjangoUserAdmin, Guarded):  # type: ignore[type-arg]  # not at run time
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    filter_horizontal = ()  # Django's two boxes are wider than the page, and misuse ARIA


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, Guarded):
    filter_horizontal = ()
