// django-rq's pages call a jQuery plugin that Django's admin no longer has: Django's own actions.js
// does its work, so an empty one is enough. Their checkboxes have no names.
document.addEventListener("DOMContentLoaded", () => {
  if (!document.querySelector(".changelist-form-container #changelist-form")) {
    return;
  }
  if (window.django?.jQuery) {
    django.jQuery.fn.actions ??= function () {
      return this;
    };
  }
  document.getElementById("action-toggle")?.setAttribute("aria-label", "Select all jobs");
  document.querySelectorAll("input.action-select").forEach((box) => {
    box.setAttribute("aria-label", `Select job ${box.value}`);
  });
});
