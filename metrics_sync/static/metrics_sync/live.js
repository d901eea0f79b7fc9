// What is live is asked for by htmx every few seconds. It rests while nobody can see the page,
// and is asked for at once when somebody can again.
const LIVE = "[data-live]";

document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.target.matches(LIVE)) {
    event.preventDefault();
  }
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    document.querySelectorAll(LIVE).forEach((element) => htmx.trigger(element, "seen"));
  }
});

// The field that select2 searches with has no name of its own. It is made when the page has loaded.
window.addEventListener("load", () => {
  setTimeout(() => {
    document.querySelectorAll(".select2-search__field").forEach((field) => {
      field.setAttribute("aria-label", "Search");
    });
  });
});
