"""Names the main part of the theme's pages, for those who hear them instead of seeing them."""

from django import template
from django.utils.safestring import mark_safe

register = template.Library()


@register.filter(is_safe=True)
def add_main(page: str, name: str) -> str:
    """Make the element of that id the main landmark, which a link can go to."""
    found, landmark = f'<div id="{name}"', f'<div id="{name}" role="main" tabindex="-1"'
    # Templates have escaped the page.
    return mark_safe(page.replace(found, landmark, 1))  # noqa: S308  # nosec B308 B703
