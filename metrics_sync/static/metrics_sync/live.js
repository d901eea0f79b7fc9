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
